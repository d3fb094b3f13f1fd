package modes

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// TestModes runs every mode on every runtime through one daemon.
func TestModes(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP modes all: starts the program and sandboxes of every runtime")
	}
	d := startDaemon(t, "")
	for _, runtime := range faas.Runtimes() {
		t.Run(string(runtime), func(t *testing.T) {
			if here, why := d.can(t, runtime, faas.FeatureExec); !here {
				t.Logf("%s is not available: %s", runtime, why)
				d.refuses(t, runtime, faas.ModeEphemeral, why)
				return
			}
			t.Run("ephemeral", func(t *testing.T) { d.ephemeral(t, runtime) })
			t.Run("warm", func(t *testing.T) { d.warm(t, runtime) })
			t.Run("cached", func(t *testing.T) { d.cached(t, runtime) })
			t.Run("persistent", func(t *testing.T) { d.persistent(t, runtime) })
			if saves, why := d.can(t, runtime, faas.FeatureSnapshotFS); !saves {
				d.refuses(t, runtime, faas.ModeCheckpointed, why)
				return
			}
			t.Run("checkpointed", func(t *testing.T) { d.checkpointed(t, runtime) })
			t.Run("branched", func(t *testing.T) { d.branched(t, runtime) })
		})
	}
	t.Run("a restart keeps cached results", d.cacheSurvives)
}

func shell(runtime faas.Runtime, mode faas.Mode, line string) api.ExecuteRequest {
	return api.ExecuteRequest{Command: api.Command{Shell: line}, Runtime: runtime, Mode: mode}
}

// refuses holds a runtime to its word: what it cannot do is refused with the
// reason.
func (d *daemon) refuses(t *testing.T, runtime faas.Runtime, mode faas.Mode, why string) {
	t.Helper()
	_, err := d.Execute(t.Context(), shell(runtime, mode, "true"))
	var e *faas.Error
	if !errors.As(err, &e) || e.Kind != faas.KindCapabilityUnavailable || e.Detail == "" {
		t.Errorf("%s %s, which is not available (%s): %v", runtime, mode, why, err)
	}
}

// ephemeral: nothing of one execution is there for the next.
func (d *daemon) ephemeral(t *testing.T, runtime faas.Runtime) {
	leave := d.run(t, shell(runtime, faas.ModeEphemeral, "echo left >/tmp/left; (sleep 300 >/dev/null 2>&1 &); hostname"))
	look := d.run(t, shell(runtime, faas.ModeEphemeral, "cat /tmp/left 2>/dev/null; hostname"))
	if leave.ExitCode != 0 || look.Stdout == leave.Stdout || strings.Contains(look.Stdout, "left") {
		t.Errorf("first %q, then %q", leave.Stdout, look.Stdout)
	}
	if look.RuntimeUsed != runtime || look.InstanceID != "" || look.SnapshotID != "" {
		t.Errorf("%+v", look)
	}
}

