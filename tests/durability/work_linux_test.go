package durability

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Phases are what is interrupted: what a client asked for and was not answered
// yet, or what the daemon does by itself.
const (
	phaseSnapshot = "snapshot"
	phaseRestore  = "restore"
	phaseFork     = "fork"
	phaseMerge    = "merge"
	phaseGC       = "gc" // removal and collection
	phaseImport   = "import"
	phaseArchive  = "archive"
	phaseEvict    = "evict"
	phaseFetch    = "fetch"
)

// saved is what is known of one acknowledged snapshot.
type saved struct {
	id, token string
	runtime   faas.Runtime
	full      bool
	removing  bool // a removal was asked for, and not acknowledged
}

// source is a long-lived instance that snapshots are taken of.
type source struct {
	mu      sync.Mutex
	id      string
	token   string // in its file
	runtime faas.Runtime
	suspect bool // what was in it when it was saved was killed: it may have died
}

// work is the clients' side of the test.
type work struct {
	in      *installation
	sources map[faas.Runtime]*source
	flying  map[string]*atomic.Int64 // requests in flight, by phase
	token   atomic.Int64

	mu       sync.Mutex
	random   *rand.Rand
	acked    []*saved
	streams  [][]byte // exported, with the token of each
	streamOf []*saved
	failures []string
}

func newWork(in *installation, random *rand.Rand, runtimes []string) *work {
	w := &work{in: in, random: random, sources: map[faas.Runtime]*source{}, flying: map[string]*atomic.Int64{}}
	for _, r := range runtimes {
		w.sources[faas.Runtime(r)] = &source{runtime: faas.Runtime(r)}
	}
	for _, p := range phases() {
		w.flying[p] = &atomic.Int64{}
	}
	return w
}

func phases() []string {
	return []string{phaseSnapshot, phaseRestore, phaseFork, phaseMerge, phaseGC, phaseImport, phaseArchive, phaseEvict, phaseFetch}
}

// wrong notes a failure that no interruption explains.
func (w *work) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *work) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

