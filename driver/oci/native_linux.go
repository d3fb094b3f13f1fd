package oci

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/criu"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/image"
)

// Native is the driver of the native runtime. It may be used concurrently.
type Native struct {
	opts    Options
	log     *slog.Logger
	images  *image.Store
	work    *sandboxes
	tree    *cgroup.Tree // nil: no control groups
	treeErr error        // why not
	agent   agentLayer
	devices string // root's /dev; empty: bind the machine's nodes one by one
	shift   int
	seccomp *specs.LinuxSeccomp
	filter  []byte
	choice  chooser
	spawner *spawner

	criuCache   featureCache
	criuMu      sync.Mutex
	criuFound   *criu.Tool // nil: not looked for yet
	criuVersion string

	mapping sync.Mutex
	ids     *idMap // nil: not tried yet

	prober

	mu        sync.Mutex
	closed    bool
	sandboxes map[string]*sandbox
	busy      map[string]bool // ids that a Create is at work on
	watchers  sync.WaitGroup
}

var (
	_ driver.Driver = (*Native)(nil)
	_ driver.Pooled = (*Native)(nil)
)

// NewNative opens the driver on a directory, making it when missing. It
// starts nothing and changes nothing that sandboxes of earlier processes use.
// What this machine cannot do is told by Probe, not here.
func NewNative(opts Options) (*Native, error) {
	n := &Native{opts: opts, log: opts.Logger, images: opts.Images, sandboxes: map[string]*sandbox{}, busy: map[string]bool{}}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if opts.Images == nil || opts.Dir == "" {
		return nil, faas.Errorf(faas.KindInvalidArgument, "open native driver: Dir and Images are needed")
	}
	var err error
	if n.opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, openError(err)
	}
	n.spawner = &spawner{}
	n.choice.builtin = builtin{n.spawner}
	n.choice.program = func(name string) (launcher, error) { return programLauncher(name, n.opts.Dir, n.tree) }
	if opts.Launcher != "" && opts.Launcher != LauncherAuto {
		if n.choice.fixed, err = n.choice.named(opts.Launcher); err != nil {
			return nil, err
		}
	}
	if n.shift, err = IDShift(); err != nil {
		return nil, openError(err)
	}
	if n.work, err = openWorkspace(n.opts.Dir); err != nil {
		return nil, openError(err)
	}
	if err := n.prepare(); err != nil {
		return nil, openError(errors.Join(err, n.work.Close()))
	}
	return n, nil
}

// prepare makes what all sandboxes share.
func (n *Native) prepare() error {
	var err error
	if n.agent, err = installAgent(filepath.Join(n.opts.Dir, agentsDir), n.shift); err != nil {
		return err
	}
	n.spawner.agent = n.agent.Agent
	if os.Geteuid() == 0 {
		if n.devices, err = installDevices(n.opts.Dir); err != nil {
			return err
		}
	}
	if n.tree, n.treeErr = cgroup.Open(); n.treeErr != nil {
		n.tree = nil
	}
	if c, ok := n.choice.fixed.(command); ok {
		c.tree = n.tree
		n.choice.fixed = c
	}
	if n.seccomp, err = defaultSeccomp(); err != nil {
		return err
	}
	n.filter, err = compileSeccomp(n.seccomp)
	return err
}

func openError(err error) error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	return &faas.Error{Kind: faas.KindInternal, Op: "open native driver", Err: err}
}

// Name is faas.RuntimeNative.
func (n *Native) Name() faas.Runtime { return faas.RuntimeNative }

// ResolveImage finds the image in the store, pulling it when it is missing.
func (n *Native) ResolveImage(ctx context.Context, ref string, progress driver.ImageProgress) (driver.Image, error) {
	img, err := n.images.Pull(ctx, ref, image.PullOptions{Progress: progress})
	if err != nil {
		return driver.Image{}, err
	}
	return driver.Image{Ref: ref, Digest: img.Digest, Config: driver.ImageConfig(img.Config), Labels: img.Labels}, nil
}

