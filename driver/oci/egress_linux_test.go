package oci

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/network"
	"github.com/faas-platform/faas/network/networktest"
)

// newMachine makes a network that stands for this machine's, and a driver that
// connects its sandboxes to it.
func newMachine(t *testing.T) (*networktest.Machine, *Native) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP native network: needs root to make network namespaces")
	}
	m, err := networktest.NewMachine()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	n := newNative(t, "")
	err = m.Do(func() error {
		n.opts.Network, err = network.New(network.Options{
			Installation: "test", DNS: []netip.Addr{m.World.Neighbour.Addr(), netip.MustParseAddr("192.0.2.53")},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, n
}

func egressSpec(allow ...string) faas.Spec {
	spec := testSpec()
	spec.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: allow}
	return spec
}

// interfacesOf lists the sandboxes' ends that a machine has.
func interfacesOf(t *testing.T, m *networktest.Machine) []string {
	t.Helper()
	names, err := m.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "fsv") })
}

func TestEgress(t *testing.T) {
	m, n := newMachine(t)
	server := m.World.Server
	s := create(t, n, egressSpec(server.Addr().String()))
	if out, code := run(t, s, "cat /etc/resolv.conf"); code != 0 || out != "nameserver "+m.World.Neighbour.Addr().String()+"\nnameserver 192.0.2.53" {
		t.Errorf("/etc/resolv.conf: %s", out)
	}
	at := s.record.Network
	if r, err := n.work.Load(s.ID()); err != nil || r.Network == nil || r.Network.HostInterface != at.HostInterface {
		t.Errorf("the record on disk says %+v, %v", r, err)
	}
	if got := interfacesOf(t, m); !slices.Equal(got, []string{at.HostInterface}) {
		t.Errorf("interfaces of sandboxes: %v, want %s", got, at.HostInterface)
	}
	// A warm sandbox with a network of its own is nobody else's.
	if err := n.Adopt(t.Context(), s, egressSpec(server.Addr().String())); !errors.Is(err, faas.ErrFailedPrecondition) {
		t.Errorf("adopted: %v", err)
	}
	if err := s.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := interfacesOf(t, m); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
}

// A restored sandbox has a connection of its own, by its own policy.
func TestEgressAfterRestore(t *testing.T) {
	m, n := newMachine(t)
	if _, err := n.criuTool(t.Context()); err != nil {
		t.Skipf("SKIP native network of restored sandboxes: %v", err)
	}
	source := create(t, n, testSpec()) // without a network
	dir := t.TempDir()
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.Mkdir(files, 0o711), os.Mkdir(memory, 0o711)); err != nil {
		t.Fatal(err)
	}
	saved, err := source.Snapshot(t.Context(), faas.SnapshotFull, files, memory)
	if err != nil {
		t.Fatal(err)
	}
	made, err := n.Restore(t.Context(), driver.State{
		Kind: faas.SnapshotFull, Layers: []string{files}, Memory: memory, Requires: saved.Requires, Data: saved.Data,
	}, egressSpec(m.World.Server.Addr().String()), func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	restored := made.(*sandbox)
	t.Cleanup(func() {
		if err := restored.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for address, want := range map[netip.AddrPort]int{m.World.Server: 0, m.World.Neighbour: 1} {
		out, code := run(t, restored, fmt.Sprintf("bash -c 'exec 3<>/dev/tcp/%s/%d'", address.Addr(), address.Port()))
		if code != want {
			t.Errorf("dialling %v: exit code %d, want %d: %s", address, code, want, out)
		}
	}
	if out, _ := run(t, restored, "cat /etc/resolv.conf"); !strings.Contains(out, m.World.Neighbour.Addr().String()) {
		t.Errorf("/etc/resolv.conf: %s", out)
	}
}

// What a dead process had connected is disconnected with its sandbox.
func TestSweepDisconnects(t *testing.T) {
	m, n := newMachine(t)
	s := create(t, n, egressSpec())
	n.mu.Lock()
	delete(n.sandboxes, s.id) // as if another process had made it
	n.mu.Unlock()
	removed, err := n.Sweep(t.Context(), nil)
	if err != nil || !slices.Equal(removed, []string{s.id}) {
		t.Errorf("swept %v, %v", removed, err)
	}
	if got := interfacesOf(t, m); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
}

func TestEgressRefusals(t *testing.T) {
	n := newNative(t, "")
	readOnly := egressSpec()
	readOnly.ReadOnly = true
	for what, test := range map[string]struct {
		spec faas.Spec
		kind faas.Kind
	}{
		"a driver without networks": {egressSpec(), faas.KindCapabilityUnavailable},
		"no network":                {egressSpec("example.org"), faas.KindInvalidArgument},
	} {
		if _, err := n.Create(t.Context(), test.spec); faas.KindOf(err) != test.kind {
			t.Errorf("%s: %v, want %s", what, err, test.kind)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	_, connected := newMachine(t)
	if _, err := connected.Create(t.Context(), readOnly); faas.KindOf(err) != faas.KindCapabilityUnavailable {
		t.Errorf("read-only: %v", err)
	}
}

// A plain user is told what to do for a network.
func TestEgressCapabilityWithoutPrivilege(t *testing.T) {
	n := newNative(t, "")
	n.opts.NetworkError = faas.Unavailable("connecting a sandbox needs CAP_NET_ADMIN on the host", "run the gateway as root")
	c := n.egress().capability(context.Background())
	if c.Available || !strings.Contains(c.Reason, "CAP_NET_ADMIN") || c.Remedy != "run the gateway as root" {
		t.Errorf("%+v", c)
	}
}
