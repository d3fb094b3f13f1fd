package microvm

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/image"
)

// QEMU is the driver of the qemu runtime. It may be used concurrently.
type QEMU struct {
	opts    Options
	log     *slog.Logger
	images  *image.Store
	work    *sandboxes
	tree    *cgroup.Tree // nil: no control groups
	treeErr error        // why not
	program string       // QEMU; empty: not installed

	prober

	makes sync.Mutex // of what machines share: initial file systems, layers, empty disks

	mu        sync.Mutex
	closed    bool
	sandboxes map[string]*sandbox
	busy      map[string]bool // ids that a Create is at work on
	watchers  sync.WaitGroup
}

var (
	_ driver.Driver   = (*QEMU)(nil)
	_ driver.Restorer = (*QEMU)(nil)
	_ driver.Layered  = (*QEMU)(nil)
)

// longestID is the length of the ids that the platform gives to sandboxes.
const longestID = 36

// NewQEMU opens the driver on a directory, making it when missing. It starts
// nothing and changes nothing that machines of earlier processes use. What this
// machine cannot do is told by Probe, not here.
func NewQEMU(opts Options) (*QEMU, error) {
	q := &QEMU{opts: opts, log: opts.Logger, images: opts.Images, sandboxes: map[string]*sandbox{}, busy: map[string]bool{}}
	if q.log == nil {
		q.log = slog.New(slog.DiscardHandler)
	}
	if opts.Images == nil || opts.Dir == "" {
		return nil, faas.Errorf(faas.KindInvalidArgument, "open qemu driver: Dir and Images are needed")
	}
	switch opts.Accel {
	case "":
		q.opts.Accel = AccelAuto
	case AccelAuto, AccelKVM, AccelTCG:
	default:
		return nil, faas.InvalidField("microvm.accel", "%q is not auto, kvm or tcg", opts.Accel)
	}
	var err error
	if q.opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, openError(err)
	}
	longest := filepath.Join(q.opts.Dir, "sandboxes", strings.Repeat("x", longestID), streamSock+"99")
	if len(longest) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, faas.InvalidField("dir", "%s is too long: the paths of sockets below it must fit into %d bytes",
			q.opts.Dir, len(unix.RawSockaddrUnix{}.Path)-1)
	}
	if q.work, err = openWorkspace(q.opts.Dir); err != nil {
		return nil, openError(err)
	}
	if q.tree, q.treeErr = cgroup.Open(); q.treeErr != nil {
		q.tree = nil
	}
	name := opts.Program
	if name == "" {
		name = qemuProgram()
	}
	if q.program, err = exec.LookPath(name); err != nil {
		q.program = "" // the probe tells
	}
	return q, nil
}

func openError(err error) error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	return &faas.Error{Kind: faas.KindInternal, Op: "open qemu driver", Err: err}
}

// Name is faas.RuntimeQEMU.
func (q *QEMU) Name() faas.Runtime { return faas.RuntimeQEMU }

// ResolveImage finds the image in the store, pulling it when it is missing.
func (q *QEMU) ResolveImage(ctx context.Context, ref string, progress driver.ImageProgress) (driver.Image, error) {
	if ref == faas.HostImage {
		return driver.Image{}, hostImageRefused()
	}
	img, err := q.images.Pull(ctx, ref, image.PullOptions{Progress: progress})
	if err != nil {
		return driver.Image{}, err
	}
	return driver.Image{Ref: ref, Digest: img.Digest, Config: driver.ImageConfig(img.Config), Labels: img.Labels}, nil
}

// ImageLayers returns the image's directories, topmost first.
func (q *QEMU) ImageLayers(ctx context.Context, ref string) ([]string, func(), error) {
	root, err := q.images.Acquire(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	return root.Layers, func() { root.Release() }, nil //nolint:errcheck // a lease of this process, which its end ends too
}

// Recover returns a sandbox that another process made.
func (q *QEMU) Recover(ctx context.Context, h driver.Handle) (driver.Sandbox, error) {
	if h.Runtime != faas.RuntimeQEMU {
		return nil, faas.Errorf(faas.KindInvalidArgument, "recover sandbox: handle is of runtime %q", h.Runtime)
	}
	if err := driver.CheckID(h.ID); err != nil {
		return nil, err
	}
	gone := &faas.Error{Kind: faas.KindNotFound, Op: "recover sandbox", Detail: "sandbox " + h.ID + " does not run any more"}
	r, err := q.work.Load(h.ID)
	if err != nil {
		gone.Err = err
		return nil, gone
	}
	q.mu.Lock()
	have := q.sandboxes[h.ID]
	q.mu.Unlock()
	if have != nil {
		return have, nil
	}
	process, err := pidfd.Open(r.Process)
	if err != nil || !r.Ready {
		gone.Err = err
		return nil, gone
	}
	r.Owner = q.work.Owner()
	if err := q.work.Save(r); err != nil {
		return nil, errors.Join(openError(err), process.Close())
	}
	s := q.newSandbox(r)
	s.process = process
	if err := q.adopt(s); err != nil {
		return nil, errors.Join(err, process.Close())
	}
	if r.Still {
		if err := s.goOn(ctx); err != nil {
			return nil, openError(err)
		}
	}
	return s, ctx.Err()
}

// begin marks an id as one that this process is at work on, which no sweep of
// its own may touch.
func (q *QEMU) begin(id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, exists := q.sandboxes[id]
	switch {
	case q.closed:
		return driverClosed()
	case exists || q.busy[id]:
		return &faas.Error{Kind: faas.KindConflict, Op: "create sandbox", Field: "id", Detail: "there is a sandbox " + id + " already"}
	}
	q.busy[id] = true
	return nil
}

func (q *QEMU) finish(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, id)
}

func driverClosed() error {
	return &faas.Error{Kind: faas.KindUnavailable, Op: "create sandbox", Detail: "the qemu driver is closed"}
}

// adopt makes a running sandbox known to the driver and watches it.
func (q *QEMU) adopt(s *sandbox) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return driverClosed()
	}
	q.sandboxes[s.id] = s
	q.watchers.Add(1)
	go func() {
		defer q.watchers.Done()
		s.watch()
	}()
	return nil
}

func (q *QEMU) forget(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.sandboxes, id)
}

// Close stops watching; sandboxes live on and can be recovered.
func (q *QEMU) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	var known []*sandbox
	for _, s := range q.sandboxes {
		known = append(known, s)
	}
	q.mu.Unlock()
	var errs []error
	for _, s := range known {
		errs = append(errs, s.process.Close())
	}
	q.watchers.Wait()
	return errors.Join(append(errs, q.work.Close())...)
}
