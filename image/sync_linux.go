package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncFS writes out everything of the file system that dir is on: cheaper
// than one fsync per file of a tree.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
