package oci

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/driver/workspace"
	"github.com/faas-platform/faas/image"
)

// GVisor is the driver of the gvisor runtime: every sandbox has a kernel of
// its own, a process of the runsc program, and the host's kernel sees no
// system call of what runs inside. It may be used concurrently.
//
// All processes of a sandbox (runsc's own and the stubs that execute its code)
// are in one control group from their first moment on, and all mounts are in a
// mount namespace that only they have: killing the group removes the sandbox
// but for its directory.
type GVisor struct {
	opts    GVisorOptions
	log     *slog.Logger
	images  *image.Store
	work    *sandboxes
	tree    *cgroup.Tree // nil: no control groups
	treeErr error        // why not
	agent   agentLayer
	spacer  string // layer that keeps gVisor from mounting over /tmp
	shift   int
	program string // runsc; empty: not installed

	prober

	mu        sync.Mutex
	closed    bool
	sandboxes map[string]*gvisorSandbox
	busy      map[string]bool // ids that a Create is at work on
	ahead     map[string]*aheadSandbox
	// What the program says its version is, and the file that said it.
	versionOf   programFile
	versionText string
	watchers    sync.WaitGroup
}

var _ driver.Driver = (*GVisor)(nil)

// longestID is the length of the ids that the platform gives to sandboxes.
const longestID = 36

// NewGVisor opens the driver on a directory, making it when missing. It starts
// nothing and changes nothing that sandboxes of earlier processes use. What
// this machine cannot do is told by Probe, not here.
func NewGVisor(opts GVisorOptions) (*GVisor, error) {
	g := &GVisor{opts: opts, log: opts.Logger, images: opts.Images, sandboxes: map[string]*gvisorSandbox{}, busy: map[string]bool{}, ahead: map[string]*aheadSandbox{}}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if opts.Images == nil || opts.Dir == "" {
		return nil, faas.Errorf(faas.KindInvalidArgument, "open gvisor driver: Dir and Images are needed")
	}
	switch opts.Platform {
	case "":
		g.opts.Platform = PlatformSystrap
	case PlatformSystrap, PlatformKVM:
	default:
		return nil, faas.InvalidField("platform", "%q is not systrap or kvm", opts.Platform)
	}
	var err error
	if g.opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, gvisorError(err)
	}
	// runsc puts its socket elsewhere when the path is too long.
	longest := filepath.Join(workspace.SandboxesDir(g.opts.Dir), strings.Repeat("x", longestID), controlSocket)
	if len(longest) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, faas.InvalidField("dir", "%s is too long: the paths of sockets below it must fit into %d bytes",
			g.opts.Dir, len(unix.RawSockaddrUnix{}.Path)-1)
	}
	if g.work, err = openWorkspace(g.opts.Dir); err != nil {
		return nil, gvisorError(err)
	}
	if err := g.prepare(); err != nil {
		return nil, gvisorError(errors.Join(err, g.work.Close()))
	}
	return g, nil
}

// prepare makes what all sandboxes share.
func (g *GVisor) prepare() error {
	var err error
	if g.shift, err = IDShift(); err != nil {
		return err
	}
	agents := filepath.Join(g.opts.Dir, agentsDir)
	if g.agent, err = installAgent(agents, g.shift); err != nil {
		return err
	}
	if g.spacer, err = installSpacer(agents, g.shift); err != nil {
		return err
	}
	if g.tree, g.treeErr = cgroup.Open(); g.treeErr != nil {
		g.tree = nil
	}
	name := g.opts.Program
	if name == "" {
		name = "runsc"
	}
	if g.program, err = exec.LookPath(name); err != nil {
		g.program = "" // the probe tells
	}
	return nil
}

func gvisorError(err error) error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	return &faas.Error{Kind: faas.KindInternal, Op: "open gvisor driver", Err: err}
}

// usable says why no sandbox can be made at all, or is nil.
func (g *GVisor) usable() *faas.Error {
	switch {
	case os.Geteuid() != 0:
		return faas.Unavailable(gvisorRootOnly, gvisorRootOnlyRemedy)
	case g.program == "":
		return faas.Unavailable(gvisorMissing, gvisorMissingRemedy)
	case g.tree == nil:
		return faas.Unavailable("control groups cannot be used: "+g.treeErr.Error(), delegation())
	}
	if closed := closedAbove(g.opts.Dir); closed != "" {
		return faas.Unavailable("gVisor's processes, which are nobody on this machine, cannot pass through "+closed,
			"chmod o+x "+closed+", or use another data directory")
	}
	return nil
}

