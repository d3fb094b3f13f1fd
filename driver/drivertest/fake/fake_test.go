//go:build unix

package fake_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
	"github.com/faas-platform/faas/guest"
)

func newMachine(t *testing.T) *fake.Machine {
	t.Helper()
	m := fake.NewMachine(t.TempDir(), faas.RuntimeNative)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func spec() faas.Spec {
	return faas.Spec{ID: faas.NewID(faas.PrefixSandbox), Project: faas.DefaultProject, Image: faas.HostImage}
}

func create(t *testing.T, m *fake.Machine) driver.Sandbox {
	t.Helper()
	s, err := m.Open().Create(t.Context(), spec())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connect(t *testing.T, s driver.Sandbox) *guest.Client {
	t.Helper()
	c := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestFailCountsDown(t *testing.T) {
	m := newMachine(t)
	d := m.Open()
	m.Faults.Fail(fake.PointCreate, 2, faas.ErrResourceExhausted)
	for range 2 {
		if _, err := d.Create(t.Context(), spec()); !errors.Is(err, faas.ErrResourceExhausted) {
			t.Fatalf("Create: %v, want the injected error", err)
		}
	}
	if _, err := d.Create(t.Context(), spec()); err != nil {
		t.Fatalf("Create after the faults: %v", err)
	}
	if n := m.Faults.Calls(fake.PointCreate); n != 3 {
		t.Errorf("%d calls of Create were counted, want 3", n)
	}
}

func TestCreateThatFailsLateLeavesNothing(t *testing.T) {
	m := newMachine(t)
	m.Faults.Fail(fake.PointCreated, 1, faas.ErrInternal)
	if _, err := m.Open().Create(t.Context(), spec()); !errors.Is(err, faas.ErrInternal) {
		t.Fatalf("Create: %v, want the injected error", err)
	}
	if left := m.Sandboxes(); len(left) > 0 {
		t.Errorf("sandboxes are left: %v", left)
	}
}

func TestHangIsReleasedOrEndsWithTheContext(t *testing.T) {
	m := newMachine(t)
	s := create(t, m)
	release := m.Faults.Hang(fake.PointStats)
	done := make(chan error, 1)
	go func() {
		_, err := s.Stats(t.Context())
		done <- err
	}()
	if err := m.Faults.AwaitCalls(t.Context(), fake.PointStats, 1); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := s.Stats(short); faas.KindOf(err) != faas.KindDeadlineExceeded {
		t.Errorf("Stats beyond its context: %v", err)
	}
	release()
	if err := <-done; err != nil {
		t.Errorf("Stats once released: %v", err)
	}
}

func TestConnectionsBreak(t *testing.T) {
	for name, cut := range map[string]func(m *fake.Machine, id string){
		"dropped": func(m *fake.Machine, id string) {
			if m.DropConnections(id) == 0 {
				t.Error("there was no connection to drop")
			}
		},
		"lost": func(m *fake.Machine, id string) {
			if err := m.Lose(id); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := create(t, m)
			e, err := connect(t, s).Start(t.Context(), guest.Command{Args: []string{"sh", "-c", "echo ready; sleep 300"}})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if _, err := io.ReadFull(e.Stdout, make([]byte, 6)); err != nil {
				t.Fatal(err)
			}
			cut(m, s.ID())
			if _, err := e.Wait(t.Context()); faas.KindOf(err) != faas.KindUnavailable {
				t.Errorf("Wait for a command whose connection broke: %v, want kind %s", err, faas.KindUnavailable)
			}
		})
	}
}

func TestLostSandboxCannotBeRecovered(t *testing.T) {
	m := newMachine(t)
	s := create(t, m)
	if err := m.Lose(s.ID()); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Errorf("Wait for a lost sandbox: %v", err)
	}
	if _, err := m.Open().Recover(t.Context(), s.Handle()); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("Recover: %v, want %s", err, faas.KindNotFound)
	}
	if err := s.Destroy(t.Context()); err != nil {
		t.Errorf("Destroy: %v", err)
	}
}

func TestCutAfterBreaksOneConnection(t *testing.T) {
	m := newMachine(t)
	s := create(t, m)
	m.CutAfter(s.ID(), 10)
	if _, err := connect(t, s).Hello(t.Context()); err == nil {
		t.Error("a greeting fits into ten bytes")
	}
	if _, err := connect(t, s).Hello(t.Context()); err != nil {
		t.Errorf("the connection after the broken one: %v", err)
	}
}
