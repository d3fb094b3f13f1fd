package auth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// freeGuesses is how many wrong keys cost an address nothing.
	freeGuesses  = 10
	firstPenalty = time.Second
	lastPenalty  = time.Minute
	// forgiveAfter is how long an address must be quiet to start anew.
	forgiveAfter = 15 * time.Minute
	maxAddresses = 16384
)

// throttle makes addresses that send wrong keys wait, longer with every one.
type throttle struct {
	mu        sync.Mutex
	addresses map[netip.Addr]*guesses
}

type guesses struct {
	wrong int
	last  time.Time
	until time.Time
}

func newThrottle() *throttle { return &throttle{addresses: map[netip.Addr]*guesses{}} }

// wait returns how long an address has to wait still.
func (t *throttle) wait(from netip.Addr, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.addresses[network(from)]
	if g == nil {
		return 0
	}
	return max(0, g.until.Sub(now))
}

// failed counts a wrong key.
func (t *throttle) failed(from netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from = network(from)
	g := t.addresses[from]
	if g == nil || now.Sub(g.last) > forgiveAfter {
		t.makeRoom(now)
		g = &guesses{}
		t.addresses[from] = g
	}
	g.wrong++
	g.last = now
	if over := g.wrong - freeGuesses; over > 0 {
		g.until = now.Add(min(firstPenalty<<min(over-1, 10), lastPenalty))
	}
}

// makeRoom drops the addresses that are forgiven, and any when that is not
// enough: memory is bounded whoever attacks.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.addresses) < maxAddresses {
		return
	}
	for address, g := range t.addresses {
		if now.Sub(g.last) > forgiveAfter {
			delete(t.addresses, address)
		}
	}
	for address := range t.addresses {
		if len(t.addresses) < maxAddresses {
			return
		}
		delete(t.addresses, address)
	}
}

// network takes the addresses of one IPv6 network as one: whoever has one has
// them all.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	prefix, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return prefix.Addr()
}
