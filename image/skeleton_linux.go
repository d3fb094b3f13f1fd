package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxEtcFile bounds a file that the skeleton copies from /etc, in bytes.
const maxEtcFile = 8 << 20

// skeleton builds a tree of directories, links and small files. Its first
// error stays, and later steps do nothing then.
type skeleton struct {
	root  string
	own   ownership
	bytes int64
	err   error
}

// at returns a builder of another root. Its error is its own.
func (b *skeleton) at(root string) *skeleton { return &skeleton{root: root, own: b.own} }

func (b *skeleton) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// give sets the owner inside the sandbox, then the mode, which a change of
// owner may have cleared.
func (b *skeleton) give(path string, uid, gid int, mode uint32) {
	if b.err != nil {
		return
	}
	if b.own.keep {
		b.fail(os.Lchown(path, b.own.uid+uid, b.own.gid+gid))
	}
	if b.err == nil {
		b.fail(unix.Chmod(path, mode))
	}
}

func (b *skeleton) dir(path string, mode uint32) { b.dirFor(path, 0, mode) }

func (b *skeleton) dirFor(path string, id int, mode uint32) {
	if b.err != nil {
		return
	}
	full := filepath.Join(b.root, path)
	if err := os.Mkdir(full, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		b.fail(err)
		return
	}
	b.give(full, id, id, mode)
}

// dirAll makes a directory and those above it that are missing.
func (b *skeleton) dirAll(path string, mode uint32) {
	if _, err := os.Lstat(filepath.Join(b.root, path)); err == nil || b.err != nil {
		return
	}
	if parent := filepath.Dir(path); parent != "." && parent != "/" {
		b.dirAll(parent, mode)
	}
	b.dir(path, mode)
}

func (b *skeleton) file(path, content string, mode uint32) {
	b.dirAll(filepath.Dir(path), 0o755)
	if b.err != nil {
		return
	}
	full := filepath.Join(b.root, path)
	if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
		b.fail(err)
		return
	}
	b.bytes += int64(len(content))
	b.give(full, 0, 0, mode)
}

func (b *skeleton) link(path, target string) {
	b.dirAll(filepath.Dir(path), 0o755)
	if b.err != nil {
		return
	}
	full := filepath.Join(b.root, path)
	if err := os.Symlink(target, full); err != nil && !errors.Is(err, fs.ErrExist) {
		b.fail(err)
		return
	}
	if b.own.keep {
		b.fail(os.Lchown(full, b.own.uid, b.own.gid))
	}
}

// copy takes a public file or link of this machine over to the same path.
// What is missing, not readable by everybody, not a regular file or too large
// is left out.
func (b *skeleton) copy(path string) {
	info, err := os.Lstat(path)
	if err != nil || b.err != nil {
		return
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		if err != nil {
			return
		}
		if staysInside(path, target) {
			b.link(path, target)
			return
		}
		if info, err = os.Stat(path); err != nil {
			return
		}
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o004 == 0 || info.Size() > maxEtcFile {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		b.fail(err)
		return
	}
	b.file(path, string(content), uint32(info.Mode().Perm()&0o755))
}

// staysInside says whether a link leads to what the host image shows anyway.
func staysInside(path, target string) bool {
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	for _, dir := range append([]string{"/usr", "/etc/alternatives"}, topLevelPrograms...) {
		if strings.HasPrefix(target, dir+"/") {
			return true
		}
	}
	return false
}

// build makes the whole skeleton.
func (b *skeleton) build(binds []HostBind) {
	b.fail(os.MkdirAll(b.root, 0o755))
	b.dir("", 0o755)
	for _, d := range []string{
		"/boot", "/dev", "/etc", "/home", "/media", "/mnt", "/opt", "/proc", "/run", "/srv", "/sys",
		"/usr", "/var", "/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/opt", "/var/spool",
	} {
		b.dir(d, 0o755)
	}
	b.dir("/root", 0o700)
	b.dirFor("/home/user", 1000, 0o755)
	for _, d := range []string{"/tmp", "/var/tmp", HostWorkingDir} {
		b.dir(d, 0o1777)
	}
	b.dir("/run/lock", 0o1777)
	b.link("/var/run", "/run")
	b.link("/var/lock", "/run/lock")
	for _, bind := range binds {
		b.dirAll(bind.Target, 0o755)
	}
	for _, path := range topLevelPrograms {
		if target, err := os.Readlink(path); err == nil {
			b.link(path, target)
		}
	}
	b.etc()
}
