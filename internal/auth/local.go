package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas"
)

// localName is the name of the key that a server makes for its own user.
const localName = "local"

// maxKeyFile bounds what is read of a key file.
const maxKeyFile = 4096

// EnsureLocal sees to it that the key in the user's key file opens this
// server: it makes the file with a new admin key when there is none, and takes
// in the key that it finds otherwise, so that several servers of one user
// share it. It returns whether the key is new to this server.
func EnsureLocal(ctx context.Context, store Store, path string) (made bool, err error) {
	plain, err := ReadKeyFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		plain = NewSecret()
		if plain, err = writeKeyFile(path, plain); err != nil {
			return false, err
		}
	case err != nil:
		return false, err
	}
	_, err = store.KeyByHash(ctx, HashOf(plain))
	if err == nil || faas.KindOf(err) != faas.KindNotFound {
		return false, err // known, with whatever role it has: that is the user's to decide
	}
	_, err = put(ctx, store, plain, Key{Name: localName, Project: faas.DefaultProject, Role: RoleAdmin})
	return err == nil, err
}

// ReadKeyFile returns the plain key in a file. The error of a file that is not
// there matches fs.ErrNotExist; one that others can read is refused.
func ReadKeyFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read key file: %w", err)
	}
	if exposed(st.Mode()) {
		return "", &faas.Error{
			Kind: faas.KindFailedPrecondition, Op: "read key file", Detail: path + " can be read by other users",
			Remedy: "chmod 600 " + path,
		}
	}
	if st.Size() > maxKeyFile || !st.Mode().IsRegular() {
		return "", faas.Errorf(faas.KindFailedPrecondition, "read key file: %s is not a key file", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read key file: %w", err)
	}
	plain := strings.TrimSpace(string(content))
	if !WellFormed(plain) {
		return "", &faas.Error{
			Kind: faas.KindFailedPrecondition, Op: "read key file", Detail: path + " does not hold an API key",
			Remedy: "remove the file and start the server again: it makes a new key",
		}
	}
	return plain, nil
}

// writeKeyFile makes the file with mode 0600, whole or not at all, and returns
// the key that is in it: another server's, when that was faster.
func writeKeyFile(path, plain string) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("write key file: %w", err) }
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fail(err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return fail(err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(plain + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fail(err)
	}
	// A link, unlike a rename, does not replace a file that came meanwhile.
	err = os.Link(tmp.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return ReadKeyFile(path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fail(err)
	}
	return plain, nil
}
