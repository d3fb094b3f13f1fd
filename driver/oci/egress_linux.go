package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/network"
)

// egress is how a driver connects its sandboxes.
type egress struct {
	network *network.Network // nil: it cannot
	why     error            // of that
}

func (n *Native) egress() egress { return egress{n.opts.Network, n.opts.NetworkError} }

func (g *GVisor) egress() egress { return egress{g.opts.Network, g.opts.NetworkError} }

// noEgress says why there is no network, with the reason of the error that
// network.New or its probe gave, and what to do about it.
func noEgress(err error) faas.Capability {
	c := faas.Capability{Feature: faas.FeatureNetworkEgress, Reason: "this driver was opened without networks",
		Remedy: "open it with Options.Network"}
	if err == nil {
		return c
	}
	c.Reason, c.Remedy = err.Error(), ""
	var known *faas.Error
	if errors.As(err, &known) {
		c.Reason, c.Remedy = known.Detail, known.Remedy
	}
	return c
}

// check refuses networks that cannot be had.
func (e egress) check(spec faas.Spec) error {
	if err := network.CheckPolicy(spec.Network); err != nil {
		return err
	}
	switch {
	case isNone(spec.Network):
		return nil
	case e.network == nil:
		c := noEgress(e.why)
		return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "create sandbox", Field: "network", Detail: c.Reason, Remedy: c.Remedy}
	case spec.ReadOnly:
		return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "create sandbox", Field: "read_only",
			Detail: "the name servers of a sandbox with a network are written into its root, and this one is read-only",
			Remedy: "leave read_only or the network out"}
	}
	return nil
}

// detach removes a sandbox's connection. It comes before the end of its
// processes, after which the kernel takes the interfaces by itself and their
// names may pass to others.
func (e egress) detach(ctx context.Context, r *record) error {
	if e.network == nil || r.Network == nil {
		return nil // what an earlier process connected is left to a sweep
	}
	return e.network.Detach(ctx, r.Network)
}

// sweep removes the connections of sandboxes that are gone.
func (e egress) sweep(ctx context.Context, work *sandboxes) error {
	if e.network == nil {
		return nil
	}
	_, err := e.network.Sweep(ctx, func(id string) bool {
		_, err := work.Load(id)
		return !errors.Is(err, os.ErrNotExist)
	})
	return err
}

// capability connects a throw-away namespace and sees what it reaches.
func (e egress) capability(ctx context.Context) faas.Capability {
	if e.network == nil {
		return noEgress(e.why)
	}
	if err := e.network.Probe(ctx); err != nil {
		return noEgress(err)
	}
	return faas.Capability{Feature: faas.FeatureNetworkEgress, Available: true,
		Detail: "a veth pair and packet rules for each sandbox: never to this host, other sandboxes, link-local or metadata addresses"}
}

func (e egress) close() error {
	if e.network == nil {
		return nil
	}
	return e.network.Close()
}

// resolvers is what the agent is told of a sandbox's network: everything but
// the name servers is there already.
func resolvers(at *network.Attachment) *guest.Network {
	if servers := at.NameServers(); len(servers) > 0 {
		return &guest.Network{DNS: servers}
	}
	return nil
}

// attachment is the sandbox's connection, nil when it has none.
func (s *sandbox) attachment() *network.Attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Network
}

func (s *gvisorSandbox) attachment() *network.Attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Network
}

// connect gives the network namespace of a process the network of the
// sandbox's policy. It is called before anything of the sandbox's own runs.
func (s *sandbox) connect(ctx context.Context, pid int) error {
	policy := s.spec().Network
	if isNone(policy) {
		return nil
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer ns.Close()
	at, err := s.driver.egress().network.Attach(ctx, s.id, int(ns.Fd()), policy)
	if err != nil {
		return err
	}
	return s.update(func(r *record) { r.Network = at })
}

// connect makes a network namespace with the network of the sandbox's policy,
// for gVisor's kernel to take over; nil when the policy is none. It lives as
// long as the file is open or something is in it.
func (s *gvisorSandbox) connect(ctx context.Context) (*os.File, error) {
	policy := s.spec().Network
	if isNone(policy) {
		return nil, nil
	}
	var ns *os.File
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		return nil, err
	}
	at, err := s.driver.egress().network.Attach(ctx, s.id, int(ns.Fd()), policy)
	if err == nil {
		err = s.update(func(r *record) { r.Network = at })
	}
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}
