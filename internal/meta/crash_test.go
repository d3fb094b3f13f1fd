package meta

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// crashDir, when set, makes the test binary the process that is killed.
const crashDir = "FAAS_META_CRASH_DIR"

// heirDir, when set, makes it the process whose lock has an heir.
const heirDir = "FAAS_META_HEIR_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(heirDir); dir != "" {
		fmt.Fprintln(os.Stderr, leaveHeir(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(crashDir); dir != "" {
		if err := recordForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// recordForever records executions from several goroutines and acknowledges
// each event on standard output once the store has taken it.
func recordForever(dir string) error {
	s, err := Open(context.Background(), dir, Options{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 4 {
		go func() {
			for {
				exec := running("acme")
				if err := s.Begin(context.Background(), exec); err != nil {
					failed <- err
				}
				fmt.Printf("begun %s\n", exec.ID)
				end := finished(exec)
				end.Result.Stdout = make([]byte, rand.IntN(MaxOutput/4))
				if err := s.End(end); err != nil {
					failed <- err
				}
				fmt.Printf("ended %s\n", exec.ID)
			}
		}()
	}
	return <-failed
}

// TestNothingAcknowledgedIsMissing kills recording processes, two at a time on
// one directory, at random moments; a third opens it in between. What they
// acknowledged is found: ended, or lost when only its begin was.
func TestNothingAcknowledgedIsMissing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acknowledged := map[string]string{}
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for range rounds {
		var (
			mu       sync.Mutex
			children sync.WaitGroup
		)
		for range 2 {
			after := 1 + random.IntN(1000) // lines
			children.Go(func() {
				for _, line := range killAfter(t, dir, after) {
					word, id, _ := strings.Cut(line, " ")
					mu.Lock()
					if acknowledged[id] != "ended" {
						acknowledged[id] = word
					}
					mu.Unlock()
				}
			})
		}
		children.Wait()
	}
	s := open(t, dir)
	t.Logf("%d executions acknowledged, the last start recovered %+v", len(acknowledged), s.Recovered())
	counts := map[faas.ExecutionStatus]int{}
	for id, word := range acknowledged {
		got, err := s.Execution(t.Context(), "acme", id)
		if err != nil {
			t.Fatalf("%s, acknowledged as %s: %v", id, word, err)
		}
		counts[got.Status]++
		if word == "ended" && (got.Status != faas.ExecutionSucceeded || got.Result == nil) {
			t.Errorf("%s ended, its record is %s", id, got.Status)
		}
		if got.Status == faas.ExecutionRunning {
			t.Errorf("%s is still said to run", id)
		}
	}
	t.Logf("found %v", counts)
	if counts[faas.ExecutionSucceeded] == 0 {
		t.Error("no execution ended before a kill: the test shows nothing")
	}
	if files := journalFiles(t, dir); len(files) != 2 {
		t.Errorf("journals left: %v", files)
	}
}

// killAfter starts a recording process, kills it when it has acknowledged a
// number of events, and returns every whole line that it wrote.
func killAfter(t *testing.T, dir string, lines int) []string {
	self, err := os.Executable()
	if err != nil {
		t.Error(err)
		return nil
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	var got []string
	reader := bufio.NewReader(out)
	for {
		line, err := reader.ReadString('\n')
		if err == nil {
			got = append(got, strings.TrimSpace(line))
		}
		if len(got) == lines {
			cmd.Process.Kill() //nolint:errcheck // what it wrote before is still read
		}
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	if len(got) < lines {
		t.Errorf("the process ended by itself after %d lines", len(got))
	}
	return got
}

// leaveHeir records an execution, starts a process that has the journal's lock
// too for a while, as one that was about to execute its program would, and is
// killed.
func leaveHeir(dir string) error {
	s, err := Open(context.Background(), dir, Options{})
	if err != nil {
		return err
	}
	exec := running("acme")
	if err := s.Begin(context.Background(), exec); err != nil {
		return err
	}
	heir, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "sleep 0.3"},
		&os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, nil, nil, s.journal.lock}})
	if err != nil {
		return err
	}
	fmt.Println(exec.ID)
	if err := heir.Release(); err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := self.Kill(); err != nil {
		return err
	}
	select {}
}

// TestHeirOfALockHidesNothing kills a process whose lock outlives it.
func TestHeirOfALockHidesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP all: no process inherits a lock here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr = append(os.Environ(), heirDir+"="+dir), os.Stderr
	out, err := cmd.Output()
	if id := strings.TrimSpace(string(out)); id == "" || err == nil {
		t.Fatalf("no process was killed: %q, %v", out, err)
	}
	s := open(t, dir)
	got, err := s.Execution(t.Context(), "acme", strings.TrimSpace(string(out)))
	if err != nil || got.Status != faas.ExecutionLost {
		t.Errorf("%+v, %v", got, err)
	}
}
