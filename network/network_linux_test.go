package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// host is a network namespace that stands for the machine, with an uplink
// into another one that stands for the rest of the world.
type host struct {
	*Network
	world netns.NsHandle
}

const (
	public   = "203.0.113.10"
	public2  = "198.51.100.10"
	lan      = "10.9.9.9"
	metadata = "169.254.169.254"
	hostLAN  = "192.0.2.1"
)

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP network: needs root to make network namespaces")
	}
	ns := mustNamespace(t)
	world := mustNamespace(t)
	var n *Network
	must(t, inNamespace(int(ns), func() error {
		var err error
		n, err = New(Options{Installation: "test", DNS: []netip.Addr{netip.MustParseAddr(lan)}})
		return err
	}))
	t.Cleanup(func() { n.Close() })
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink"
	must(t, n.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far", PeerNamespace: netlink.NsFd(world)}))
	uplink, err := n.handle.LinkByName("uplink")
	must(t, err)
	must(t, up(n.handle, uplink, netip.MustParsePrefix(hostLAN+"/24")))
	h, err := netlink.NewHandleAt(world, unix.NETLINK_ROUTE)
	must(t, err)
	defer h.Close()
	far, err := h.LinkByName("far")
	must(t, err)
	must(t, up(h, far, netip.MustParsePrefix("192.0.2.254/24")))
	lo, err := h.LinkByName("lo")
	must(t, err)
	must(t, h.LinkSetUp(lo))
	for _, a := range []string{public, public2, lan, metadata} {
		must(t, h.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(netip.MustParseAddr(a), 32))}))
	}
	must(t, n.handle.RouteAdd(&netlink.Route{LinkIndex: uplink.Attrs().Index, Gw: net.ParseIP("192.0.2.254")}))
	return &host{Network: n, world: world}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustNamespace(t *testing.T) netns.NsHandle {
	t.Helper()
	ns, err := newNamespace()
	must(t, err)
	t.Cleanup(func() { ns.Close() })
	return ns
}

func listen(t *testing.T, ns netns.NsHandle, port string) {
	t.Helper()
	must(t, inNamespace(int(ns), func() error {
		l, err := net.Listen("tcp4", "0.0.0.0:"+port)
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}))
}

func reaches(t *testing.T, ns netns.NsHandle, addr, port string) bool {
	t.Helper()
	err := dialFrom(t.Context(), ns, netip.MustParseAddrPort(net.JoinHostPort(addr, port)))
	if err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("%s:%s: refused by silence, want an answer: %v", addr, port, err)
	}
	return err == nil
}

func TestPolicy(t *testing.T) {
	h := newHost(t)
	for _, port := range []string{"53", "80"} {
		listen(t, h.world, port)
		listen(t, h.host, port)
	}
	attach := func(id string, allow ...string) (netns.NsHandle, *Attachment) {
		ns := mustNamespace(t)
		at, err := h.Attach(t.Context(), id, int(ns), faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: allow})
		must(t, err)
		return ns, at
	}
	open, openAt := attach("sbx-open")
	listen(t, open, "80")
	limited, limitedAt := attach("sbx-limited", public+"/32", "10.9.0.0/16", "169.254.0.0/16", "192.0.2.0/24")
	for _, tc := range []struct {
		name       string
		from       netns.NsHandle
		addr, port string
		want       bool
	}{
		{"open: public", open, public, "80", true},
		{"open: another public", open, public2, "80", true},
		{"open: private", open, lan, "80", false},
		{"open: resolver", open, lan, "53", true},
		{"open: metadata", open, metadata, "80", false},
		{"open: host", open, hostLAN, "80", false},
		{"open: host by gateway", open, openAt.Gateway.String(), "80", false},
		{"open: host by gateway, port 53", open, openAt.Gateway.String(), "53", false},
		{"open: other sandbox's gateway", open, limitedAt.Gateway.String(), "80", false},
		{"limited: allowed", limited, public, "80", true},
		{"limited: not allowed", limited, public2, "80", false},
		{"limited: allowed private", limited, lan, "80", true},
		{"limited: metadata though allowed", limited, metadata, "80", false},
		{"limited: host though allowed", limited, hostLAN, "80", false},
		{"limited: other sandbox", limited, openAt.Address.Addr().String(), "80", false},
		{"world: sandbox", h.world, openAt.Address.Addr().String(), "80", false},
		{"host: sandbox", h.host, openAt.Address.Addr().String(), "80", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			switch tc.from {
			case h.world, h.host: // answers to them are dropped or unroutable: silence is right
				if err := dialFrom(t.Context(), tc.from, netip.MustParseAddrPort(net.JoinHostPort(tc.addr, tc.port))); err == nil {
					t.Error("connected")
				}
			default:
				if got := reaches(t, tc.from, tc.addr, tc.port); got != tc.want {
					t.Errorf("reaches %s:%s: %v, want %v", tc.addr, tc.port, got, tc.want)
				}
			}
		})
	}
}

