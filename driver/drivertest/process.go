package drivertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/conformance"
	"github.com/faas-platform/faas/guest"
)

// The environment by which a test binary is told to act as another daemon.
const (
	envChild  = "FAAS_DRIVERTEST_CHILD" // recover, create or churn
	envState  = "FAAS_DRIVERTEST_STATE"
	envHandle = "FAAS_DRIVERTEST_HANDLE"
)

// said marks the lines of a child's output that are meant for its parent.
const said = "drivertest: "

func (s *suite) processChecks(test string) []conformance.Check {
	needs := []faas.Feature{faas.FeatureRecover}
	checks := []conformance.Check{
		{Name: "process/recover-in-another", Features: needs, Run: s.recoverInAnother},
		{Name: "process/recover-after-kill", Features: needs, Run: s.recoverAfterKill},
		{Name: "process/sweep-after-kill", Features: needs, Timeout: 3 * time.Minute, Run: s.sweepAfterKill},
	}
	for i := range checks {
		run := checks[i].Run
		checks[i].Run = func(ctx context.Context, env *conformance.Env) error {
			if s.oneProcess != "" {
				return conformance.Skip(s.oneProcess)
			}
			return run(context.WithValue(ctx, testName{}, test), env)
		}
	}
	return checks
}

// testName is the context's key for the name of the test that runs the suite.
type testName struct{}

// child is the test binary, started again as another daemon.
type child struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner
	stderr errorOutput
	log    []string
}

// errorOutput collects what a process that runs writes.
type errorOutput struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *errorOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *errorOutput) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// startChild runs this very test in a process of its own, in another role.
func (s *suite) startChild(ctx context.Context, role string, handle *driver.Handle) (*child, error) {
	name, _ := ctx.Value(testName{}).(string)
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, executable, "-test.run=^"+name+"$", "-test.v", "-test.timeout=120s")}
	c.cmd.Env = append(os.Environ(), envChild+"="+role, envState+"="+s.env.StateDir)
	if handle != nil {
		text, err := json.Marshal(handle)
		if err != nil {
			return nil, err
		}
		c.cmd.Env = append(c.cmd.Env, envHandle+"="+string(text))
	}
	c.cmd.Stderr = &c.stderr
	// A sandbox's processes may inherit the output; they must not hold up Wait.
	c.cmd.WaitDelay = 5 * time.Second
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.lines = bufio.NewScanner(out)
	c.lines.Buffer(nil, 1<<20)
	return c, c.cmd.Start()
}

// hear returns the child's next line to its parent.
func (c *child) hear() (string, error) {
	for c.lines.Scan() {
		if _, text, ok := strings.Cut(c.lines.Text(), said); ok {
			return text, nil
		}
		c.log = append(c.log, c.lines.Text())
	}
	return "", fmt.Errorf("the other process ended: %w: %s %s", errors.Join(c.lines.Err(), io.EOF), strings.Join(c.log, "\n"), c.stderr.String())
}

func (c *child) kill() {
	c.cmd.Process.Kill() //nolint:errcheck // it may have ended
	c.cmd.Wait()         //nolint:errcheck // killed
}

// actAsChild plays the role that the parent asked for, if any.
func (s *suite) actAsChild(t *testing.T) bool {
	role := os.Getenv(envChild)
	if role == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.env.Driver = s.open(t, os.Getenv(envState))
	var err error
	switch role {
	case "recover":
		err = s.childRecover(ctx)
	case "create":
		err = s.childCreate(ctx)
	case "churn":
		err = s.childChurn(ctx)
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Println(said + "error " + err.Error())
		t.Error(err)
	}
	closeDriver(t, s.env.Driver)
	return true
}

// say prints a line to the parent.
func say(format string, args ...any) { fmt.Printf(said+format+"\n", args...) }

func client(s driver.Sandbox) *guest.Client {
	return guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: s.Channel().Multiplex})
}

// ask runs a script inside and wants its output.
func ask(ctx context.Context, s driver.Sandbox, script, want string) error {
	c := client(s)
	defer c.Close() //nolint:errcheck // the answer counts
	var out bytes.Buffer
	exit, err := c.Run(ctx, guest.Command{Args: []string{"sh", "-c", script}}, nil, &out, io.Discard)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(out.String()); got != want || exit.Code != 0 {
		return fmt.Errorf("%q inside %s printed %q with exit code %d, want %q", script, s.ID(), got, exit.Code, want)
	}
	return nil
}

func (s *suite) childRecover(ctx context.Context) error {
	var h driver.Handle
	if err := json.Unmarshal([]byte(os.Getenv(envHandle)), &h); err != nil {
		return err
	}
	again, err := s.env.Driver.Recover(ctx, h)
	if err != nil {
		return err
	}
	if err := ask(ctx, again, "cat tmp/by-parent; echo child > tmp/by-child", "parent"); err != nil {
		return err
	}
	say("recovered")
	return nil
}

