package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// probeTimeout bounds one connection of the probe, on this machine alone.
const probeTimeout = time.Second

// probeWorlds is where probes have their own little internets: addresses
// reserved for documentation, so that nothing real is ever meant by them. Each
// probe takes a /30 of it, so that many can be under way at once.
var probeWorlds = netip.MustParsePrefix("203.0.113.0/24")

// Probe connects a throw-away network namespace, reaches a server in another
// one through it, and sees that the host's own address is refused. It leaves
// nothing behind. Its error is faas.ErrCapabilityUnavailable with the reason
// and a remedy.
func (n *Network) Probe(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	world, err := n.probeServer(ctx)
	if err != nil {
		return fmt.Errorf("probe network: %w", err)
	}
	defer func() { err = errors.Join(err, world.close()) }()
	sandbox, err := newNamespace()
	if err != nil {
		return faas.Unavailable("no network namespace can be made: "+err.Error(), "run the gateway as root on a kernel with CONFIG_NET_NS")
	}
	defer sandbox.Close()
	id := fmt.Sprintf("probe-%d-%d", os.Getpid(), time.Now().UnixNano())
	policy := faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{world.addr.Addr().String() + "/32"}}
	at, err := n.attach(ctx, id, int(sandbox), policy, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Detach(context.WithoutCancel(ctx), at)) }()
	if err := dialFrom(ctx, sandbox, world.addr); err != nil {
		return faas.Unavailable("packets of a sandbox do not get through this machine: "+err.Error(),
			"another firewall drops forwarded packets (Docker sets the FORWARD chain to DROP): accept interfaces "+hostPrefix+"+ there, for Docker with `iptables -I DOCKER-USER -i "+hostPrefix+"+ -j ACCEPT` and `iptables -I DOCKER-USER -o "+hostPrefix+"+ -j ACCEPT`")
	}
	if err := dialFrom(ctx, sandbox, netip.AddrPortFrom(at.Gateway, world.addr.Port())); err == nil {
		return faas.Unavailable("a sandbox reaches this machine's own address", "another firewall accepts packets before the platform's rules refuse them: remove that rule")
	}
	return nil
}

// world is a namespace with a listening server, reached over a pair of its own.
type world struct {
	ns       netns.NsHandle
	addr     netip.AddrPort
	listener net.Listener
	link     netlink.Link
	handle   *netlink.Handle
}

func (n *Network) probeServer(ctx context.Context) (*world, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	w := &world{ns: ns, handle: n.handle}
	if err := n.connectWorld(ctx, w); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (n *Network) connectWorld(ctx context.Context, w *world) error {
	link, near, err := n.claimWorld(w)
	if err != nil {
		return err
	}
	w.link = link
	far := near.Next()
	if err := up(n.handle, link, netip.PrefixFrom(near, 30)); err != nil {
		return err
	}
	if err := inNamespace(int(n.host), func() error {
		return enableSysctl(sysctl("net/ipv4/conf", link.Attrs().Name, "forwarding"))
	}); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(w.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	peer, err := h.LinkByName(inside)
	if err != nil {
		return err
	}
	if err := up(h, peer, netip.PrefixFrom(far, 30)); err != nil {
		return err
	}
	if err := errors.Join(awaitUp(ctx, h, peer), awaitUp(ctx, n.handle, link)); err != nil {
		return err
	}
	return inNamespace(int(w.ns), func() error {
		w.listener, err = net.Listen("tcp4", netip.AddrPortFrom(far, 0).String())
		if err == nil {
			w.addr = w.listener.Addr().(*net.TCPAddr).AddrPort()
		}
		return err
	})
}

// claimWorld makes the pair of interfaces and returns the near one and its
// address. As with sandboxes, the name that the kernel gives once is the claim.
func (n *Network) claimWorld(w *world) (netlink.Link, netip.Addr, error) {
	base := probeWorlds.Addr().As4()
	for _, place := range rand.Perm(256 / slotAddresses) { //nolint:gosec // any order will do
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("fsp%02x", place)
		err := n.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: inside, PeerNamespace: netlink.NsFd(w.ns)})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return nil, netip.Addr{}, fmt.Errorf("make veth pair: %w", err)
		}
		base[3] = byte(place * slotAddresses)
		link, err := n.handle.LinkByName(attrs.Name)
		return link, netip.AddrFrom4(base).Next(), err
	}
	return nil, netip.Addr{}, errors.New("too many probes are under way")
}

func (w *world) close() error {
	var errs []error
	if w.listener != nil {
		errs = append(errs, w.listener.Close())
	}
	if w.link != nil {
		errs = append(errs, w.handle.LinkDel(w.link))
	}
	return errors.Join(append(errs, w.ns.Close())...)
}

func up(h *netlink.Handle, link netlink.Link, addr netip.Prefix) error {
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("address %s: %w", link.Attrs().Name, err)
	}
	return h.LinkSetUp(link)
}

// newNamespace makes a network namespace that lives as long as its handle.
func newNamespace() (netns.NsHandle, error) {
	type result struct {
		ns  netns.NsHandle
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- result{netns.None(), err}
			return
		}
		ns, err := netns.Get()
		done <- result{ns, err}
	}()
	r := <-done
	return r.ns, r.err
}

// dialFrom connects over TCP from inside a namespace and closes again. The
// kernel opens the connection with the handshake: no server need accept it.
func dialFrom(ctx context.Context, ns netns.NsHandle, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return inNamespace(int(ns), func() error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", to.String())
		if err == nil {
			return conn.Close()
		}
		return errors.New(strings.TrimPrefix(err.Error(), "dial "))
	})
}
