//go:build linux

package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// output runs a command and returns its standard output.
func output(t *testing.T, c *guest.Client, cmd guest.Command) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	exit, err := c.Run(testContext(t), cmd, nil, &stdout, &stderr)
	if err != nil || exit.Code != 0 {
		t.Fatalf("%v: exit %+v, %v, stderr %q", cmd.Args, exit, err, &stderr)
	}
	return stdout.String()
}

func TestCommandNames(t *testing.T) {
	_, dial := newAgent(t)
	c := guest.NewClient(dial, guest.Options{Secret: secret})
	defer c.Close()
	for _, tt := range []struct {
		args  []string
		cause error
	}{
		{[]string{"no-such-command"}, guest.ErrCommandNotFound},
		{[]string{"/no/such/command"}, guest.ErrCommandNotFound},
		{[]string{"/etc/passwd"}, guest.ErrCommandNotExecutable},
		{[]string{"/etc"}, guest.ErrCommandNotExecutable},
		{nil, nil},
	} {
		_, err := c.Run(testContext(t), guest.Command{Args: tt.args}, nil, nil, nil)
		var e *faas.Error
		if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument || e.Field != "command" {
			t.Errorf("%q: %v", tt.args, err)
		}
		if tt.cause != nil && !errors.Is(err, tt.cause) {
			t.Errorf("%q: %v is not %v", tt.args, err, tt.cause)
		}
	}
	if got := output(t, c, guest.Command{Args: []string{"sh", "-c", "echo $PATH"}, Env: []string{"PATH=/bin:/own"}}); got != "/bin:/own\n" {
		t.Errorf("PATH = %q", got)
	}
}

func TestSignalsAndExits(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{Args: []string{"sh", "-c", "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.01; done"}})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		line := make([]byte, 6)
		if _, err := io.ReadFull(e.Stdout, line); err != nil || string(line) != "ready\n" {
			t.Fatal(string(line), err)
		}
		if err := e.Signal(ctx, syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(e.Stdout)
		if err != nil || string(rest) != "got\n" {
			t.Fatal(string(rest), err)
		}
		if exit, err := e.Wait(ctx); err != nil || exit.Code != 7 {
			t.Fatal(exit, err)
		}
		exit, err := c.Run(ctx, guest.Command{Args: []string{"sh", "-c", "kill -9 $$"}}, nil, nil, nil)
		if err != nil || exit.Code != 137 || exit.Signal != "SIGKILL" {
			t.Fatal(exit, err)
		}
	})
}

