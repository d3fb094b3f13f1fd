package image

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// skeletonVersion is part of the host image's digest. Raise it with every
// change to what buildSkeleton makes.
const skeletonVersion = "1"

// hostFresh is how long this machine's /usr is taken to be as it was: the
// look at it costs more than all else of a lease.
const hostFresh = 250 * time.Millisecond

// hostMeta is a file beside a skeleton, written last before it appears.
const hostMeta = "host.json"

type hostRecord struct {
	Digest string     `json:"digest"`
	Bytes  int64      `json:"bytes"`
	Binds  []HostBind `json:"binds"` // Whiteouts relative to the skeleton's directory
}

// hostSources are the files and directories whose identity (type, size, time
// of change, link target) stands for the content of /usr: the databases that
// every package manager rewrites, and the directories that programs and
// libraries are put into. What the digest therefore does not notice is a file
// deeper in /usr overwritten in place by hand.
var hostSources = []string{
	"/usr/lib/os-release", "/etc/os-release",
	"/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/Packages",
	"/usr/lib/sysimage/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm/Packages.db",
	"/lib/apk/db/installed", "/var/lib/pacman/local", "/var/lib/xbps",
	"/etc/ld.so.cache",
	"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share",
	"/usr/lib/python3/dist-packages", "/usr/lib/node_modules", "/usr/share/zoneinfo",
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
}

// hostDigest identifies the host image cheaply: by metadata only. It also
// covers the architecture, this store's ownership, and all that the skeleton
// takes from /etc. The caller holds hostMu.
func (s *Store) hostDigest() string {
	h := sha256.New()
	fmt.Fprintf(h, "skeleton %s %s %s\n", skeletonVersion, runtime.GOARCH, s.own)
	for _, path := range slices.Concat(hostSources, s.etcPaths()) {
		writeIdentity(h, path)
	}
	for _, b := range hostBinds() {
		fmt.Fprintf(h, "bind %s %s %q\n", b.Source, b.Target, b.Hide)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}

// etcPaths is etcSources, found anew only when /etc itself has changed. The
// caller holds hostMu.
func (s *Store) etcPaths() []string {
	info, err := os.Stat("/etc")
	if err != nil {
		return nil
	}
	if s.etcFound == nil || !info.ModTime().Equal(s.etcStamp) {
		s.etcFound, s.etcStamp = etcSources(), info.ModTime()
	}
	return s.etcFound
}

func writeIdentity(w io.Writer, path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		target, _ = os.Readlink(path) // of a link that just went: as if it had no target
	}
	fmt.Fprintf(w, "%s %d %d %d %q\n", path, info.Mode(), info.Size(), info.ModTime().UnixNano(), target)
}

// hostImage returns the host image as it is now, building its skeleton when
// there is none for it.
func (s *Store) hostImage(ctx context.Context) (*hostState, error) {
	s.hostMu.Lock()
	defer s.hostMu.Unlock()
	if s.host != nil && time.Since(s.hostSeen) < hostFresh && s.host.exists() {
		return s.host, nil
	}
	digest := s.hostDigest()
	if s.host != nil && s.host.digest == digest && s.host.exists() {
		s.hostSeen = time.Now()
		return s.host, nil
	}
	path := s.hostPath(digest)
	lock, err := lockPath(ctx, s.path(locksDir, "host.lock"), false, nil)
	if err != nil {
		return nil, storeError("lock", "the host image", err)
	}
	defer lock.unlock()
	if _, err := os.Lstat(s.path(path)); errors.Is(err, fs.ErrNotExist) {
		if err := s.makeSkeleton(digest, path); err != nil {
			return nil, err
		}
	}
	state, err := s.loadSkeleton(path)
	if err != nil {
		return nil, storeError("read", "the host image", err)
	}
	s.host, s.hostSeen = state, time.Now()
	return state, nil
}

func (h *hostState) exists() bool {
	_, err := os.Lstat(h.image.Skeleton)
	return err == nil
}