// warm: sandboxes made ahead serve requests and differ from each other, in who
// they are and in their random numbers.
func (d *daemon) warm(t *testing.T, runtime faas.Runtime) {
	const count = 2
	asked, err := d.Prewarm(t.Context(), api.Prewarm{PoolKind: api.PoolKind{Runtime: runtime}, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.RemovePool(t.Context(), asked.ID); err != nil {
			t.Error(err)
		}
	}()
	pool := func() *api.Pool {
		pools, err := d.Pools(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pools {
			if p.ID == asked.ID {
				return &p
			}
		}
		t.Fatalf("no pool %s among %+v", asked.ID, pools)
		return nil
	}
	d.until("the pool is full", 3*time.Minute, func() error {
		if p := pool(); p.Idle < count {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	seen := map[string]bool{}
	for range count {
		got := d.run(t, shell(runtime, faas.ModeEphemeral, "hostname; od -An -N16 -tx1 /dev/urandom; grep '\"id\"' /run/faas/instance.json"))
		for _, line := range strings.Split(strings.TrimSpace(got.Stdout), "\n") {
			if seen[line] && line != "" {
				t.Errorf("two sandboxes have %q", line)
			}
			seen[line] = true
		}
	}
	if p := pool(); p.Hits < count || p.Why == "" {
		t.Errorf("after %d requests: %+v", count, p)
	}
}

// cached: the same is not run again, what differs is, failures only when asked,
// and those who ask at the same time share one run.
func (d *daemon) cached(t *testing.T, runtime faas.Runtime) {
	request := shell(runtime, faas.ModeCached, "date +%s.%N; cat")
	input := t.Name()
	request.Stdin, request.CacheKey = &input, "one"
	first := d.run(t, request)
	again := d.run(t, request)
	if first.CacheHit || !again.CacheHit || again.Stdout != first.Stdout || again.RequestID == first.RequestID {
		t.Errorf("first %+v, again %+v", first, again)
	}
	other := request
	other.Env = map[string]string{"X": "1"}
	if got := d.run(t, other); got.CacheHit {
		t.Error("another environment was a hit")
	}
	failing := shell(runtime, faas.ModeCached, "echo "+t.Name()+"; exit 3")
	d.run(t, failing)
	if got := d.run(t, failing); got.CacheHit || got.ExitCode != 3 {
		t.Errorf("a failure was kept: %+v", got)
	}
	failing.CacheFailures = true
	d.run(t, failing)
	if got := d.run(t, failing); !got.CacheHit || got.ExitCode != 3 {
		t.Errorf("a failure was to be kept: %+v", got)
	}
	short := request
	short.CacheKey, short.CacheTTLMS = "short", 1
	d.run(t, short)
	d.until("the result has expired", time.Minute, func() error {
		if got := d.run(t, short); got.CacheHit {
			return errors.New("still a hit")
		}
		return nil
	})
	d.flock(t, runtime)
}

// flock asks the same many times at once.
func (d *daemon) flock(t *testing.T, runtime faas.Runtime) {
	request := shell(runtime, faas.ModeCached, "sleep 1; date +%s.%N")
	request.CacheKey = "flock"
	var (
		mu      sync.Mutex
		ran     int
		outputs = map[string]int{}
		askers  sync.WaitGroup
	)
	for range 6 {
		askers.Go(func() {
			got, err := d.Execute(t.Context(), request)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			outputs[got.Stdout]++
			if !got.CacheHit {
				ran++
			}
		})
	}
	askers.Wait()
	if ran != 1 || len(outputs) != 1 {
		t.Errorf("%d of six ran, outputs %v", ran, outputs)
	}
}

// persistent: an instance is left, in which the next request runs.
func (d *daemon) persistent(t *testing.T, runtime faas.Runtime) {
	first := d.run(t, shell(runtime, faas.ModePersistent, "echo kept >/tmp/kept"))
	if first.InstanceID == "" {
		t.Fatalf("%+v", first)
	}
	defer d.call(t, http.MethodDelete, "/api/v1/instances/"+first.InstanceID, nil, nil)
	var next api.ExecuteResponse
	d.call(t, http.MethodPost, "/api/v1/instances/"+first.InstanceID+"/exec",
		map[string]any{"command": "cat /tmp/kept"}, &next)
	if next.Stdout != "kept\n" || next.InstanceID != first.InstanceID {
		t.Errorf("%+v", next)
	}
}

// checkpointed: the state after the command is saved, and gone on from.
func (d *daemon) checkpointed(t *testing.T, runtime faas.Runtime) {
	first := d.run(t, shell(runtime, faas.ModeCheckpointed, "echo one >/root/steps 2>/dev/null || echo one >/tmp/steps"))
	defer d.deleteSnapshot(t, first.SnapshotID)
	next := shell(runtime, faas.ModeCheckpointed, "for f in /root/steps /tmp/steps; do [ -f $f ] && echo two >>$f && cat $f; done; true")
	next.SnapshotID = first.SnapshotID
	second := d.run(t, next)
	if second.Stdout != "one\ntwo\n" || second.SnapshotID == "" || second.SnapshotID == first.SnapshotID {
		t.Fatalf("%+v", second)
	}
	var seen api.Snapshot
	d.call(t, http.MethodGet, "/api/v1/snapshots/"+second.SnapshotID, nil, &seen)
	if seen.ParentID != first.SnapshotID || seen.Kind != faas.SnapshotFS {
		t.Errorf("%+v", seen)
	}
	if full, _ := d.can(t, runtime, faas.FeatureSnapshotFull); full {
		d.processGoesOn(t, runtime)
	}
}

// processGoesOn: a process that was left running is saved with its memory.
func (d *daemon) processGoesOn(t *testing.T, runtime faas.Runtime) {
	first := d.run(t, shell(runtime, faas.ModeCheckpointed, "(n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.1; done) >/dev/null 2>&1 & sleep 0.5"))
	defer d.deleteSnapshot(t, first.SnapshotID)
	var seen api.Snapshot
	d.call(t, http.MethodGet, "/api/v1/snapshots/"+first.SnapshotID, nil, &seen)
	if seen.Kind != faas.SnapshotFull {
		t.Errorf("%+v", seen)
	}
	next := shell(runtime, faas.ModeEphemeral, "a=$(cat /tmp/n); for i in 1 2 3 4 5 6 7 8 9; do sleep 0.5; b=$(cat /tmp/n); [ \"${b:-0}\" -gt \"${a:-0}\" ] && exit 0; done; exit 1")
	next.SnapshotID = first.SnapshotID
	if got := d.run(t, next); got.ExitCode != 0 {
		t.Errorf("it does not count on: %+v", got)
	}
}

// branched: several variants at once from one state, each of its own, with
// their lineage on record; also from an execution and an instance.
func (d *daemon) branched(t *testing.T, runtime faas.Runtime) {
	base := d.run(t, shell(runtime, faas.ModeCheckpointed, "echo base >/tmp/state"))
	defer d.deleteSnapshot(t, base.SnapshotID)
	const variants = 3
	var (
		mu      sync.Mutex
		states  = map[string]bool{}
		runners sync.WaitGroup
	)
	for i := range variants {
		runners.Go(func() {
			r := shell(runtime, faas.ModeBranched, fmt.Sprintf("echo %d >>/tmp/state; tr '\\n' ' ' </tmp/state", i))
			r.BranchFrom = base.RequestID // the execution
			got, err := d.Execute(t.Context(), r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || got.Stdout != fmt.Sprintf("base %d ", i) || got.SnapshotID == "" {
				t.Errorf("variant %d: %+v, %v", i, got, err)
				return
			}
			states[got.SnapshotID] = true
		})
	}
	runners.Wait()
	for id := range states {
		var seen api.Snapshot
		d.call(t, http.MethodGet, "/api/v1/snapshots/"+id, nil, &seen)
		if seen.ParentID != base.SnapshotID {
			t.Errorf("the parent of %s is %q, not %s", id, seen.ParentID, base.SnapshotID)
		}
	}
	if len(states) != variants {
		t.Errorf("%d states of %d variants", len(states), variants)
	}
	live := d.run(t, shell(runtime, faas.ModePersistent, "echo live >/tmp/state"))
	defer d.call(t, http.MethodDelete, "/api/v1/instances/"+live.InstanceID, nil, nil)
	fork := shell(runtime, faas.ModeBranched, "cat /tmp/state; echo fork >/tmp/state")
	fork.BranchFrom = live.InstanceID
	got := d.run(t, fork)
	defer d.deleteSnapshot(t, got.SnapshotID)
	var source api.ExecuteResponse
	d.call(t, http.MethodPost, "/api/v1/instances/"+live.InstanceID+"/exec", map[string]any{"command": "cat /tmp/state"}, &source)
	if got.Stdout != "live\n" || source.Stdout != "live\n" {
		t.Errorf("fork %q, source %q", got.Stdout, source.Stdout)
	}
}

func (d *daemon) deleteSnapshot(t *testing.T, id string) {
	t.Helper()
	d.call(t, http.MethodDelete, "/api/v1/snapshots/"+id+"?cascade=true", nil, nil)
}

// cacheSurvives restarts the daemon between a miss and a hit.
func (d *daemon) cacheSurvives(t *testing.T) {
	request := shell(faas.RuntimeAuto, faas.ModeCached, "date +%s.%N")
	first := d.run(t, request)
	if first.CacheHit {
		t.Fatalf("%+v", first)
	}
	d.stop()
	d.start()
	again := d.run(t, request)
	if !again.CacheHit || again.Stdout != first.Stdout {
		t.Errorf("first %+v, after the restart %+v", first, again)
	}
}
