package network

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

const (
	// hostPrefix starts the name of every host end; the slot follows in hex.
	hostPrefix = "fsv"
	// inside is the interface's name in the sandbox.
	inside = "eth0"
	// slotAddresses is how many addresses a slot takes: network, host end,
	// sandbox end, broadcast.
	slotAddresses = 4
)

// Network connects sandboxes to the network namespace that it was made in.
type Network struct {
	opts   Options
	host   netns.NsHandle
	handle *netlink.Handle
	slots  uint32
	set    *ruleset

	mu    sync.Mutex // guards ready and the rule set's transactions of this process
	ready bool
}

// New returns a network for the network namespace of the calling thread. It
// changes nothing on the machine before the first Attach. Its error is
// faas.ErrCapabilityUnavailable without the privilege to configure networks.
func New(opts Options) (*Network, error) {
	if !opts.Prefix.IsValid() {
		opts.Prefix = DefaultPrefix
	}
	if bits := opts.Prefix.Bits(); !opts.Prefix.Addr().Is4() || bits < 8 || bits > 28 {
		return nil, faas.InvalidField("network.prefix", "%s is not an IPv4 prefix between /8 and /28", opts.Prefix)
	}
	opts.Prefix = opts.Prefix.Masked()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if os.Geteuid() != 0 {
		return nil, faas.Unavailable(NeedsPrivilege, NeedsPrivilegeRemedy)
	}
	if len(opts.DNS) == 0 {
		opts.DNS = hostResolvers()
	}
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	handle, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	slots := uint32(1) << (32 - opts.Prefix.Bits()) / slotAddresses
	return &Network{opts: opts, host: ns, handle: handle, slots: min(slots, 1<<20), set: newRuleset()}, nil
}

// Close releases the handles. Attached sandboxes stay connected.
func (n *Network) Close() error {
	n.handle.Close()
	return n.host.Close()
}

// Attach connects the network namespace behind the file descriptor. The
// rules are in force before the interface is up.
func (n *Network) Attach(ctx context.Context, id string, sandbox int, policy faas.NetworkPolicy) (*Attachment, error) {
	return n.attach(ctx, id, sandbox, policy, true)
}

// attach is Attach that leaves this machine's own interfaces as they are
// unless uplinks is true.
func (n *Network) attach(ctx context.Context, id string, sandbox int, policy faas.NetworkPolicy, uplinks bool) (*Attachment, error) {
	if policy.Mode != faas.NetworkEgress {
		return nil, faas.InvalidField("network.mode", "%q needs no connection", policy.Mode)
	}
	allow, err := allowed(policy)
	if err != nil {
		return nil, err
	}
	if err := n.ensureRules(); err != nil {
		return nil, err
	}
	link, slot, err := n.claimSlot(ctx, id, sandbox)
	if err != nil {
		return nil, err
	}
	at := n.attachment(id, slot)
	err = n.connect(ctx, link, at, sandbox, allow, uplinks)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect sandbox %s: %w", id, err), n.Detach(ctx, at))
	}
	return at, nil
}

// claimSlot makes the veth pair. The kernel refuses a second interface of the
// same name, so whoever makes it owns the slot: no lock, no file, and several
// processes at once.
func (n *Network) claimSlot(ctx context.Context, id string, sandbox int) (netlink.Link, uint32, error) {
	h := fnv.New32a()
	h.Write([]byte(id)) //nolint:errcheck // a hash never fails
	first := h.Sum32() % n.slots
	for i := range n.slots {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		slot := (first + i) % n.slots
		attrs := netlink.NewLinkAttrs()
		attrs.Name = hostName(slot)
		err := n.handle.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: inside, PeerNamespace: netlink.NsFd(sandbox), PeerHardwareAddr: randomMAC(),
		})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return nil, 0, fmt.Errorf("make veth pair for sandbox %s: %w", id, err)
		}
		link, err := n.handle.LinkByName(attrs.Name)
		if err != nil {
			return nil, 0, fmt.Errorf("find %s: %w", attrs.Name, err)
		}
		return link, slot, nil
	}
	return nil, 0, &faas.Error{
		Kind: faas.KindResourceExhausted, Op: "connect sandbox " + id,
		Detail: fmt.Sprintf("all %d addresses of %s are in use", n.slots, n.opts.Prefix),
		Remedy: "configure a larger network.prefix",
	}
}