// closedAbove returns the directory at or above dir through which others than
// its owner may not pass, empty when there is none.
func closedAbove(dir string) string {
	for {
		info, err := os.Stat(dir)
		if err == nil && info.Mode()&0o001 == 0 {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
		dir = filepath.Dir(dir)
	}
}

// Name is faas.RuntimeGVisor.
func (g *GVisor) Name() faas.Runtime { return faas.RuntimeGVisor }

// ResolveImage finds the image in the store, pulling it when it is missing.
func (g *GVisor) ResolveImage(ctx context.Context, ref string, progress driver.ImageProgress) (driver.Image, error) {
	img, err := g.images.Pull(ctx, ref, image.PullOptions{Progress: progress})
	if err != nil {
		return driver.Image{}, err
	}
	return driver.Image{Ref: ref, Digest: img.Digest, Config: driver.ImageConfig(img.Config), Labels: img.Labels}, nil
}

func (g *GVisor) has(c cgroup.Controller) bool {
	if g.tree == nil {
		return false
	}
	ok, _ := g.tree.Has(c)
	return ok
}

// Recover returns a sandbox that another process made, and takes it over: its
// agent's connections come to this process from then on.
func (g *GVisor) Recover(ctx context.Context, h driver.Handle) (driver.Sandbox, error) {
	if h.Runtime != faas.RuntimeGVisor {
		return nil, faas.Errorf(faas.KindInvalidArgument, "recover sandbox: handle is of runtime %q", h.Runtime)
	}
	if err := driver.CheckID(h.ID); err != nil {
		return nil, err
	}
	gone := &faas.Error{Kind: faas.KindNotFound, Op: "recover sandbox", Detail: "sandbox " + h.ID + " does not run any more"}
	r, err := g.work.Load(h.ID)
	if err != nil {
		gone.Err = err
		return nil, gone
	}
	g.mu.Lock()
	have := g.sandboxes[h.ID]
	g.mu.Unlock()
	if have != nil {
		return have, nil
	}
	process, err := pidfd.Open(r.Process)
	if err != nil || !r.Ready {
		gone.Err = err
		return nil, gone
	}
	r.Owner = g.work.Owner()
	if err := g.work.Save(r); err != nil {
		return nil, errors.Join(gvisorError(err), process.Close())
	}
	s := g.newSandbox(r)
	s.process = process
	if err := g.adopt(s); err != nil {
		return nil, errors.Join(err, process.Close())
	}
	if r.Still {
		if err := s.recoverStill(ctx); err != nil {
			return nil, gvisorError(err)
		}
	}
	return s, ctx.Err()
}

// begin marks an id as one that this process is at work on, which no sweep of
// its own may touch.
func (g *GVisor) begin(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, exists := g.sandboxes[id]
	switch {
	case g.closed:
		return gvisorClosed()
	case exists || g.busy[id] || g.ahead[id] != nil:
		return &faas.Error{Kind: faas.KindConflict, Op: "create sandbox", Field: "id", Detail: "there is a sandbox " + id + " already"}
	}
	g.busy[id] = true
	return nil
}

func (g *GVisor) finish(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, id)
}

func gvisorClosed() error {
	return &faas.Error{Kind: faas.KindUnavailable, Op: "create sandbox", Detail: "the gvisor driver is closed"}
}

// adopt makes a running sandbox known to the driver and watches it.
func (g *GVisor) adopt(s *gvisorSandbox) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return gvisorClosed()
	}
	g.sandboxes[s.id] = s
	g.watchers.Add(1)
	go func() {
		defer g.watchers.Done()
		s.watch()
	}()
	return nil
}

func (g *GVisor) forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sandboxes, id)
}

// Close stops watching; sandboxes live on and can be recovered. What was made
// ahead is removed.
func (g *GVisor) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	var known []*gvisorSandbox
	for _, s := range g.sandboxes {
		known = append(known, s)
	}
	g.mu.Unlock()
	errs := []error{g.discardAll()}
	for _, s := range known {
		s.channel.close()
		errs = append(errs, s.process.Close())
	}
	g.watchers.Wait()
	return errors.Join(append(errs, g.egress().close(), g.work.Close())...)
}
