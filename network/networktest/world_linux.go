package networktest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// World is a network namespace at the far end of a pair of interfaces, whose
// addresses are reserved for documentation and so meant by nobody.
type World struct {
	// Server takes TCP connections and closes them at once.
	Server netip.AddrPort
	// Neighbour is another address of the same server, in a network of its own.
	Neighbour netip.AddrPort

	ns       netns.NsHandle
	name     string // of the near interface
	near     *netlink.Handle
	listener net.Listener
	served   chan struct{}
}

// documentation is where worlds get their addresses from: a public network, as
// far as the rules of sandboxes go, of which no address is in use.
var documentation = netip.MustParsePrefix("198.51.100.0/24")

// NewWorld makes a world that the calling thread's network namespace reaches.
// The caller closes it.
func NewWorld() (*World, error) {
	w := &World{ns: netns.None(), served: make(chan struct{})}
	if err := w.make(); err != nil {
		close(w.served)
		return nil, errors.Join(fmt.Errorf("make a test network: %w", err), w.Close())
	}
	go w.serve()
	return w, nil
}

func (w *World) make() error {
	var err error
	if w.near, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if w.ns, err = newNamespace(); err != nil {
		return err
	}
	// A free place among the 32 that the network has: whoever adds a route
	// first owns it.
	for _, place := range rand.Perm(32) { //nolint:gosec // any order will do
		base := documentation.Addr().As4()
		base[3] = byte(place * 8)
		if err = w.connect(netip.AddrFrom4(base)); !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return err
}

// connect joins the two namespaces: the first half of a /29 for the pair of
// interfaces, the second for the neighbour.
func (w *World) connect(base netip.Addr) error {
	w.name = fmt.Sprintf("fst%x", base.As4()[3])
	attrs := netlink.NewLinkAttrs()
	attrs.Name = w.name
	if err := w.near.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far", PeerNamespace: netlink.NsFd(w.ns)}); err != nil {
		w.name = ""
		return err
	}
	near, far, neighbour := base.Next(), base.Next().Next(), addressAt(base, 5)
	link, err := up(w.near, w.name, netip.PrefixFrom(near, 30))
	if err != nil {
		return err
	}
	if err := w.near.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: far.AsSlice(),
		Dst: &net.IPNet{IP: neighbour.AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
		return err
	}
	// Every other interface of this machine stays as it is.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+w.name+"/forwarding", []byte("1"), 0); err != nil {
		return err
	}
	inside, err := netlink.NewHandleAt(w.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	if _, err := up(inside, "far", netip.PrefixFrom(far, 30)); err != nil {
		return err
	}
	if _, err := up(inside, "lo", netip.PrefixFrom(neighbour, 32)); err != nil {
		return err
	}
	return InNamespace(int(w.ns), func() error {
		w.listener, err = net.Listen("tcp4", "0.0.0.0:0")
		if err == nil {
			port := w.listener.Addr().(*net.TCPAddr).AddrPort().Port()
			w.Server, w.Neighbour = netip.AddrPortFrom(far, port), netip.AddrPortFrom(neighbour, port)
		}
		return err
	})
}

func addressAt(base netip.Addr, offset byte) netip.Addr {
	b := base.As4()
	b[3] += offset
	return netip.AddrFrom4(b)
}

func up(h *netlink.Handle, name string, address netip.Prefix) (netlink.Link, error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, err
	}
	ip := &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}
	return link, errors.Join(h.AddrAdd(link, &netlink.Addr{IPNet: ip}), h.LinkSetUp(link))
}

func (w *World) serve() {
	defer close(w.served)
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return
		}
		conn.Close() //nolint:errcheck // nothing was written
	}
}

// Close removes the world.
func (w *World) Close() error {
	var errs []error
	if w.listener != nil {
		errs = append(errs, w.listener.Close())
		<-w.served
	}
	if w.name != "" {
		if link, err := w.near.LinkByName(w.name); err == nil {
			errs = append(errs, w.near.LinkDel(link))
		}
	}
	if w.near != nil {
		w.near.Close()
	}
	if w.ns.IsOpen() {
		errs = append(errs, w.ns.Close())
	}
	return errors.Join(errs...)
}

// Machine is a network namespace that stands for a whole machine.
type Machine struct {
	World *World
	ns    netns.NsHandle
}

// NewMachine makes a namespace with a world that is its way out. The caller
// closes it.
func NewMachine() (*Machine, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	m := &Machine{ns: ns}
	err = m.Do(func() error {
		if m.World, err = NewWorld(); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(lo),
			netlink.RouteAdd(&netlink.Route{Gw: m.World.Server.Addr().AsSlice()}))
	})
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Do runs f on a thread in the machine's network namespace.
func (m *Machine) Do(f func() error) error { return InNamespace(int(m.ns), f) }

// Start starts a program in the machine's network namespace.
func (m *Machine) Start(cmd *exec.Cmd) error { return m.Do(cmd.Start) }

// Interfaces lists the names of the machine's interfaces.
func (m *Machine) Interfaces() ([]string, error) {
	h, err := netlink.NewHandleAt(m.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	links, err := h.LinkList()
	names := make([]string, 0, len(links))
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names, err
}

// Close removes the machine and its world.
func (m *Machine) Close() error {
	var err error
	if m.World != nil {
		err = m.World.Close()
	}
	return errors.Join(err, m.ns.Close())
}

// newNamespace makes a network namespace that lives as long as its handle.
func newNamespace() (netns.NsHandle, error) {
	ns := netns.None()
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		var err error
		ns, err = netns.Get()
		return err
	})
	return ns, err
}

// InNamespace runs f in the network namespace behind a descriptor.
func InNamespace(fd int, f func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter a network namespace: %w", err)
		}
		return f()
	})
}

// onOwnThread runs f on a thread that ends with it, whatever namespaces f
// leaves it in.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread's namespaces stand for the process's in /proc.
			// While it is held here, the next goroutine gets another.
			done <- onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}
