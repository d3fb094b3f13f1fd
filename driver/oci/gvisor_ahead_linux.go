package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// aheadSandbox is one in which gVisor's kernel waits for a memory.
type aheadSandbox struct {
	s    *gvisorSandbox
	from driver.State
}

var _ driver.AheadRestorer = (*GVisor)(nil)

// RestoreAhead starts gVisor's kernel for a sandbox, which takes longer than
// reading a small memory.
func (g *GVisor) RestoreAhead(ctx context.Context, from driver.State, spec faas.Spec) (func(context.Context) error, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if from.Kind != faas.SnapshotFull || !isNone(spec.Network) || g.opts.Platform != PlatformSystrap {
		return nil, &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "restore ahead",
			Detail: "gVisor starts ahead only to restore memory, without a network, on the platform systrap", Remedy: "restore when it is asked for"}
	}
	if err := g.CheckRestore(ctx, from); err != nil {
		return nil, err
	}
	data, err := readGVisorSaved(from)
	if err != nil {
		return nil, err
	}
	if err := data.fits(from, spec); err != nil {
		return nil, err
	}
	made, err := g.make(ctx, savedRecord(from, data, spec), func(s *gvisorSandbox) error {
		start, err := g.savedBeginning(from, data)
		if err != nil {
			return err
		}
		start.ahead = true
		if err := g.begun(ctx, s, &start); err != nil {
			return err
		}
		return g.keep(&aheadSandbox{s, from})
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return g.discard(ctx, made.ID()) }, nil
}

// keep holds on to what was made ahead.
func (g *GVisor) keep(a *aheadSandbox) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return gvisorClosed()
	}
	g.ahead[a.s.id] = a
	return nil
}

// take hands what was made ahead to its one user, who calls finish; nil: there
// is none.
func (g *GVisor) take(id string) *aheadSandbox {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.ahead[id]
	if a != nil {
		delete(g.ahead, id)
		g.busy[id] = true
	}
	return a
}

// discard removes what nobody has used.
func (g *GVisor) discard(ctx context.Context, id string) error {
	a := g.take(id)
	if a == nil {
		return nil
	}
	defer g.finish(id)
	return a.s.Destroy(ctx)
}

func (g *GVisor) discardAll() error {
	g.mu.Lock()
	var ids []string
	for id := range g.ahead {
		ids = append(ids, id)
	}
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	var errs []error
	for _, id := range ids {
		errs = append(errs, g.discard(ctx, id))
	}
	return errors.Join(errs...)
}

// fits says whether a restore can use it.
func (a *aheadSandbox) fits(from driver.State, spec faas.Spec) bool {
	return a.s.process.ID.Alive() && from.Memory == a.from.Memory && slices.Equal(from.Layers, a.from.Layers) && string(from.Data) == string(a.from.Data) &&
		a.s.spec().Image == spec.Image && isNone(spec.Network)
}

// fill restores a memory into the waiting kernel.
func (g *GVisor) fill(ctx context.Context, a *aheadSandbox, spec faas.Spec, data gvisorSaved, prepare func(context.Context, driver.Sandbox) error) error {
	s := a.s
	if err := s.update(func(r *record) { r.Spec = spec }); err != nil {
		return err
	}
	limits := gvisorLimits(spec.Resources)
	limits.CPUCores = 0 // see limitCPU
	if err := s.group.SetLimits(limits); err != nil {
		return err
	}
	if err := s.readMemory(ctx, a.from.Memory); err != nil {
		return fmt.Errorf("%w: runsc says: %s", err, complaint(g.work.Path(s.id)))
	}
	if err := g.running(ctx, s); err != nil {
		return err
	}
	return s.awaken(ctx, data, prepare)
}

// readMemory does what runsc restore does to a sandbox that was created.
func (s *gvisorSandbox) readMemory(ctx context.Context, dir string) error {
	if err := s.call(ctx, "containerManager.SetNetworkArgs", loopbackOnly(), nil); err != nil {
		return err
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close() //nolint:errcheck // nothing was written
		}
	}()
	for _, name := range checkpointFiles {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	// Pages that nobody has asked for may come later.
	return s.call(ctx, "containerManager.Restore", map[string]any{"HavePagesFile": true, "Background": true}, nil, files...)
}

// loopbackOnly configures a network stack as runsc does for --network none.
func loopbackOnly() any {
	type address struct {
		Address   net.IP
		PrefixLen int
	}
	type route struct{ Destination net.IPNet }
	type link struct {
		Name      string
		Addresses []address
		Routes    []route
	}
	four, six := net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback
	return struct {
		LoopbackLinks []link
		IsRestore     bool
	}{IsRestore: true, LoopbackLinks: []link{{
		Name:      "lo",
		Addresses: []address{{four, 8}, {six, 128}},
		Routes: []route{
			{net.IPNet{IP: four.Mask(net.CIDRMask(8, 32)), Mask: net.CIDRMask(8, 32)}},
			{net.IPNet{IP: six, Mask: net.CIDRMask(128, 128)}},
		},
	}}}
}
