package conformance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func networkChecks() []Check {
	none := []faas.Feature{faas.FeatureNetworkNone}
	return []Check{
		{Name: "network/only-loopback", Features: none, UserFacing: true, Isolates: true, Run: checkOnlyLoopback},
		{Name: "network/reaches-nothing", Features: none, Program: true, Isolates: true, Run: checkReachesNothing},
		{Name: "network/siblings", Features: none, Program: true, Isolates: true, Run: checkSiblingPorts},
		{Name: "network/egress-reaches-what-is-allowed", Features: []faas.Feature{faas.FeatureNetworkEgress}, Program: true, Isolates: true, Run: checkEgressAllowed},
		{Name: "network/egress-spares-the-host", Features: []faas.Feature{faas.FeatureNetworkEgress}, Program: true, Isolates: true, Run: checkEgress},
	}
}

func checkOnlyLoopback(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, `grep : /proc/net/dev | sed 's/:.*//' | tr -d ' '`)
	if err != nil {
		return err
	}
	if names := strings.Fields(out.stdout); len(names) != 1 || names[0] != "lo" {
		return fmt.Errorf("the network interfaces are %q, want lo alone", names)
	}
	// lo works: programs that serve themselves need it.
	run, err := env.echoServer(ctx, b)
	if err != nil {
		if _, skip := IsSkip(err); skip {
			return nil
		}
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	return b.echo(ctx, "tcp", "127.0.0.1:8099", "through lo")
}

// hostListeners listens on every address of the host and on an abstract unix
// socket, and returns what to dial from inside.
func hostListeners() (targets []string, closeAll func(), err error) {
	var open []net.Listener
	closeAll = func() {
		for _, l := range open {
			l.Close() //nolint:errcheck // nothing was accepted
		}
	}
	add := func(network, address string) error {
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		open = append(open, l)
		targets = append(targets, network+" "+l.Addr().String())
		return nil
	}
	if err := add("unix", "@"+faas.NewID("conformance")); err != nil {
		closeAll()
		return nil, nil, err
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() {
			if err := add("tcp", net.JoinHostPort(ip.IP.String(), "0")); err != nil {
				closeAll()
				return nil, nil, err
			}
		}
	}
	return targets, closeAll, nil
}

// cannotDial has the intruder program try every target and wants all refused.
func (b *box) cannotDial(ctx context.Context, targets []string) error {
	out, err := b.run(ctx, guest.Command{Args: append([]string{intruder, "dial"}, targets...), Timeout: 30 * time.Second}, nil)
	if err != nil {
		return err
	}
	if out.Code != 0 || !strings.Contains(out.stdout, "done\n") || strings.Contains(out.stdout, "connected") {
		return fmt.Errorf("dialling %q from inside: %s%s", targets, out.stdout, out.stderr)
	}
	return nil
}

// metadata is where clouds keep what no sandbox may learn.
var metadata = []string{"tcp 169.254.169.254:80", "tcp [fd00:ec2::254]:80"}

func checkReachesNothing(ctx context.Context, env *Env) error {
	targets, closeAll, err := hostListeners()
	if err != nil {
		return err
	}
	defer closeAll()
	b, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	targets = append(targets, metadata...)
	return b.cannotDial(ctx, append(targets, "tcp 192.0.2.1:80", "udp 192.0.2.1:53"))
}

func checkSiblingPorts(ctx context.Context, env *Env) error {
	a, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := env.echoServer(ctx, a)
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	b, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	return b.cannotDial(ctx, []string{"tcp 127.0.0.1:8099"})
}

// checkEgressAllowed has connections out to what the policy names, and to
// every public address when it names none; the name servers are inside.
func checkEgressAllowed(ctx context.Context, env *Env) (err error) {
	if env.World == nil {
		return Skip("there is no test network to reach")
	}
	world, err := env.World()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	server, neighbour := world.Addresses()
	for _, policy := range []struct {
		allow []string
		want  map[netip.AddrPort]bool
	}{
		{nil, map[netip.AddrPort]bool{server: true, neighbour: true}},
		{[]string{server.Addr().String() + "/32"}, map[netip.AddrPort]bool{server: true, neighbour: false}},
		{[]string{"203.0.113.1/32"}, map[netip.AddrPort]bool{server: false, neighbour: false}},
	} {
		b, err := env.withProgram(ctx, func(s *faas.Spec) {
			s.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: policy.allow}
		})
		if err != nil {
			return err
		}
		for address, want := range policy.want {
			out, err := b.run(ctx, guest.Command{Args: []string{intruder, "dial", "tcp " + address.String()}}, nil)
			if err != nil {
				return err
			}
			if strings.Contains(out.stdout, ": connected\n") != want {
				return fmt.Errorf("with allow %q, dialling %v: %s; want connected: %v", policy.allow, address, out.stdout, want)
			}
		}
	}
	return nil
}

// checkEgress has connections out, but none to the host, to metadata, or to
// another sandbox.
func checkEgress(ctx context.Context, env *Env) error {
	targets, closeAll, err := hostListeners()
	if err != nil {
		return err
	}
	defer closeAll()
	egress := func(s *faas.Spec) { s.Network.Mode = faas.NetworkEgress }
	b, err := env.withProgram(ctx, egress)
	if err != nil {
		return err
	}
	other, err := env.withProgram(ctx, egress)
	if err != nil {
		return err
	}
	run, err := other.start(ctx, guest.Command{Args: []string{intruder, "echo", "tcp", "0.0.0.0:8099"}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	if err := run.await(ctx, "listening\n"); err != nil {
		return err
	}
	out, err := other.run(ctx, guest.Command{Args: []string{intruder, "addresses"}}, nil)
	if err != nil {
		return err
	}
	remote := 0
	for _, address := range strings.Fields(out.stdout) {
		if ip := net.ParseIP(address); ip != nil && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			targets = append(targets, "tcp "+net.JoinHostPort(address, "8099"))
			remote++
		}
	}
	if remote == 0 {
		return fmt.Errorf("a sandbox with egress has no address but loopback: %q", out.stdout)
	}
	// The sandbox's own loopback stands for the host's 127.0.0.1 here: nothing
	// listens on the host's ports inside.
	return b.cannotDial(ctx, append(targets, metadata...))
}
