package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// sharing is what the engine has in common with this machine, and what its
// storage can do; found by trying.
type sharing struct {
	files       bool   // the engine mounts this machine's files, /usr among them
	filesReason string // why not
	diskLimit   bool   // a container's writable layer can be limited
	diskReason  string
	layers      bool   // writable layers are overlays that hold what the sandbox sees, with its own owners
	cgroupns    bool   // containers can have control group namespaces
	checkpoints bool   // the engine offers to checkpoint containers
	dataRoot    string // the engine's own directory, on its machine
}

// sharedWith finds out once per engine.
func (d *Driver) sharedWith(ctx context.Context) (sharing, error) {
	conn, err := d.engine.connect(ctx, false)
	if err != nil {
		return sharing{}, err
	}
	conn.mu.Lock()
	defer conn.mu.Unlock() // every call below is bounded
	if conn.shared != nil {
		return *conn.shared, nil
	}
	var s sharing
	if s.files, s.filesReason, err = d.trySharedFiles(ctx); err != nil {
		return s, err
	}
	if s.diskLimit, s.diskReason, err = d.tryDiskLimit(ctx); err != nil {
		return s, err
	}
	if s.cgroupns, err = d.tryCgroupNamespace(ctx); err != nil {
		return s, err
	}
	if err = s.readInfo(ctx, conn); err != nil {
		return s, err
	}
	conn.shared = &s
	return s, nil
}

// readInfo notes what the engine tells of itself.
func (s *sharing) readInfo(ctx context.Context, conn *connection) error {
	return conn.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.Info(ctx, client.InfoOptions{})
		if err != nil {
			return err
		}
		info := res.Info
		// Without the native diff a layer may hold references to those below.
		native := slices.Contains(info.DriverStatus, [2]string{"Native Overlay Diff", "true"})
		s.layers = s.files && info.Driver == "overlay2" && native && !hasSecurity(info, "userns") && !hasSecurity(info, "rootless")
		s.checkpoints, s.dataRoot = info.ExperimentalBuild, info.DockerRootDir
		return nil
	})
}

// trySharedFiles has the engine look at a directory that was made just now and
// at /usr, through a container that is never started. Both must be this
// machine's: Docker Desktop shows the user's files and a /usr of its own.
func (d *Driver) trySharedFiles(ctx context.Context) (ok bool, reason string, err error) {
	if d.opts.ForceRemote {
		return false, "the configuration says that the engine is not on this machine", nil
	}
	if !hostImagePossible {
		return false, "containers run in a virtual machine here, with a /usr of its own", nil
	}
	marker := filepath.Join(d.opts.Dir, "marker-"+randomHex(8))
	if err := os.Mkdir(marker, 0o755); err != nil {
		return false, "", &faas.Error{Kind: faas.KindInternal, Op: "try shared files", Detail: marker, Err: err}
	}
	defer func() { err = errors.Join(err, os.Remove(marker)) }()
	binds := []mount.Mount{
		{Type: mount.TypeBind, Source: marker, Target: "/marker", ReadOnly: true},
		{Type: mount.TypeBind, Source: "/usr", Target: "/usr", ReadOnly: true},
	}
	const elsewhere = "the engine does not see this machine's files: it runs in a virtual machine, a container or on another machine"
	err = d.withContainer(ctx, &container.HostConfig{Mounts: binds}, func(id string) error {
		for there, here := range map[string]string{"/marker": marker, "/usr/bin": "/usr/bin", "/usr/lib": "/usr/lib"} {
			same, err := d.sameFile(ctx, id, there, here)
			if err != nil || !same {
				return errors.Join(err, errNotShared)
			}
		}
		return nil
	})
	switch {
	case err == nil:
		return true, "", nil
	case errors.Is(err, errNotShared), errors.Is(err, faas.ErrInvalidArgument), errors.Is(err, faas.ErrNotFound):
		return false, elsewhere, nil
	}
	return false, "", err
}

// errNotShared ends the comparison of files.
var errNotShared = errors.New("the engine sees other files")

// sameFile compares a path of a container with one of this machine by what the
// API tells of it.
func (d *Driver) sameFile(ctx context.Context, id, there, here string) (bool, error) {
	info, err := os.Stat(here)
	if err != nil {
		return false, nil //nolint:nilerr // not here, so not the same
	}
	var res client.ContainerStatPathResult
	err = d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: there})
		return err
	})
	if err != nil {
		return false, err
	}
	// The API tells seconds on some versions and nanoseconds on others.
	return res.Stat.Mtime.Truncate(time.Second).Equal(info.ModTime().Truncate(time.Second)) && res.Stat.Mode.IsDir() == info.IsDir(), nil
}

// tryDiskLimit makes a container with a limited layer and removes it.
func (d *Driver) tryDiskLimit(ctx context.Context) (ok bool, reason string, err error) {
	err = d.withContainer(ctx, &container.HostConfig{StorageOpt: map[string]string{"size": "64m"}}, func(string) error { return nil })
	if err == nil {
		return true, "", nil
	}
	var e *faas.Error
	if errors.As(err, &e) && e.Kind != faas.KindUnavailable && e.Kind != faas.KindResourceExhausted {
		return false, "the engine's storage driver cannot limit a container's layer: " + e.Detail, nil
	}
	return false, "", err
}

// tryCgroupNamespace makes a container with a control group namespace and
// removes it.
func (d *Driver) tryCgroupNamespace(ctx context.Context) (bool, error) {
	err := d.withContainer(ctx, &container.HostConfig{CgroupnsMode: container.CgroupnsModePrivate}, func(string) error { return nil })
	var e *faas.Error
	if errors.As(err, &e) && e.Kind != faas.KindUnavailable && e.Kind != faas.KindResourceExhausted {
		return false, nil // the kernel or the engine has none
	}
	return err == nil, err
}
