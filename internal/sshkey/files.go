package sshkey

import (
	"crypto"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
)

// maxPrivateFile bounds what is read of a private key's file.
const maxPrivateFile = 64 << 10

// readPrivate reads a private key's file; the error of one that is not there
// matches fs.ErrNotExist.
func readPrivate(path string) (ssh.Signer, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxPrivateFile || !st.Mode().IsRegular() {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "%s is not a private key", path)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "%s is not a private key that can be read: %w", path, err)
	}
	return signer, nil
}

// writePrivate makes a private key's file, whole or not at all, that only its
// owner can read.
func writePrivate(path string, key crypto.Signer, comment string) error {
	text, err := EncodePrivate(key, comment)
	if err != nil {
		return err
	}
	return writeFile(path, []byte(text))
}

func writeFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// ensurePrivate reads a private key's file, which it makes when missing.
func ensurePrivate(path, kind, comment string) (ssh.Signer, error) {
	signer, err := readPrivate(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	key, err := Generate(kind, 0)
	if err != nil {
		return nil, err
	}
	if err := writePrivate(path, key, comment); err != nil {
		return nil, err
	}
	return readPrivate(path)
}
