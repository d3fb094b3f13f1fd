package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/network"
)

// noEgress says why there is no network, with the reason of the error
// that network.New or its probe gave, and what to do about it.
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

// checkNetwork refuses networks that cannot be had.
func (n *Native) checkNetwork(spec faas.Spec) error {
	if err := network.CheckPolicy(spec.Network); err != nil {
		return err
	}
	switch {
	case isNone(spec.Network):
		return nil
	case n.opts.Network == nil:
		c := noEgress(n.opts.NetworkError)
		return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "create sandbox", Field: "network", Detail: c.Reason, Remedy: c.Remedy}
	case spec.ReadOnly:
		return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: "create sandbox", Field: "read_only",
			Detail: "the name servers of a sandbox with a network are written into its root, and this one is read-only",
			Remedy: "leave read_only or the network out"}
	}
	return nil
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
	at, err := s.driver.opts.Network.Attach(ctx, s.id, int(ns.Fd()), policy)
	if err != nil {
		return err
	}
	return s.update(func(r *record) { r.Network = at })
}

// resolvers is what the agent is told of the sandbox's network: everything but
// the name servers is there already.
func (s *sandbox) resolvers() *guest.Network {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record.Network == nil || len(s.record.Network.DNS) == 0 {
		return nil
	}
	out := &guest.Network{}
	for _, server := range s.record.Network.DNS {
		out.DNS = append(out.DNS, server.String())
	}
	return out
}

// disconnect removes a sandbox's connection. It comes before the end of its
// processes, after which the kernel takes the interfaces by itself and their
// names may pass to others.
func (n *Native) disconnect(ctx context.Context, r *record) error {
	if n.opts.Network == nil || r.Network == nil {
		return nil // what an earlier process connected is left to a sweep
	}
	return n.opts.Network.Detach(ctx, r.Network)
}

// sweepNetworks removes the connections of sandboxes that are gone.
func (n *Native) sweepNetworks(ctx context.Context) error {
	if n.opts.Network == nil {
		return nil
	}
	_, err := n.opts.Network.Sweep(ctx, func(id string) bool {
		_, err := n.work.load(id)
		return !errors.Is(err, os.ErrNotExist)
	})
	return err
}

// egressCapability connects a throw-away namespace and sees what it reaches.
func (n *Native) egressCapability(ctx context.Context) faas.Capability {
	if n.opts.Network == nil {
		return noEgress(n.opts.NetworkError)
	}
	if err := n.opts.Network.Probe(ctx); err != nil {
		return noEgress(err)
	}
	return faas.Capability{Feature: faas.FeatureNetworkEgress, Available: true,
		Detail: "a veth pair and packet rules for each sandbox: never to this host, other sandboxes, link-local or metadata addresses"}
}
