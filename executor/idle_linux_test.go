package executor

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// becomes waits until an instance has a status.
func becomes(t *testing.T, e *Executor, id string, want faas.InstanceStatus) *faas.Instance {
	t.Helper()
	for until := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		x, err := e.Instance(t.Context(), "", id)
		if err != nil {
			t.Fatal(err)
		}
		if x.Status == want {
			return x
		}
		if time.Now().After(until) {
			t.Fatalf("it is %s, not %s", x.Status, want)
		}
	}
}

// An instance that nobody uses sleeps, and wakes for whoever comes.
func TestIdleInstancesSleepAndWake(t *testing.T) {
	for action, want := range map[faas.IdleAction]faas.InstanceStatus{
		"": faas.InstancePaused, faas.IdlePause: faas.InstancePaused, faas.IdleStop: faas.InstanceStopped,
	} {
		t.Run("on_idle="+string(action), func(t *testing.T) {
			t.Parallel()
			e := residents(t, newSaving(t), nil)
			x := create(t, e, faas.InstanceRequest{IdleTimeout: faas.MinIdleTimeout, OnIdle: action})
			put(t, e, x.ID, "/data/kept", "1")
			if x := becomes(t, e, x.ID, want); !x.Asleep {
				t.Errorf("it does not sleep: %+v", x)
			}
			got, err := e.ExecInstance(t.Context(), "", x.ID, shell("echo awake"))
			if err != nil || string(got.Stdout) != "awake\n" {
				t.Fatalf("%+v, %v", got, err)
			}
			if x := becomes(t, e, x.ID, want); !x.Asleep {
				t.Errorf("it does not sleep again: %+v", x)
			}
			put(t, e, x.ID, "/data/more", "2") // a file is as good
			if _, err := e.Fork(t.Context(), faas.ForkRequest{From: x.ID}); err != nil {
				t.Error("fork:", err)
			}
		})
	}
}

// Whoever uses an instance keeps it awake, and a request is stronger than
// idleness.
func TestIdleTimeRespectsUseAndRequests(t *testing.T) {
	e := residents(t, newSaving(t), nil)
	x := create(t, e, faas.InstanceRequest{IdleTimeout: faas.MinIdleTimeout})
	err := e.Guest(t.Context(), "", x.ID, func(*guest.Client) error {
		for until := time.Now().Add(3 * faas.MinIdleTimeout); time.Now().Before(until); <-time.After(20 * time.Millisecond) {
			if s := becomes(t, e, x.ID, faas.InstanceRunning); s.Asleep {
				t.Fatal("it sleeps while someone is connected")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	becomes(t, e, x.ID, faas.InstancePaused)
	if paused, err := e.PauseInstance(t.Context(), "", x.ID); err != nil || paused.Asleep {
		t.Fatalf("%+v, %v", paused, err)
	}
	if _, err := e.ExecInstance(t.Context(), "", x.ID, shell("true")); faas.KindOf(err) != faas.KindFailedPrecondition {
		t.Errorf("a command in an instance paused on request: %v", err)
	}
	never := time.Duration(0)
	updated, err := e.UpdateInstance(t.Context(), "", x.ID, faas.InstanceUpdate{IdleTimeout: &never})
	if err != nil || updated.IdleTimeoutMS != 0 {
		t.Errorf("%+v, %v", updated, err)
	}
}

// Requests that come while an instance falls asleep, or wakes, all find it
// running.
func TestCrowdAtASleepingInstance(t *testing.T) {
	e := residents(t, newSaving(t), nil)
	x := create(t, e, faas.InstanceRequest{IdleTimeout: faas.MinIdleTimeout})
	for range 2 {
		becomes(t, e, x.ID, faas.InstancePaused)
		var crowd sync.WaitGroup
		for range 8 {
			crowd.Go(func() {
				if _, err := e.ExecInstance(context.WithoutCancel(t.Context()), "", x.ID, shell("true")); err != nil {
					t.Error(err)
				}
			})
		}
		crowd.Wait()
	}
}

func TestIdleSettingsAreChecked(t *testing.T) {
	e := residents(t, newSaving(t), nil)
	for field, req := range map[string]faas.InstanceRequest{
		"idle_timeout_ms": {IdleTimeout: time.Millisecond},
		"on_idle":         {IdleTimeout: time.Minute, OnIdle: "explode"},
	} {
		_, err := e.CreateInstance(t.Context(), req)
		if e, ok := err.(*faas.Error); !ok || e.Field != field { //nolint:errorlint // made by the call itself
			t.Errorf("%s: %v", field, err)
		}
	}
}