func (n *Network) attachment(id string, slot uint32) *Attachment {
	base := n.opts.Prefix.Addr().As4()
	first := binary.BigEndian.Uint32(base[:]) + slot*slotAddresses
	addr := func(offset uint32) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], first+offset)
		return netip.AddrFrom4(b)
	}
	return &Attachment{
		SandboxID: id, HostInterface: hostName(slot), Interface: inside,
		Address: netip.PrefixFrom(addr(2), 30), Gateway: addr(1), DNS: n.opts.DNS,
	}
}

func (n *Network) connect(ctx context.Context, link netlink.Link, at *Attachment, sandbox int, allow []netip.Prefix, uplinks bool) error {
	if err := n.handle.LinkSetAlias(link, n.alias(at.SandboxID)); err != nil {
		return fmt.Errorf("name %s: %w", at.HostInterface, err)
	}
	if err := n.addSandboxRules(at, allow); err != nil {
		return err
	}
	if err := n.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(at.Gateway, 30))}); err != nil {
		return fmt.Errorf("address %s: %w", at.HostInterface, err)
	}
	if err := n.enableForwarding(at.HostInterface, uplinks); err != nil {
		return err
	}
	if err := n.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", at.HostInterface, err)
	}
	if err := configureInside(ctx, at, sandbox); err != nil {
		return err
	}
	return awaitUp(ctx, n.handle, link)
}

// upTimeout bounds the wait for an interface, which the kernel brings up in
// the background.
const upTimeout = 3 * time.Second

