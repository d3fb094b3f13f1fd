//go:build unix

package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// setAttributes changes what is asked of a file, following a last symbolic
// link.
func (a *Agent) setAttributes(args wire.AttrArgs) (any, error) {
	path, err := a.path(args.Path)
	if err != nil {
		return nil, err
	}
	return nil, wrapFile(args.Path, changeAttributes(path, args))
}

func changeAttributes(path string, args wire.AttrArgs) error {
	if args.Size != nil {
		if err := os.Truncate(path, *args.Size); err != nil {
			return err
		}
	}
	if args.UID != nil || args.GID != nil {
		uid, gid := -1, -1
		if args.UID != nil {
			uid = *args.UID
		}
		if args.GID != nil {
			gid = *args.GID
		}
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	if args.Mode != nil { // after the owner: a change of that clears set-user-id
		if err := os.Chmod(path, *args.Mode&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
			return err
		}
	}
	if args.Access != nil || args.ModTime != nil {
		return os.Chtimes(path, orZero(args.Access), orZero(args.ModTime)) // a zero time changes nothing
	}
	return nil
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// symlink makes a symbolic link to args.To, which may be relative and need not
// exist.
func (a *Agent) symlink(path string, args wire.FileArgs) error {
	who, err := a.lookupUser(args.User)
	if err != nil {
		return err
	}
	if args.To == "" || len(args.To) > 4096 {
		return faas.InvalidField("to", "the target of a symbolic link has 1 to 4096 bytes")
	}
	if err := os.Symlink(args.To, path); err != nil {
		return fileError("path", args.Path, err)
	}
	if who.uid != os.Geteuid() || who.gid != os.Getgid() {
		return wrapFile(args.Path, os.Lchown(path, who.uid, who.gid))
	}
	return nil
}

// link gives the file at args.To another name.
func (a *Agent) link(path string, args wire.FileArgs) error {
	from, err := a.path(args.To)
	if err != nil {
		return err
	}
	return wrapFile(args.Path, os.Link(from, path))
}

// realPath resolves every symbolic link of a path.
func (a *Agent) realPath(path string, args wire.FileArgs) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fileError("path", args.Path, err)
	}
	if a.cfg.Root != "" {
		if inside, err := filepath.Rel(a.cfg.Root, real); err == nil {
			return filepath.Join("/", inside), nil
		}
	}
	return real, nil
}
