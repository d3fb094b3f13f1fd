package docker

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/faas-platform/faas"
)

// owner is this driver's life, visible to other processes: a file that is
// locked as long as it lives. The kernel releases the lock however the process
// ends, so that no number of a process has to be trusted.
type owner struct {
	token string
	dir   string
	file  *os.File
}

func newOwner(dir string) (*owner, error) {
	fail := func(err error) (*owner, error) {
		return nil, &faas.Error{Kind: faas.KindInternal, Op: "open directory of the docker driver", Detail: dir, Err: err}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	for range 8 {
		o, err := tryOwner(dir)
		if err != nil {
			return fail(err)
		}
		if o != nil {
			return o, nil
		}
	}
	return fail(errors.New("another process keeps removing the owner's file"))
}

// tryOwner makes and locks an owner's file. It returns nil when another
// process took the file, unlocked for a moment, for that of a dead owner.
func tryOwner(dir string) (*owner, error) {
	token := randomHex(8)
	path := filepath.Join(dir, token)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := lockFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	mine, statErr := f.Stat()
	there, pathErr := os.Stat(path)
	if !locked || statErr != nil || pathErr != nil || !os.SameFile(mine, there) {
		return nil, f.Close()
	}
	return &owner{token: token, dir: dir, file: f}, nil
}

// alive says whether the process of a token lives. A token that was never
// known here is dead.
func (o *owner) alive(token string) bool {
	if token == o.token {
		return true
	}
	if !validName(token) {
		return false
	}
	f, err := os.OpenFile(filepath.Join(o.dir, token), os.O_RDWR, 0)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer f.Close()
	locked, err := lockFile(f)
	return err != nil || !locked
}

// forgetDead removes the files of owners that live no more.
func (o *owner) forgetDead() {
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if validName(e.Name()) && len(e.Name()) == len(o.token) && !o.alive(e.Name()) {
			_ = os.Remove(filepath.Join(o.dir, e.Name()))
		}
	}
}

// close ends the owner's life. What it owned stays and may be recovered.
func (o *owner) close() error {
	err := o.file.Close()
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	if rmErr := os.Remove(filepath.Join(o.dir, o.token)); rmErr != nil && !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}