func TestTimeoutKillsEverything(t *testing.T) {
	p := startProgram(t)
	c := p.client(false)
	// A daemon that left its parent, its session and its environment.
	script := `(setsid env -i sh -c 'sleep 1000 & exec sleep 1000' >/dev/null 2>&1 &) ; sleep 1000`
	start := time.Now()
	exit, err := c.Run(testContext(t), guest.Command{Args: []string{"sh", "-c", script}, Timeout: 300 * time.Millisecond}, nil, nil, nil)
	if err != nil || !exit.TimedOut || exit.Signal != "SIGKILL" {
		t.Fatal(exit, err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	assertOnlyAgent(t, c)
}

// assertOnlyAgent checks that nothing but the agent runs.
func assertOnlyAgent(t *testing.T, c *guest.Client) {
	t.Helper()
	list, err := c.Processes(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Log("declared skip: without root the agent sees the whole machine's processes")
		return
	}
	for _, p := range list {
		if p.PID != 1 && p.State != "Z" {
			t.Errorf("left over: %+v", p)
		}
	}
}

func TestCancelKillsEverything(t *testing.T) {
	for _, multiplex := range []bool{false, true} {
		t.Run(fmt.Sprint("multiplex=", multiplex), func(t *testing.T) {
			p := startProgram(t)
			c := p.client(multiplex)
			ctx, cancel := context.WithCancel(testContext(t))
			e, err := c.Start(ctx, guest.Command{Args: []string{"sh", "-c", "sleep 1000 & setsid sleep 1000 & echo on; wait"}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(e.Stdout, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			cancel()
			exit, err := e.Wait(testContext(t))
			if !errors.Is(err, context.Canceled) || exit.Signal != "SIGKILL" {
				t.Fatal(exit, err)
			}
			assertOnlyAgent(t, c)
		})
	}
}

func TestLostHostKillsEverything(t *testing.T) {
	p := startProgram(t)
	c := p.client(false)
	e, err := c.Start(testContext(t), guest.Command{Args: []string{"sh", "-c", "sleep 1000 & setsid sleep 1000 & echo on; wait"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(e.Stdout, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	other := p.client(false)
	waitFor(t, func() bool {
		list, err := other.Processes(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, pr := range list {
			if strings.Contains(strings.Join(pr.Command, " "), "sleep 1000") && os.Getuid() == 0 {
				return false
			}
		}
		return true
	})
}

// waitFor waits for a condition.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come to hold")
		}
		time.Sleep(5 * time.Millisecond) // between looks
	}
}

func TestRunDoesNotWaitForWhatIsLeftBehind(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		start := time.Now()
		if got := output(t, c, guest.Command{Args: []string{"sh", "-c", "(sleep 0.1; echo late) & sleep 20 & echo early"}}); got != "early\nlate\n" {
			t.Errorf("output %q", got)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestTerminal(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{
			Args: []string{"sh", "-c", "tty >/dev/null && stty size; read x; stty size; echo got $x; exit 5"},
			TTY:  &guest.WindowSize{Cols: 80, Rows: 24}, Stdin: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		line := make([]byte, len("24 80\r\n"))
		if _, err := io.ReadFull(e.Stdout, line); err != nil || string(line) != "24 80\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if err := e.Resize(ctx, guest.WindowSize{Cols: 100, Rows: 30}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e.Stdin, "word\n"); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(e.Stdout)
		if err != nil || !strings.HasSuffix(string(rest), "30 100\r\ngot word\r\n") {
			t.Fatalf("%q, %v", rest, err)
		}
		if exit, err := e.Wait(ctx); err != nil || exit.Code != 5 {
			t.Fatal(exit, err)
		}
	})
}

func TestTerminalInterrupt(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{
			Args: []string{"sh", "-c", "echo on; exec sleep 100"}, TTY: &guest.WindowSize{Cols: 80, Rows: 24}, Stdin: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if _, err := io.ReadFull(e.Stdout, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e.Stdin, "\x03"); err != nil {
			t.Fatal(err)
		}
		if exit, err := e.Wait(ctx); err != nil || exit.Signal != "SIGINT" {
			t.Fatal(exit, err)
		}
	})
}

func TestChildHasThreeDescriptorsAndNoPrivileges(t *testing.T) {
	p := startProgram(t)
	c := p.client(false)
	if got := output(t, c, guest.Command{Args: []string{"sh", "-c", "ls /proc/$$/fd | tr '\\n' ' '"}}); !strings.HasPrefix(got, "0 1 2 ") || len(strings.Fields(got)) > 4 {
		t.Errorf("descriptors %q", got)
	}
	status := output(t, c, guest.Command{Args: []string{"cat", "/proc/self/status"}})
	if !strings.Contains(status, "NoNewPrivs:\t1") {
		t.Errorf("new privileges are possible:\n%s", status)
	}
	if os.Getuid() == 0 {
		for _, want := range []string{"CapInh:\t0000000000000000", "CapEff:\t00000000000004fb", "CapBnd:\t00000000000004fb", "CapAmb:\t0000000000000000"} {
			if !strings.Contains(status, want) {
				t.Errorf("no %q in\n%s", want, status)
			}
		}
		status = output(t, c, guest.Command{Args: []string{"cat", "/proc/self/status"}, User: "nobody"})
		if !strings.Contains(status, "CapEff:\t0000000000000000") || !strings.Contains(status, "CapPrm:\t0000000000000000") {
			t.Errorf("nobody has capabilities:\n%s", status)
		}
		if exit, err := c.Run(testContext(t), guest.Command{Args: []string{"sh", "-c", "cat /proc/1/mem || cat /proc/1/environ || readlink /proc/1/fd/0"}}, nil, nil, nil); err != nil || exit.Code == 0 {
			t.Errorf("the agent can be read: %+v, %v", exit, err)
		}
	}
}

func TestAgentSurvivesItsChildren(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("declared skip: needs root for a process namespace")
	}
	p := startProgram(t)
	c := p.client(false)
	script := "for s in HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STOP TSTP CONT XCPU SYS; do kill -$s 1; done; true"
	output(t, c, guest.Command{Args: []string{"sh", "-c", script}})
	if _, err := c.Hello(testContext(t)); err != nil {
		t.Fatal(err)
	}
	output(t, c, guest.Command{Args: []string{"sh", "-c", "kill -TERM -1 || true"}})
}

func TestUsers(t *testing.T) {
	p := startProgram(t)
	c := p.client(false)
	if os.Getuid() != 0 {
		t.Skip("declared skip: needs root to change users")
	}
	for user, want := range map[string]string{
		"":             "0:0",
		"nobody":       "65534:65534",
		"1234":         "1234:0",
		"1234:56":      "1234:56",
		"daemon:adm":   "1:4",
		"root:nogroup": "0:65534",
	} {
		if got := output(t, c, guest.Command{Args: []string{"sh", "-c", "echo $(id -u):$(id -g)"}, User: user}); strings.TrimSpace(got) != want {
			t.Errorf("user %q: %q, want %q", user, got, want)
		}
	}
	_, err := c.Run(testContext(t), guest.Command{Args: []string{"true"}, User: "no-such-user"}, nil, nil, nil)
	var e *faas.Error
	if !errors.As(err, &e) || e.Field != "user" {
		t.Error(err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("declared skip: needs root for a process namespace")
	}
	p := startProgram(t)
	c := p.client(false)
	output(t, c, guest.Command{Args: []string{"sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do (setsid sleep 0.0$i &) ; done"}})
	waitFor(t, func() bool {
		list, err := c.Processes(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return len(list) == 1
	})
}