// idMapping returns the ids of sandboxes. The first call tries out what a
// plain user can have.
func (n *Native) idMapping(ctx context.Context) (idMap, error) {
	n.mapping.Lock()
	defer n.mapping.Unlock()
	if n.ids != nil {
		return *n.ids, nil
	}
	if os.Geteuid() == 0 {
		m := rootMap(n.shift)
		n.ids = &m
		return m, nil
	}
	m := userMap()
	if !m.single() {
		err := n.tryMap(ctx, m)
		if ctx.Err() != nil {
			return idMap{}, ctx.Err()
		}
		if err != nil {
			m = singleMap(err.Error())
		}
	}
	n.ids = &m
	return m, nil
}

// tryMap writes a map for a process that then ends.
func (n *Native) tryMap(ctx context.Context, m idMap) error {
	files := &inherited{}
	defer files.closeOwn()
	c, err := n.spawner.launch(&plan{
		ids: m, agent: n.agent,
		config: &specs.Spec{Linux: &specs.Linux{Namespaces: namespaces()}},
	}, files)
	if err != nil {
		return err
	}
	defer c.close()
	return errors.Join(writeMaps(ctx, c.pid, m), c.abandon())
}

// limitsPIDsByRlimit says that the number of processes is limited by
// RLIMIT_NPROC. It counts per user and user namespace, which for a plain
// user's sandbox with one id is the sandbox.
func (n *Native) limitsPIDsByRlimit() bool { return !n.has(cgroup.PIDs) && os.Geteuid() != 0 }

func (n *Native) has(c cgroup.Controller) bool {
	if n.tree == nil {
		return false
	}
	ok, _ := n.tree.Has(c)
	return ok
}

// Recover returns a sandbox that another process made, and takes it over: from
// then on its Sweep and not the other's decides on it.
func (n *Native) Recover(ctx context.Context, h driver.Handle) (driver.Sandbox, error) {
	if h.Runtime != faas.RuntimeNative {
		return nil, faas.Errorf(faas.KindInvalidArgument, "recover sandbox: handle is of runtime %q", h.Runtime)
	}
	if err := driver.CheckID(h.ID); err != nil {
		return nil, err
	}
	gone := &faas.Error{Kind: faas.KindNotFound, Op: "recover sandbox", Detail: "sandbox " + h.ID + " does not run any more"}
	r, err := n.work.Load(h.ID)
	if err != nil {
		gone.Err = err
		return nil, gone
	}
	n.mu.Lock()
	have := n.sandboxes[h.ID]
	n.mu.Unlock()
	if have != nil {
		return have, nil
	}
	process, err := pidfd.Open(r.Process)
	if err != nil || !r.Ready {
		gone.Err = err
		return nil, gone
	}
	r.Owner = n.work.Owner()
	if err := n.work.Save(r); err != nil {
		return nil, errors.Join(openError(err), process.Close())
	}
	s := n.newSandbox(r)
	s.process = process
	if err := n.adopt(s); err != nil {
		return nil, errors.Join(err, process.Close())
	}
	return s, ctx.Err()
}

// adopt makes a running sandbox known to the driver and watches it.
func (n *Native) adopt(s *sandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return closedError()
	}
	n.sandboxes[s.id] = s
	n.watchers.Add(1)
	go func() {
		defer n.watchers.Done()
		s.watch()
	}()
	return nil
}

func (n *Native) forget(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sandboxes, id)
}

// known returns the sandboxes of this process.
func (n *Native) known() []*sandbox {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]*sandbox, 0, len(n.sandboxes))
	for _, s := range n.sandboxes {
		out = append(out, s)
	}
	return out
}

// Close stops watching; sandboxes live on and can be recovered.
func (n *Native) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	n.mu.Unlock()
	var errs []error
	for _, s := range n.known() {
		errs = append(errs, s.process.Close())
	}
	n.watchers.Wait()
	n.spawner.close()
	errs = append(errs, n.egress().close())
	return errors.Join(append(errs, n.criuCache.close(), n.work.Close())...)
}
