package docker

import (
	"context"
	"errors"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/network"
)

// Why only a local engine gives egress: a network of the engine's own cannot
// refuse the host's addresses and the metadata service, so the driver connects
// the container's network namespace itself, with package network's rules.
const (
	egressNeedsLocal = "an engine's own networks reach the host and the metadata service, so sandboxes are connected by this process, " +
		"which needs the engine on this machine and the right to look into its containers"
	egressRemedy = "run the gateway as root beside the engine, or use the native runtime"
)

// networks returns the connector of sandboxes to the world, made when it is
// first needed.
func (d *Driver) networks() (*network.Network, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.network == nil {
		opts := d.opts.Network
		opts.Installation, opts.Logger = "docker-"+d.installation, d.log
		n, err := network.New(opts)
		if err != nil {
			return nil, err
		}
		d.network = n
	}
	return d.network, nil
}

// connectNetwork gives the sandbox the network of its policy.
func (s *sandbox) connectNetwork(ctx context.Context) error {
	policy := s.rec.Spec.Network
	if policy.Mode != faas.NetworkEgress {
		return nil
	}
	s.mu.Lock()
	direct, p := s.direct, s.process
	s.mu.Unlock()
	if !direct {
		return faas.Unavailable(egressNeedsLocal, egressRemedy)
	}
	n, err := s.d.networks()
	if err != nil {
		return err
	}
	ns, err := p.networkNamespace()
	if err != nil {
		return &faas.Error{Kind: faas.KindUnavailable, Detail: "connect network", Err: err}
	}
	defer ns.Close()
	at, err := n.Attach(ctx, s.id, int(ns.Fd()), policy)
	if err != nil {
		return err
	}
	return s.update(func(rec *record) { rec.Network = at })
}

// resolvers tells the agent which name servers its sandbox can reach. Those
// that the engine wrote down are the host's.
func (s *sandbox) resolvers() *guest.Network {
	if servers := s.snapshotRecord().Network.NameServers(); len(servers) > 0 {
		return &guest.Network{DNS: servers}
	}
	return nil
}

// disconnectNetwork removes what is left of a sandbox's connection on this
// machine; the interfaces themselves went with the container.
func (d *Driver) disconnectNetwork(ctx context.Context, rec record) error {
	if rec.Network == nil {
		return nil
	}
	n, err := d.networks()
	if err != nil {
		return err
	}
	return n.Detach(ctx, rec.Network)
}

// sweepNetworks removes rules of sandboxes that no longer are. Where networks
// cannot be configured there are none.
func (d *Driver) sweepNetworks(ctx context.Context) error {
	n, err := d.networks()
	if err != nil {
		return nil //nolint:nilerr // nothing was ever connected from here
	}
	_, err = n.Sweep(ctx, func(id string) bool {
		_, readErr := d.readRecord(id)
		return !isNotExist(readErr)
	})
	return err
}

// closeNetworks releases the connector.
func (d *Driver) closeNetworks() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.network == nil {
		return nil
	}
	err := d.network.Close()
	d.network = nil
	return errors.Join(err)
}
