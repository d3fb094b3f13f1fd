package microvm

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds a module's size in bytes, unpacked.
const maxModule = 64 << 20

// readModule reads a module's file, which distributions compress in several
// ways.
func readModule(path string) ([]byte, error) {
	packed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var in io.Reader
	switch filepath.Ext(path) {
	case ".ko":
		return packed, nil
	case ".gz":
		in, err = gzip.NewReader(bytes.NewReader(packed))
	case ".xz":
		in, err = xz.NewReader(bytes.NewReader(packed))
	case ".zst":
		d, failed := zstd.NewReader(bytes.NewReader(packed), zstd.WithDecoderConcurrency(1))
		if err = failed; err == nil {
			defer d.Close()
			in = d
		}
	default:
		return nil, fmt.Errorf("its compression is not known")
	}
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(in, maxModule+1))
	if err == nil && len(content) > maxModule {
		err = fmt.Errorf("it is larger than %d bytes", maxModule)
	}
	return content, err
}
