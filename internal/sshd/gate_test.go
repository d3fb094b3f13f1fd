package sshd

import (
	"net"
	"testing"
	"time"
)

func at(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

func TestGateBoundsWhoHasNotLoggedIn(t *testing.T) {
	g := newGate(Limits{Pending: 3, PendingPerAddress: 2}.withDefaults())
	for i, c := range []struct {
		from string
		ok   bool
	}{{"10.0.0.1", true}, {"10.0.0.1", true}, {"10.0.0.1", false}, {"10.0.0.2", true}, {"10.0.0.3", false}} {
		if _, ok := g.enter(at(c.from)); ok != c.ok {
			t.Errorf("%d: %v", i, ok)
		}
	}
	g.leave(at("10.0.0.1"), false, true)
	if _, ok := g.enter(at("10.0.0.3")); !ok {
		t.Error("the room that became free is not given")
	}
}

func TestGateSlowsDownAndBans(t *testing.T) {
	g := newGate(Limits{BanAfter: 8, BanTime: time.Minute}.withDefaults())
	now := time.Now()
	g.now = func() time.Time { return now }
	var delays []time.Duration
	for i := range 8 {
		delay, ok := g.enter(at("2001:db8::1"))
		if !ok {
			t.Fatal("refused too early")
		}
		delays = append(delays, delay)
		if banned := g.leave(at("2001:db8::2"), true, false); banned != (i == 7) { // the same network
			t.Fatalf("%d: %v", i, banned)
		}
	}
	if delays[4] != 0 || delays[5] == 0 || delays[7] <= delays[5] {
		t.Errorf("the delays are %v", delays)
	}
	if _, ok := g.enter(at("2001:db8::3")); ok {
		t.Error("a banned network enters")
	}
	if _, ok := g.enter(at("2001:db8:1::1")); !ok {
		t.Error("another network does not")
	}
	now = now.Add(2 * time.Minute)
	delay, ok := g.enter(at("2001:db8::1"))
	if !ok || delay != 0 {
		t.Errorf("after the ban: %v %v", delay, ok)
	}
	g.leave(at("2001:db8::1"), false, true)
	if v := g.addresses[network(at("2001:db8::1"))]; v.failures != 0 {
		t.Error("a login does not forgive")
	}
}

func TestGateForgetsAddresses(t *testing.T) {
	g := newGate(Limits{}.withDefaults())
	for i := range maxAddresses + 100 {
		from := &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}
		if _, ok := g.enter(from); !ok {
			t.Fatal(i)
		}
		g.leave(from, true, false)
	}
	if len(g.addresses) > maxAddresses {
		t.Errorf("%d addresses are remembered", len(g.addresses))
	}
}
