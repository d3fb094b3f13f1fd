package sshd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// freeFailures is how many failed connections cost an address nothing.
	freeFailures = 4
	firstDelay   = 100 * time.Millisecond
	lastDelay    = 5 * time.Second
	// forgiveAfter is how long an address must be quiet to start anew.
	forgiveAfter = 10 * time.Minute
	maxAddresses = 16384
)

// gate bounds the connections that have not proved anything, and makes
// addresses that fail wait and, in the end, stay out.
type gate struct {
	limits Limits
	now    func() time.Time

	mu        sync.Mutex
	pending   int
	addresses map[netip.Addr]*visitor
}

type visitor struct {
	pending  int
	failures int
	last     time.Time
	banned   time.Time // until
}

func newGate(limits Limits) *gate {
	return &gate{limits: limits, now: time.Now, addresses: map[netip.Addr]*visitor{}}
}

// enter admits a connection and says how long it waits first; ok is false for
// one that is refused.
func (g *gate) enter(from net.Addr) (delay time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	v := g.visitor(network(from), now)
	if v == nil || now.Before(v.banned) || g.pending >= g.limits.Pending || v.pending >= g.limits.PendingPerAddress {
		return 0, false
	}
	g.pending++
	v.pending++
	if over := v.failures - freeFailures; over > 0 {
		delay = min(firstDelay<<min(over-1, 10), lastDelay)
	}
	return delay, true
}

// leave ends what enter began. A failure counts against the address; it says
// whether that was one too many.
func (g *gate) leave(from net.Addr, failed, proved bool) (banned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending--
	v := g.addresses[network(from)]
	if v == nil {
		return false
	}
	v.pending--
	v.last = g.now()
	switch {
	case proved:
		v.failures = 0
	case failed:
		v.failures++
		if v.failures >= g.limits.BanAfter {
			v.failures, v.banned = freeFailures, v.last.Add(g.limits.BanTime)
			return true
		}
	}
	return false
}

// visitor finds what is known of an address; nil when there is no room to
// remember it. The lock is held.
func (g *gate) visitor(address netip.Addr, now time.Time) *visitor {
	v := g.addresses[address]
	if v != nil {
		if v.pending == 0 && now.Sub(v.last) > forgiveAfter && now.After(v.banned) {
			*v = visitor{}
		}
		return v
	}
	if len(g.addresses) >= maxAddresses && !g.makeRoom(now) {
		return nil
	}
	v = &visitor{last: now}
	g.addresses[address] = v
	return v
}

// makeRoom forgets addresses that are forgiven, and one that is quiet when
// that is not enough: memory is bounded whoever attacks.
func (g *gate) makeRoom(now time.Time) bool {
	for address, v := range g.addresses {
		if v.pending == 0 && now.Sub(v.last) > forgiveAfter && now.After(v.banned) {
			delete(g.addresses, address)
		}
	}
	for address, v := range g.addresses {
		if len(g.addresses) < maxAddresses {
			break
		}
		if v.pending == 0 {
			delete(g.addresses, address)
		}
	}
	return len(g.addresses) < maxAddresses
}

// network takes the addresses of one IPv6 network as one: whoever has one has
// them all.
func network(from net.Addr) netip.Addr {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	address, _ := netip.AddrFromSlice(tcp.IP) //nolint:errcheck // the zero address stands for what is none
	address = address.Unmap().WithZone("")
	if !address.Is6() {
		return address
	}
	if prefix, err := address.Prefix(64); err == nil {
		return prefix.Addr()
	}
	return address
}
