//go:build unix

package auth

import (
	"errors"
	"io/fs"
	"os"
)

// exposed says whether others than the owner can read or write the file.
func exposed(mode fs.FileMode) bool { return mode.Perm()&0o077 != 0 }

// syncDir makes a new name in the directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
