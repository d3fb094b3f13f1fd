package image

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/faas-platform/faas"
)

// hostPath is the search path in the host image. /usr/local is hidden.
const hostPath = "/usr/sbin:/usr/bin:/sbin:/bin"

// HostWorkingDir is the working directory of the host image: empty, and
// writable by every user of the sandbox.
const HostWorkingDir = "/workspace"

// hostState is the host image as this process last saw it.
type hostState struct {
	digest string
	path   string // of the skeleton's directory, relative to the store
	image  *HostImage
	built  time.Time
	size   int64
}

func hostConfig() Config {
	return Config{
		Env:        []string{"PATH=" + hostPath, "LANG=C.UTF-8"},
		WorkingDir: HostWorkingDir,
		Cmd:        []string{"/bin/sh"},
	}
}

// acquireHost leases the skeleton of the host image, building it first when
// this machine's /usr is not the one that it was built for.
func (s *Store) acquireHost(ctx context.Context, opts AcquireOptions) (*RootFS, error) {
	for range 3 {
		state, err := s.hostImage(ctx)
		if err != nil {
			return nil, err
		}
		rootFS, err := s.leaseHost(ctx, state, opts)
		if !errors.Is(err, os.ErrNotExist) {
			return rootFS, err
		}
	}
	return nil, faas.Errorf(faas.KindUnavailable, "the host image's skeleton is removed as often as it is built")
}

func (s *Store) leaseHost(ctx context.Context, state *hostState, opts AcquireOptions) (*RootFS, error) {
	lock, err := s.lockStore(ctx, true)
	if err != nil {
		return nil, err
	}
	defer lock.unlock()
	if _, err := os.Lstat(state.image.Skeleton); err != nil {
		return nil, err // a GC of another process took it: not leased yet
	}
	return s.lease(leaseRecord{
		Image: state.digest, Config: hostConfig(),
		Paths: []string{state.path}, Layers: []string{state.path + "/" + layerFS},
		HostFor: state.image,
	}, opts)
}

// hostInfo describes the host image for Get and List.
func (s *Store) hostInfo(ctx context.Context) (*Image, error) {
	state, err := s.hostImage(ctx)
	if err != nil {
		return nil, err
	}
	return &Image{
		Digest: state.digest, Names: []string{faas.HostImage}, Platform: "linux/" + runtime.GOARCH,
		Config: hostConfig(), SizeBytes: state.size, CreatedAt: state.built, AddedAt: state.built,
		Source: SourceHost, InUse: s.usage()[state.digest],
		Limitations: []string{"/usr is this machine's own: its size is not counted, and files of root belong to nobody in the sandbox"},
	}, nil
}