// A sandbox cannot borrow another's address: what it sends with it goes nowhere.
func TestSpoofedSource(t *testing.T) {
	h := newHost(t)
	listen(t, h.world, "80")
	ns := mustNamespace(t)
	_, err := h.Attach(t.Context(), "sbx-spoof", int(ns), faas.NetworkPolicy{Mode: faas.NetworkEgress})
	must(t, err)
	hd, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	must(t, err)
	defer hd.Close()
	link, err := hd.LinkByName(inside)
	must(t, err)
	must(t, hd.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.213.77.2/32"))}))
	err = inNamespace(int(ns), func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.213.77.2")}}
		ctx, cancel := context.WithTimeout(t.Context(), probeTimeout)
		defer cancel()
		conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort(public, "80"))
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err == nil {
		t.Error("connected with another sandbox's address")
	}
}

func TestDetachAndSweepLeaveNothing(t *testing.T) {
	h := newHost(t)
	egress := faas.NetworkPolicy{Mode: faas.NetworkEgress}
	var kept *Attachment
	for i := range 4 {
		at, err := h.Attach(t.Context(), fmt.Sprintf("sbx-%d", i), int(mustNamespace(t)), egress)
		must(t, err)
		if i == 0 {
			kept = at
		}
		if i == 1 {
			must(t, h.Detach(t.Context(), at))
			must(t, h.Detach(t.Context(), at))
		}
	}
	// One whose namespace died by itself leaves rules only.
	dead, err := newNamespace()
	must(t, err)
	deadAt, err := h.Attach(t.Context(), "sbx-dead", int(dead), egress)
	must(t, err)
	must(t, dead.Close())
	for { // the kernel takes a namespace apart in the background
		if _, err := h.handle.LinkByName(deadAt.HostInterface); err != nil {
			break
		}
		runtime.Gosched()
	}
	removed, err := h.Sweep(t.Context(), func(id string) bool { return id == "sbx-0" })
	must(t, err)
	if got := fmt.Sprint(len(removed)); got != "2" {
		t.Errorf("removed %v, want sbx-2 and sbx-3", removed)
	}
	c, err := h.rules()
	must(t, err)
	chains, err := c.ListChains()
	must(t, err)
	for _, chain := range chains {
		if name, ok := strings.CutPrefix(chain.Name, "sandbox-"); ok && name != kept.HostInterface {
			t.Errorf("rules of %s are left", name)
		}
	}
	elements, err := c.GetSetElements(h.set.sandboxes)
	must(t, err)
	if len(elements) != 1 {
		t.Errorf("%d sandboxes in the map, want 1", len(elements))
	}
}

func TestProbeLeavesNothing(t *testing.T) {
	h := newHost(t)
	before, err := h.handle.LinkList()
	must(t, err)
	must(t, h.Probe(t.Context()))
	after, err := h.handle.LinkList()
	must(t, err)
	if len(after) != len(before) {
		t.Errorf("%d interfaces, had %d", len(after), len(before))
	}
}

// Two processes share one kernel: what one has set up, the other's start must
// not take away, whichever addresses they use.
func TestTwoNetworksOnOneHost(t *testing.T) {
	for name, prefix := range map[string]netip.Prefix{
		"the same prefix": DefaultPrefix, "another prefix": netip.MustParsePrefix("172.29.0.0/20"), "a prefix around it": netip.MustParsePrefix("10.208.0.0/12"),
	} {
		t.Run(name, func(t *testing.T) { shareHost(t, prefix) })
	}
}

func shareHost(t *testing.T, prefix netip.Prefix) {
	h := newHost(t)
	listen(t, h.world, "80")
	first := mustNamespace(t)
	_, err := h.Attach(t.Context(), "sbx-first", int(first), faas.NetworkPolicy{Mode: faas.NetworkEgress})
	must(t, err)
	var other *Network
	must(t, inNamespace(int(h.host), func() error {
		other, err = New(Options{Installation: "other", Prefix: prefix})
		return err
	}))
	defer other.Close()
	second := mustNamespace(t)
	_, err = other.Attach(t.Context(), "sbx-first", int(second), faas.NetworkPolicy{Mode: faas.NetworkEgress})
	must(t, err)
	if removed, err := other.Sweep(t.Context(), func(string) bool { return true }); err != nil || len(removed) > 0 {
		t.Errorf("sweep of the other installation: %v, %v", removed, err)
	}
	for name, ns := range map[string]netns.NsHandle{"first": first, "second": second} {
		if !reaches(t, ns, public, "80") {
			t.Errorf("%s sandbox lost its network", name)
		}
	}
}

func TestExhaustedPrefix(t *testing.T) {
	h := newHost(t)
	must(t, inNamespace(int(h.host), func() error {
		small, err := New(Options{Prefix: netip.MustParsePrefix("10.66.0.0/28")})
		if err != nil {
			return err
		}
		defer small.Close()
		for i := range 5 {
			_, err = small.Attach(t.Context(), fmt.Sprintf("sbx-%d", i), int(mustNamespace(t)), faas.NetworkPolicy{Mode: faas.NetworkEgress})
			if (i == 4) != errors.Is(err, faas.ErrResourceExhausted) {
				t.Errorf("attach %d: %v", i, err)
			}
		}
		return nil
	}))
}