func (s *Store) loadSkeleton(path string) (*hostState, error) {
	meta := s.path(path, hostMeta)
	data, err := os.ReadFile(meta)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(meta)
	if err != nil {
		return nil, err
	}
	var rec hostRecord
	if err := json.Unmarshal(data, &rec); err != nil {
		return nil, err
	}
	for i := range rec.Binds {
		if rec.Binds[i].Whiteouts != "" {
			rec.Binds[i].Whiteouts = s.path(path, rec.Binds[i].Whiteouts)
		}
	}
	return &hostState{
		digest: rec.Digest, path: path, built: info.ModTime().UTC(), size: rec.Bytes,
		image: &HostImage{Skeleton: s.path(path, layerFS), Empty: s.path(path, "empty"), Binds: rec.Binds},
	}, nil
}

// currentHost is the path of the skeleton for this machine as it is, there or
// not, relative to the store.
func (s *Store) currentHost() string {
	s.hostMu.Lock()
	defer s.hostMu.Unlock()
	return s.hostPath(s.hostDigest())
}

func (s *Store) hostPath(digest string) string {
	return hostDir + "/" + s.own.String() + "/" + strings.TrimPrefix(digest, "sha256:")
}

// makeSkeleton builds the skeleton aside and gives it its name.
func (s *Store) makeSkeleton(digest, path string) (err error) {
	if _, err := os.Stat("/usr/bin"); err != nil {
		return faas.Unavailable("this machine has no /usr/bin, so there is no host image", "use an OCI image")
	}
	work, err := s.newWorkspace()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, work.close()) }()
	root := filepath.Join(work.dir, "host")
	b := &skeleton{root: filepath.Join(root, layerFS), own: s.own}
	rec := hostRecord{Digest: digest, Binds: hostBinds()}
	b.build(rec.Binds)
	b.at(root).dir("", 0o755)
	b.at(root).dir("empty", 0o755)
	for i := range rec.Binds {
		rec.Binds[i].Whiteouts = b.hide(root, rec.Binds[i], fmt.Sprintf("hide%d", i))
	}
	rec.Bytes = b.bytes
	data, err := json.Marshal(rec)
	if err = errors.Join(b.err, err); err != nil {
		return storeError("build", "the host image", err)
	}
	if err := errors.Join(writeFile(filepath.Join(root, hostMeta), data, false), syncFS(root)); err != nil {
		return storeError("write", "the host image", err)
	}
	if err := os.Rename(root, s.path(path)); err != nil {
		return storeError("place", "the host image", err)
	}
	if err := syncDir(filepath.Dir(s.path(path))); err != nil {
		return storeError("place", "the host image", err)
	}
	return nil
}

// hostBinds lists what the host image shows of this machine: /usr, and beside
// it the directories that are not links into it (on machines without a merged
// /usr).
func hostBinds() []HostBind {
	binds := []HostBind{{Source: "/usr", Target: "/usr", Hide: hidden("/usr")}}
	for _, dir := range topLevelPrograms {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() {
			binds = append(binds, HostBind{Source: dir, Target: dir})
		}
	}
	return binds
}

// topLevelPrograms are links into /usr on merged machines.
var topLevelPrograms = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// hidden lists what must not be seen of usr: what the administrator put there
// by hand, and configuration files that can hold credentials.
func hidden(usr string) []string {
	var found []string
	for _, path := range []string{"local", "src", "etc/npmrc", "pip.conf"} {
		if _, err := os.Lstat(filepath.Join(usr, path)); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// hide makes the directory of whiteouts for a bind and returns its name, or
// nothing when there is nothing to hide or whiteouts are not permitted.
func (b *skeleton) hide(root string, bind HostBind, name string) string {
	if len(bind.Hide) == 0 || b.err != nil {
		return ""
	}
	d := b.at(root)
	d.dir(name, 0o755)
	for _, path := range bind.Hide {
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			d.dirAll(filepath.Join(name, dir), 0o755)
		}
		if d.err != nil {
			break
		}
		err := unix.Mknod(filepath.Join(root, name, path), unix.S_IFCHR, 0)
		if errors.Is(err, unix.EPERM) {
			b.err = errors.Join(b.err, os.RemoveAll(filepath.Join(root, name)))
			return ""
		}
		d.fail(err)
	}
	b.err = errors.Join(b.err, d.err)
	return name
}