// awaitUp waits until an interface sends. Until then it drops what it is
// given, and whoever sent that tries again only after a second.
func awaitUp(ctx context.Context, h *netlink.Handle, link netlink.Link) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	for {
		now, err := h.LinkByIndex(link.Attrs().Index)
		if err != nil {
			return fmt.Errorf("find %s: %w", link.Attrs().Name, err)
		}
		if now.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not come up: %w", link.Attrs().Name, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

func configureInside(ctx context.Context, at *Attachment, sandbox int) error {
	err := inNamespace(sandbox, func() error {
		return os.WriteFile(sysctl("net/ipv6/conf", at.Interface, "disable_ipv6"), []byte("1"), 0)
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6 has nothing to switch off
		return fmt.Errorf("switch IPv6 off inside: %w", err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(sandbox), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink inside: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(at.Interface)
	if err != nil {
		return fmt.Errorf("find %s inside: %w", at.Interface, err)
	}
	at.MAC = link.Attrs().HardwareAddr.String()
	if lo, err := h.LinkByName("lo"); err == nil {
		if err := h.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring lo up inside: %w", err)
		}
	}
	if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(at.Address)}); err != nil {
		return fmt.Errorf("address %s inside: %w", at.Interface, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up inside: %w", at.Interface, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: at.Gateway.AsSlice()}
	if err := h.RouteAdd(route); err != nil {
		return fmt.Errorf("add default route inside: %w", err)
	}
	return awaitUp(ctx, h, link)
}

// enableForwarding lets packets pass between the sandbox and the interfaces
// of the default routes (uplinks), and leaves every other interface as it is.
func (n *Network) enableForwarding(sandboxSide string, uplinks bool) error {
	names := []string{sandboxSide}
	var routes []netlink.Route
	if uplinks {
		var err error
		if routes, err = n.handle.RouteList(nil, netlink.FAMILY_V4); err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := n.handle.LinkByIndex(r.LinkIndex); err == nil {
			names = append(names, link.Attrs().Name)
		}
	}
	return inNamespace(int(n.host), func() error {
		for _, name := range names {
			if err := enableSysctl(sysctl("net/ipv4/conf", name, "forwarding")); err != nil {
				return fmt.Errorf("let %s forward: %w", name, err)
			}
		}
		return nil
	})
}

// Detach removes a connection. It is no error when it is gone already.
func (n *Network) Detach(_ context.Context, at *Attachment) error {
	link, err := n.handle.LinkByName(at.HostInterface)
	var gone netlink.LinkNotFoundError
	switch {
	case errors.As(err, &gone):
		return n.removeSandboxRules(at.HostInterface)
	case err != nil:
		return fmt.Errorf("find %s: %w", at.HostInterface, err)
	case link.Attrs().Alias != "" && link.Attrs().Alias != n.alias(at.SandboxID):
		return nil // the slot has passed to another sandbox
	}
	// Rules first: an interface without rules reaches nothing.
	err = n.removeSandboxRules(at.HostInterface)
	if delErr := n.handle.LinkDel(link); delErr != nil && !errors.Is(delErr, unix.ENODEV) {
		err = errors.Join(err, fmt.Errorf("remove %s: %w", at.HostInterface, delErr))
	}
	return err
}

// Sweep removes the connections of this installation's sandboxes that keep
// does not name, and the rules of interfaces that are gone. It returns the ids
// of the sandboxes that it disconnected.
func (n *Network) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	links, err := n.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var removed []string
	var errs []error
	for _, link := range links {
		id, ours := strings.CutPrefix(link.Attrs().Alias, n.alias(""))
		if !ours || !strings.HasPrefix(link.Attrs().Name, hostPrefix) || keep(id) {
			continue
		}
		removed = append(removed, id)
		errs = append(errs, n.Detach(ctx, &Attachment{SandboxID: id, HostInterface: link.Attrs().Name}))
	}
	errs = append(errs, n.sweepRules())
	return removed, errors.Join(errs...)
}

func (n *Network) alias(id string) string { return "faas " + n.opts.Installation + " " + id }

func hostName(slot uint32) string { return fmt.Sprintf("%s%05x", hostPrefix, slot) }

func randomMAC() net.HardwareAddr {
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)               //nolint:errcheck // crypto/rand.Read never fails since Go 1.24
	mac[0] = mac[0]&^0x01 | 0x02 // unicast, locally administered
	return mac
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// sysctl is the path of a per-interface setting; an interface's name may hold
// dots, which the dotted form could not express.
func sysctl(family, iface, key string) string {
	return filepath.Join("/proc/sys", family, iface, key)
}

func enableSysctl(path string) error {
	if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == "1" {
		return nil
	}
	return os.WriteFile(path, []byte("1"), 0)
}

// inNamespace runs f in the network namespace behind fd, on a thread that is
// thrown away afterwards, so that no failure to return can leave a goroutine
// in the wrong namespace.
func inNamespace(fd int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// hostResolvers reads the name servers that a sandbox can use too: a stub on
// loopback answers only the host, so those behind it are taken where systemd
// names them.
func hostResolvers() []netip.Addr {
	for _, path := range []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"} {
		if list := readResolvers(path); len(list) > 0 {
			return list
		}
	}
	return nil
}

func readResolvers(path string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var list []netip.Addr
	for scanner := bufio.NewScanner(f); scanner.Scan() && len(list) < 3; {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil && addr.Is4() && !addr.IsLoopback() {
			list = append(list, addr)
		}
	}
	return list
}

func parseSlot(name string) (uint32, bool) {
	rest, ok := strings.CutPrefix(name, hostPrefix)
	slot, err := strconv.ParseUint(rest, 16, 32)
	return uint32(slot), ok && err == nil
}