// pick chooses an acknowledged snapshot, nil when none matches.
func (w *work) pick(match func(*saved) bool) *saved {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*saved
	for _, s := range w.acked {
		if !s.removing && match(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[w.random.IntN(len(list))]
}

// during counts a request as being in flight.
func (w *work) during(phase string, do func() error) error {
	w.flying[phase].Add(1)
	defer w.flying[phase].Add(-1)
	return do()
}

type execBody struct {
	Command string `json:"command"`
}

func (w *work) exec(instance, command string) (string, error) {
	var out api.ExecuteResponse
	if err := w.in.call(http.MethodPost, api.PathInstances+"/"+instance+"/exec", execBody{command}, &out); err != nil {
		return "", err
	}
	if out.ExitCode != 0 {
		return "", fmt.Errorf("exit code %d: %s", out.ExitCode, out.Stderr)
	}
	return strings.TrimSpace(out.Stdout), nil
}

// Every source runs a program that keeps a word in its memory, and writes it
// to a file whenever that is not there.
const (
	memoryWord = "remembered"
	remember   = `word=` + memoryWord + `; (while :; do [ -e /memory ] || echo $word >/memory; sleep 0.1; done) >/dev/null 2>&1 &`
)

func (w *work) create(body map[string]any) (string, error) {
	var made api.Instance
	body["memory_mb"], body["disk_mb"] = 64, 64
	err := w.in.call(http.MethodPost, api.PathInstances, body, &made)
	return made.ID, err
}

// ready sees that a source lives, and makes another when it does not.
func (w *work) ready(s *source) error {
	if s.id != "" {
		if s.suspect {
			if out, err := w.exec(s.id, "cat /token"); err != nil || out != s.token {
				w.in.call(http.MethodDelete, api.PathInstances+"/"+s.id, nil, nil) //nolint:errcheck // it may be gone
				s.id = ""
			}
			s.suspect = false
		}
		if s.id != "" {
			return nil
		}
	}
	id, err := w.create(map[string]any{"image": "host", "runtime": s.runtime, "name": "source-" + string(s.runtime) + fmt.Sprint(w.token.Add(1))})
	if err != nil {
		return err
	}
	s.id, s.token = id, ""
	_, err = w.exec(id, remember)
	return err
}

// snapshot saves a source; every third time files only.
func (w *work) snapshot(runtime faas.Runtime) error {
	s := w.sources[runtime]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := w.ready(s); err != nil {
		return err
	}
	token := fmt.Sprintf("token-%d", w.token.Add(1))
	// Some bytes that no other snapshot has.
	if _, err := w.exec(s.id, "echo "+token+" >/token && head -c 2000000 /dev/urandom >/bytes"); err != nil {
		s.suspect = true
		return err
	}
	s.token = token
	kind := faas.SnapshotFull
	if w.roll(3) == 0 {
		kind = faas.SnapshotFS
	}
	var made api.Snapshot
	err := w.during(phaseSnapshot, func() error {
		return w.in.call(http.MethodPost, api.PathSnapshots, map[string]any{"instance_id": s.id, "kind": kind, "name": token}, &made)
	})
	if err != nil {
		s.suspect = true
		return err
	}
	w.acknowledge(&saved{id: made.ID, token: token, runtime: runtime, full: kind == faas.SnapshotFull})
	return nil
}

func (w *work) acknowledge(s *saved) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked = append(w.acked, s)
}

// restored makes an instance of a snapshot and sees that it is what was saved.
func (w *work) restored(s *saved) error {
	var id string
	err := w.during(phaseRestore, func() (err error) {
		id, err = w.create(map[string]any{"snapshot_id": s.id})
		return err
	})
	if err != nil {
		return err
	}
	err = w.examine(id, s)
	return errors.Join(err, w.in.call(http.MethodDelete, api.PathInstances+"/"+id, nil, nil))
}

// errWrong is a copy that is not what was saved.
var errWrong = errors.New("not what was saved")

func (w *work) examine(instance string, s *saved) error {
	command := "cat /token; stat -c %s /bytes"
	want := s.token + "\n2000000"
	if s.full {
		command += "; rm -f /memory; n=0; until [ -s /memory ] || [ $n -gt 200 ]; do sleep 0.05; n=$((n+1)); done; cat /memory"
		want += "\n" + memoryWord
	}
	out, err := w.exec(instance, command)
	if err != nil {
		return err
	}
	if out != want {
		return fmt.Errorf("%w: a copy of %s has %q, not %q", errWrong, s.id, out, want)
	}
	return nil
}

func (w *work) restore(runtime faas.Runtime) error {
	s := w.pick(func(s *saved) bool { return s.runtime == runtime && s.full })
	if s == nil {
		return w.snapshot(runtime)
	}
	return w.restored(s)
}

func (w *work) fork(runtime faas.Runtime) error {
	s := w.sources[runtime]
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := w.ready(s); err != nil {
		return err
	}
	if s.token == "" {
		s.token = fmt.Sprintf("token-%d", w.token.Add(1))
		if _, err := w.exec(s.id, "echo "+s.token+" >/token; head -c 2000000 /dev/urandom >/bytes"); err != nil {
			s.suspect, s.token = true, ""
			return err
		}
	}
	var made api.InstanceFork
	err := w.during(phaseFork, func() error {
		return w.in.call(http.MethodPost, api.PathInstances+"/"+s.id+"/fork", map[string]any{"count": 2}, &made)
	})
	if err != nil {
		s.suspect = true
		return err
	}
	s.suspect = len(made.Failures) > 0
	for _, x := range made.Instances {
		err = errors.Join(err, w.examine(x.ID, &saved{id: "of " + s.id, token: s.token, full: true}),
			w.in.call(http.MethodDelete, api.PathInstances+"/"+x.ID, nil, nil))
	}
	for _, f := range made.Failures {
		err = errors.Join(err, fmt.Errorf("copy %d: %s", f.Index, f.Problem.Detail))
	}
	return err
}

// merge merges two snapshots; the newer one's files win.
func (w *work) merge() error {
	native := func(s *saved) bool { return s.runtime == faas.RuntimeNative }
	one := w.pick(native)
	if one == nil {
		return w.snapshot(faas.RuntimeNative)
	}
	two := w.pick(func(s *saved) bool { return native(s) && s != one })
	if two == nil {
		return w.snapshot(faas.RuntimeNative)
	}
	newer := one
	if two.id > one.id {
		newer = two
	}
	var made api.MergeResponse
	err := w.during(phaseMerge, func() error {
		return w.in.call(http.MethodPost, "/api/v1/branches/merge", map[string]any{"branch_ids": []string{one.id, two.id}, "merge_strategy": faas.MergeLatest}, &made)
	})
	if err == nil {
		w.acknowledge(&saved{id: made.SnapshotID, token: newer.token, runtime: newer.runtime})
	}
	return err
}

// remove removes an old snapshot, with what descends from it, and collects.
func (w *work) remove() error {
	w.mu.Lock()
	var victim *saved
	if len(w.acked) > 6 {
		victim = w.acked[w.random.IntN(len(w.acked)/2)]
		victim.removing = true
	}
	w.mu.Unlock()
	return w.during(phaseGC, func() error {
		if victim != nil {
			var gone api.Removed
			err := w.in.call(http.MethodDelete, api.PathSnapshots+"/"+victim.id, nil, &gone)
			var refused *refusal
			switch {
			case err == nil:
				w.forget(gone.Removed...)
			case errors.As(err, &refused) && refused.status == http.StatusConflict:
				w.mu.Lock()
				victim.removing = false // others descend from it
				w.mu.Unlock()
			case errors.As(err, &refused) && refused.status == http.StatusNotFound:
				w.forget(victim.id)
			default:
				return err
			}
		}
		return w.in.call(http.MethodPost, api.PathSnapshotGC, nil, nil)
	})
}

func (w *work) forget(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []*saved
	for _, s := range w.acked {
		if !contains(ids, s.id) {
			left = append(left, s)
		}
	}
	w.acked = left
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// exchange exports a snapshot, and imports what was exported before.
func (w *work) exchange() error {
	s := w.pick(func(s *saved) bool { return s.runtime == faas.RuntimeNative })
	if s == nil {
		return w.snapshot(faas.RuntimeNative)
	}
	w.mu.Lock()
	have := len(w.streams)
	w.mu.Unlock()
	if have < 3 {
		var out bytes.Buffer
		if err := w.in.call(http.MethodGet, api.PathSnapshots+"/"+s.id+"/export", nil, &out); err != nil {
			return err
		}
		w.mu.Lock()
		w.streams, w.streamOf = append(w.streams, out.Bytes()), append(w.streamOf, s)
		w.mu.Unlock()
	}
	w.mu.Lock()
	i := w.random.IntN(len(w.streams))
	stream, of := w.streams[i], w.streamOf[i]
	w.mu.Unlock()
	var made api.Snapshot
	err := w.during(phaseImport, func() error {
		return w.in.call(http.MethodPost, api.PathSnapshotImport+"?name=imported", bytes.NewReader(stream), &made)
	})
	if err == nil {
		w.acknowledge(&saved{id: made.ID, token: of.token, runtime: of.runtime})
	}
	return err
}

// run does work of a kind until told to stop, or until the daemon is gone.
func (w *work) run(stop <-chan struct{}, interrupted *atomic.Bool, do func() error) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		err := do()
		var refused *refusal
		switch {
		case err == nil:
		case errors.Is(err, errWrong):
			w.wrong("%v", err)
		case errors.Is(err, errGone):
			return
		case interrupted.Load(), errors.As(err, &refused) && refused.status == http.StatusConflict, errors.As(err, &refused) && refused.status == http.StatusNotFound:
			// Something was killed or full, or what it was about was removed.
			<-time.After(10 * time.Millisecond)
		default:
			w.wrong("%v", err)
			return
		}
	}
}