// childCreate makes a sandbox, tells its handle and waits to be killed.
func (s *suite) childCreate(ctx context.Context) error {
	made, err := s.env.Driver.Create(ctx, s.spec())
	if err != nil {
		return err
	}
	if err := ask(ctx, made, "echo child > tmp/by-child; echo made", "made"); err != nil {
		return err
	}
	text, err := json.Marshal(made.Handle())
	if err != nil {
		return err
	}
	say("%s", text)
	<-ctx.Done()
	return made.Destroy(context.WithoutCancel(ctx))
}

// childChurn creates and destroys, and says beforehand what it does.
func (s *suite) childChurn(ctx context.Context) error {
	for ctx.Err() == nil {
		spec := s.spec()
		say("%s", spec.ID)
		made, err := s.env.Driver.Create(ctx, spec)
		if err != nil {
			return err
		}
		if err := made.Destroy(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) spec() faas.Spec {
	image := s.env.Image
	if image == "" {
		image = faas.HostImage
	}
	return faas.Spec{
		ID: faas.NewID(faas.PrefixSandbox), Project: faas.DefaultProject, Image: image,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 256, DiskMB: 128, PIDs: 128},
		Network:   faas.NetworkPolicy{Mode: faas.NetworkNone},
	}
}

// recoverInAnother has another process use a sandbox of this one.
func (s *suite) recoverInAnother(ctx context.Context, env *conformance.Env) (err error) {
	made, err := env.Driver.Create(ctx, s.spec())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, made.Destroy(context.WithoutCancel(ctx))) }()
	if err := ask(ctx, made, "echo parent > tmp/by-parent; echo made", "made"); err != nil {
		return err
	}
	handle := made.Handle()
	c, err := s.startChild(ctx, "recover", &handle)
	if err != nil {
		return err
	}
	defer c.kill()
	line, err := c.hear()
	if err != nil {
		return err
	}
	if line != "recovered" {
		return fmt.Errorf("the other process says: %s", line)
	}
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("the other process: %w", err)
	}
	return ask(ctx, made, "cat tmp/by-child", "child")
}

// recoverAfterKill recovers the sandbox of a process that was killed.
func (s *suite) recoverAfterKill(ctx context.Context, env *conformance.Env) (err error) {
	c, err := s.startChild(ctx, "create", nil)
	if err != nil {
		return err
	}
	defer c.kill()
	line, err := c.hear()
	if err != nil {
		return err
	}
	var h driver.Handle
	if err := json.Unmarshal([]byte(line), &h); err != nil {
		return fmt.Errorf("the other process says: %s", line)
	}
	c.kill()
	again, err := env.Driver.Recover(ctx, h)
	if err != nil {
		return fmt.Errorf("recover what a killed process made: %w", err)
	}
	if err := ask(ctx, again, "cat tmp/by-child", "child"); err != nil {
		return errors.Join(err, again.Destroy(context.WithoutCancel(ctx)))
	}
	if err := again.Destroy(ctx); err != nil {
		return err
	}
	return env.NothingLeft(ctx, h.ID)
}

// killRounds is how often sweepAfterKill kills a process at a random moment
// of a sandbox's making, life and end.
const killRounds = 12

// sweepAfterKill kills a process at random moments and sweeps after it.
func (s *suite) sweepAfterKill(ctx context.Context, env *conformance.Env) error {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range killRounds {
		if err := s.killOnce(ctx, env, random); err != nil {
			return fmt.Errorf("round %d of seed %d: %w", round, seed, err)
		}
	}
	return nil
}

func (s *suite) killOnce(ctx context.Context, env *conformance.Env, random *rand.Rand) error {
	c, err := s.startChild(ctx, "churn", nil)
	if err != nil {
		return err
	}
	defer c.kill()
	first, err := c.hear()
	if err != nil {
		return err
	}
	ids := map[string]bool{first: true}
	// The first sandbox pays for what a driver does once.
	second, err := c.hear()
	if err != nil {
		return err
	}
	ids[second] = true
	select {
	case <-time.After(time.Duration(random.Int64N(int64(400 * time.Millisecond)))):
	case <-ctx.Done():
		return ctx.Err()
	}
	c.cmd.Process.Kill() //nolint:errcheck // it may have ended
	for {
		line, err := c.hear()
		if err != nil {
			break // the output ends with the process
		}
		if !faas.ValidID(faas.PrefixSandbox, line) {
			return fmt.Errorf("the other process says: %s", line)
		}
		ids[line] = true
	}
	c.kill()
	// An engine may take up a dead caller's request after a sweep has looked:
	// what it makes then carries its owner's label, and is the next sweep's.
	err = s.sweepAway(ctx, env, ids)
	if err != nil && env.Driver.Name() == faas.RuntimeDocker {
		err = s.sweepAway(ctx, env, ids)
	}
	return err
}

// sweepAway sweeps and looks that nothing is left of the sandboxes.
func (s *suite) sweepAway(ctx context.Context, env *conformance.Env, ids map[string]bool) error {
	if _, err := env.Driver.Sweep(ctx, func(id string) bool { return !ids[id] }); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for id := range ids {
		if err := env.NothingLeft(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
