package oci

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
)

// Sweep removes the sandboxes of dead processes that keep rejects, in
// whatever state they were left, and returns their ids.
func (n *Native) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	var removed []string
	err := n.work.Exclusive(func() error {
		ids, err := n.work.IDs()
		errs := []error{err}
		for _, id := range ids {
			if keep != nil && keep(id) || !n.abandoned(id) {
				continue
			}
			if err := n.sweepOne(ctx, id); err != nil {
				errs = append(errs, fmt.Errorf("sandbox %s: %w", id, err))
				continue
			}
			removed = append(removed, id)
		}
		return errors.Join(append(errs, n.work.Tidy(), n.egress().sweep(ctx, n.work))...)
	})
	if err != nil {
		var known *faas.Error
		if !errors.As(err, &known) {
			err = &faas.Error{Kind: faas.KindInternal, Op: "sweep", Err: err}
		}
		return removed, err
	}
	return removed, ctx.Err()
}

// abandoned says that no living process cares for a sandbox: its owner is
// dead, or it is this process and could not finish a Create or Destroy.
func (n *Native) abandoned(id string) bool {
	r, err := n.work.Load(id)
	if err != nil {
		return true // a record is written before anything else and stays to the end
	}
	if r.Owner != n.work.Owner() {
		return !n.work.OwnerAlive(r.Owner)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, known := n.sandboxes[id]
	return !known && !n.busy[id]
}

func (n *Native) sweepOne(ctx context.Context, id string) error {
	r, err := n.work.Load(id)
	if err != nil {
		r = &record{ID: id}
	}
	return n.remove(ctx, r)
}

// remove ends every process of a sandbox and removes all that is left of it,
// its directory last.
func (n *Native) remove(ctx context.Context, r *record) error {
	if err := n.egress().detach(ctx, r); err != nil {
		return err
	}
	if err := n.end(ctx, r); err != nil {
		return err
	}
	if n.tree != nil {
		// Also ends processes that were never recorded, or that a launcher left.
		if group := n.tree.Group(r.ID); group.Exists() {
			if err := group.Remove(ctx); err != nil {
				return err
			}
		}
	}
	dir := n.work.Path(r.ID)
	if l, err := n.choice.named(r.Launcher); err == nil { // else its program is gone, and what it knew with it
		if err := l.remove(ctx, r.ID, dir); err != nil {
			return err
		}
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	if err := n.images.ReleaseOwner(ctx, r.ID); err != nil {
		return err
	}
	return n.work.Discard(r.ID)
}

// end kills process 1, and with it everything in its process namespace. The
// kernel reports its end when all of them are gone.
func (n *Native) end(ctx context.Context, r *record) error {
	process, err := pidfd.Open(r.Process)
	if errors.Is(err, pidfd.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer process.Close() //nolint:errcheck // nothing was written
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill process %d: %w", process.ID.PID, err)
	}
	if n.has(cgroup.Freezer) {
		// A frozen process dies when it is let go on.
		err := n.tree.Group(r.ID).Thaw()
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	if err := process.WaitUntil(ctx); err != nil {
		return fmt.Errorf("wait for process %d: %w", process.ID.PID, err)
	}
	return nil
}

// unmountBelow takes away the mounts that a launcher made below a directory,
// the innermost first.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if strings.HasPrefix(point, dir+string(filepath.Separator)) {
			points = append(points, point)
		}
	}
	errs := []error{lines.Err()}
	for _, point := range slices.Backward(points) {
		if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
