package docker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/image/pack"
	"github.com/faas-platform/faas/snapshot"
)

// opaqueMarks say that a directory hides what lies below it.
var opaqueMarks = [...]string{"trusted.overlay.opaque", "user.overlay.opaque"}

// canWriteLayers says whether this process can write files with the owners
// that they have inside.
func canWriteLayers() bool { return os.Geteuid() == 0 }

// copyUpper copies a container's writable layer, and the volumes of its own as
// directories that hide what the image has there.
func copyUpper(ctx context.Context, upper string, volumes []container.MountPoint, to string) error {
	if err := snapshot.CopyLayer(ctx, upper, to); err != nil {
		return layerError("copy the writable layer", err)
	}
	for _, v := range volumes {
		if err := copyVolume(ctx, v, to); err != nil {
			return layerError("copy the volume "+v.Destination, err)
		}
	}
	return dropMountPoints(to)
}

func copyVolume(ctx context.Context, v container.MountPoint, to string) error {
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	path := strings.TrimPrefix(filepath.Clean(v.Destination), "/")
	if err := root.MkdirAll(path, 0o755); err != nil {
		return err
	}
	dir, err := root.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	here := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/."
	if err := snapshot.CopyLayer(ctx, v.Source, here); err != nil {
		return err
	}
	return unix.Setxattr(here, opaqueMarks[0], []byte("y"), 0)
}

// dropMountPoints takes out the empty directories that the engine made to
// mount what is the driver's own.
func dropMountPoints(layer string) error {
	root, err := os.OpenRoot(layer)
	if err != nil {
		return layerError("open the layer", err)
	}
	defer root.Close()
	for _, dir := range []string{agentDir, runDir} {
		_ = root.Remove(strings.TrimPrefix(dir, "/")) // stays when it is not there, or something else
	}
	return nil
}

// unpackLayer writes a layer's tar into the empty directory dir.
func unpackLayer(ctx context.Context, dir string, r io.Reader) error {
	if err := os.Remove(dir); err != nil { // to be made again
		return layerError("write the layer", err)
	}
	if err := image.UnpackLayer(ctx, dir, r, 0); err != nil {
		return err
	}
	return dropMountPoints(dir)
}

// packLayer writes a layer as a tar in the form of images.
func packLayer(ctx context.Context, layer string, w io.Writer) error {
	if err := pack.Layer(ctx, layer, w, pack.Options{}); err != nil {
		return layerError("pack the layer "+layer, err)
	}
	return nil
}

func layerError(op string, err error) error {
	var known *faas.Error
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &faas.Error{Kind: faas.KindResourceExhausted, Op: op, Detail: "the disk is full",
			Remedy: "remove snapshots or give the data directory more room", Err: err}
	}
	return &faas.Error{Kind: faas.KindInternal, Op: op, Err: err}
}

// fingerprint tells layers apart without reading their files: by what the file
// system tells of each entry, the time of its last change included, which
// nothing inside could have set. The same layer brought back from elsewhere
// has another one.
func fingerprint(ctx context.Context, layers []string) (string, error) {
	sum := sha256.New()
	for _, layer := range layers {
		err := filepath.WalkDir(layer, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || path == layer {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return &os.PathError{Op: "stat", Path: path, Err: err}
			}
			fmt.Fprintf(sum, "%q", path[len(layer):])
			return binary.Write(sum, binary.LittleEndian, []int64{
				int64(st.Dev), int64(st.Ino), int64(st.Mode), int64(st.Uid), int64(st.Gid), st.Size, int64(st.Rdev), //nolint:gosec,unconvert // bits
				st.Mtim.Nano(), st.Ctim.Nano(),
			})
		})
		if err != nil {
			return "", layerError("read the layer "+layer, err)
		}
		fmt.Fprint(sum, "\x00")
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}
