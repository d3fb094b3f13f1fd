package recovery

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	poolSize = 2
	workers  = 6
	// longest is the random time before a daemon at work is stopped, at most.
	longest = 400 * time.Millisecond
	// looks is how many moments are tried for a phase that is wanted.
	looks = 60
)

var (
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the moments")
	kills = flag.Int("kills", 50, "how often the daemon is killed")
)

// The daemon is stopped at random moments. While it is stopped its records
// tell in which phases its sandboxes are; when the phase whose turn it is is
// among them it is killed, otherwise it goes on to the next moment. What was
// there is then looked for after the restart.
func TestKilledDaemonLeavesNothing(t *testing.T) {
	requireNative(t)
	t.Logf("seed %d (-seed to repeat)", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	in := install(t)
	hits, records := map[string]int{}, map[string]int{}
	in.launch()
	t.Cleanup(in.clear)
	in.ready()
	for round := range *kills {
		wanted := phases()[round%len(phases())]
		var before scene
		var clients []known
		if wanted == phaseStarting {
			before = in.killStarting(random, hits)
		} else {
			before, clients = in.killWorking(random, wanted, hits)
		}
		in.launch()
		in.ready()
		in.nothingOf(before)
		in.everyExecution(clients, records)
		if t.Failed() {
			t.Fatalf("after kill %d (%v)\n%s", round+1, before.phases, in.log())
		}
	}
	t.Logf("kills that hit each phase: %v; executions: %v", hits, records)
	for _, phase := range phases() {
		if hits[phase] == 0 {
			t.Errorf("no kill hit the phase %q", phase)
		}
	}
	for _, status := range []faas.ExecutionStatus{faas.ExecutionSucceeded, faas.ExecutionLost} {
		if records[string(status)] == 0 {
			t.Errorf("no execution is on record as %s", status)
		}
	}
	last := in.look()
	in.terminate()
	in.nothingOf(last)
	if left := in.sandboxDirs(); len(left) > 0 {
		t.Errorf("after an orderly end there are directories: %v", left)
	}
}

// requireNative skips where nothing can be isolated, unless it must be.
func requireNative(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), string(faas.RuntimeNative)) {
		return
	}
	t.Skip("the phases of a sandbox can be told by root only")
}

// killStarting kills the daemon, and the next one again while it comes up.
func (in *installation) killStarting(random *rand.Rand, hits map[string]int) scene {
	in.t.Helper()
	for range looks {
		before := in.look()
		in.kill()
		in.launch()
		answered := in.answersWithin(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
		in.signal(syscall.SIGSTOP)
		s := in.look()
		s.sandboxes = append(s.sandboxes, before.sandboxes...)
		s.processes = append(s.processes, before.processes...)
		in.kill()
		if !answered {
			hits[phaseStarting]++
			s.phases = []string{phaseStarting}
			return s
		}
		in.launch()
		in.ready()
		in.nothingOf(s)
	}
	in.t.Fatal("the daemon was never found starting")
	return scene{}
}

// killWorking kills the daemon while clients use it.
func (in *installation) killWorking(random *rand.Rand, wanted string, hits map[string]int) (scene, []known) {
	in.t.Helper()
	clients := startLoad(in)
	var s scene
	for range looks {
		moment(random, longest)
		in.signal(syscall.SIGSTOP)
		s = in.look()
		if slices.Contains(s.phases, wanted) {
			break
		}
		in.signal(syscall.SIGCONT)
	}
	in.kill()
	for _, phase := range s.phases {
		hits[phase]++
	}
	return s, clients.finish()
}

// moment lets a random time pass: the one thing that is waited for here.
func moment(random *rand.Rand, most time.Duration) {
	<-time.After(time.Duration(random.Int64N(int64(most))))
}

// nothingOf fails when anything of an earlier scene is still there.
func (in *installation) nothingOf(before scene) {
	in.t.Helper()
	within(in.t, 20*time.Second, "what a killed daemon left is gone", func() error {
		var errs []error
		for _, p := range before.processes {
			if p.pid != in.cmd.Process.Pid && startOf(p.pid) == p.start {
				errs = append(errs, fmt.Errorf("process %d lives", p.pid))
			}
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		errs = append(errs, err)
		for _, id := range before.sandboxes {
			if bytes.Contains(mounts, []byte(id)) {
				errs = append(errs, fmt.Errorf("sandbox %s has a mount", id))
			}
		}
		errs = append(errs, named("/sys/fs/cgroup", before.sandboxes), named(in.dir, before.sandboxes))
		return errors.Join(errs...)
	})
}

// named returns an error for every file or directory whose name holds an id.
func named(root string, ids []string) error {
	var errs []error
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it went while we looked
		}
		for _, id := range ids {
			if strings.Contains(d.Name(), id) {
				errs = append(errs, fmt.Errorf("%s is there", path))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

// everyExecution looks up what the clients know in the daemon's records.
func (in *installation) everyExecution(clients []known, counts map[string]int) {
	in.t.Helper()
	records := in.executions(len(clients))
	for _, k := range clients {
		record, found := records[k.token]
		counts[string(record.Status)]++ // "": neither acknowledged nor on record
		switch {
		case k.wrong != "":
			in.t.Errorf("%s was not run: %s", k.token, k.wrong)
		case found && record.Status == faas.ExecutionFailed:
			in.t.Errorf("%s failed: %s, %+v", record.ID, record.Error, record.Result)
		case !found && (k.begun || k.final != nil):
			in.t.Errorf("%s was acknowledged and is not on record", k.token)
		case found && record.Status == faas.ExecutionRunning:
			in.t.Errorf("%s is on record as running, and nothing of it runs", record.ID)
		case k.final == nil:
		case record.ID != k.final.RequestID:
			in.t.Errorf("%s was answered as %s and is on record as %s", k.token, k.final.RequestID, record.ID)
		case k.final.ExitCode != 0 || record.Status != faas.ExecutionSucceeded:
			in.t.Errorf("%s was answered with exit code %d and is on record as %s", record.ID, k.final.ExitCode, record.Status)
		}
	}
}

// executions returns the newest records by the token in their command, a page
// more than the clients can have made.
func (in *installation) executions(count int) map[string]faas.Execution {
	in.t.Helper()
	found := map[string]faas.Execution{}
	for cursor, first := "", true; first || (cursor != "" && len(found) <= count); first = false {
		var page api.ExecutionList
		if err := in.get(api.PathExecutions+"?limit=1000&cursor="+cursor, &page); err != nil {
			in.t.Fatal(err)
		}
		for _, e := range page.Executions {
			if len(e.Command) > 0 {
				found[e.Command[len(e.Command)-1]] = e
			}
		}
		cursor = page.NextCursor
	}
	return found
}
