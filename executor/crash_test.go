package executor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest/fake"
)

// crashDir, when set, makes the test binary the process that is killed.
const crashDir = "FAAS_EXECUTOR_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := executeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// executeForever runs commands from several goroutines and acknowledges begin
// and end of each on standard output, as a front door would.
func executeForever(dir string) error {
	sandboxes, err := os.MkdirTemp(dir, "sandboxes-")
	if err != nil {
		return err
	}
	m := fake.NewMachine(sandboxes, faas.RuntimeNative)
	m.Offer(faas.FeatureNetworkNone)
	e, err := New(context.Background(), Options{DataDir: dir, Drivers: []driver.Driver{m.Open()}})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range 3 {
		go func() {
			for code := 0; ; code = (code + 1) % 3 {
				req := shell(fmt.Sprintf("echo out; exit %d", code))
				req.Started = func(x faas.Execution) { fmt.Printf("begun %s\n", x.ID) }
				got, err := e.Execute(context.Background(), req)
				if err != nil {
					failed <- err
					return
				}
				fmt.Printf("ended %s %d\n", got.ID, got.ExitCode)
			}
		}()
	}
	return <-failed
}

// TestKilledDaemon kills executing processes at random moments. Every
// execution that one of them acknowledged is found by the next start: with its
// outcome if that was answered, otherwise with its outcome or as lost.
func TestKilledDaemon(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	var lost, ended int
	for range rounds {
		answers := executeUntilKilled(t, dir, 1+random.IntN(60))
		e := newExecutor(t, newMachine(t), func(o *Options) { o.DataDir = dir })
		for id, exit := range answers {
			got, err := e.Execution(t.Context(), "", id)
			switch {
			case err != nil:
				t.Errorf("%s was acknowledged: %v", id, err)
			case exit != "" && (got.Result == nil || fmt.Sprint(got.Result.ExitCode) != exit || string(got.Result.Stdout) != "out\n"):
				t.Errorf("%s was answered with exit code %s, recorded is %+v, %+v", id, exit, got, got.Result)
			case got.Status == faas.ExecutionRunning:
				t.Errorf("%s is still said to run", id)
			case got.Status == faas.ExecutionLost:
				lost++
				if err := e.Cancel(t.Context(), "", id); !errors.Is(err, faas.ErrFailedPrecondition) {
					t.Errorf("cancelling a lost one: %v", err)
				}
			default:
				ended++
			}
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d ended, %d lost", ended, lost)
	if lost == 0 {
		t.Error("no execution was lost: the test shows nothing")
	}
}

// executeUntilKilled starts an executing process, kills it after a number of
// acknowledgements and returns all that it gave: the exit code of each
// execution, "" for one of which only the begin was acknowledged.
func executeUntilKilled(t *testing.T, dir string, lines int) map[string]string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{}
	reader := bufio.NewReader(out)
	for n := 1; ; n++ {
		line, err := reader.ReadString('\n')
		if words := strings.Fields(line); err == nil && len(words) > 1 {
			answers[words[1]] = strings.Join(words[2:], "")
		}
		if n == lines {
			cmd.Process.Kill() //nolint:errcheck // what it wrote before is still read
		}
		if err != nil {
			if err != io.EOF || n < lines {
				t.Errorf("after %d lines: %v", n, err)
			}
			break
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	return answers
}
