package docker

import (
	"errors"
	"io"
	"os"
)

// isEOF says whether a connection ended where more was expected.
func isEOF(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isNotExist says whether a file is missing.
func isNotExist(err error) bool { return errors.Is(err, os.ErrNotExist) }
