package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// box is a sandbox of a check with a client to its agent.
type box struct {
	driver.Sandbox
	client *guest.Client
}

// spec returns a complete Spec with modest limits.
func (e *Env) spec(change ...func(*faas.Spec)) faas.Spec {
	s := faas.Spec{
		ID:        faas.NewID(faas.PrefixSandbox),
		Project:   faas.DefaultProject,
		Image:     e.Image,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 256, DiskMB: 128, PIDs: 128},
		Network:   faas.NetworkPolicy{Mode: faas.NetworkNone},
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// create makes a sandbox that lives until the check's end.
func (e *Env) create(ctx context.Context, change ...func(*faas.Spec)) (*box, error) {
	return e.createWith(ctx, e.Driver, e.spec(change...))
}

func (e *Env) createWith(ctx context.Context, d driver.Driver, s faas.Spec) (*box, error) {
	sandbox, err := d.Create(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("create sandbox: %w", err)
	}
	return e.adopt(sandbox), nil
}

// adopt connects a client to a sandbox and has it destroyed at the check's end.
func (e *Env) adopt(s driver.Sandbox) *box {
	b := &box{Sandbox: s, client: connect(s, s.Channel().Secret)}
	e.made.mu.Lock()
	defer e.made.mu.Unlock()
	e.made.boxes = append(e.made.boxes, b)
	return b
}

// boxes are the sandboxes of one check.
type boxes struct {
	mu    sync.Mutex
	boxes []*box
	dirs  []string // removed at the check's end
}

func connect(s driver.Sandbox, secret []byte) *guest.Client {
	return guest.NewClient(s.Dial, guest.Options{Secret: secret, Multiplex: s.Channel().Multiplex})
}

// cleanUp destroys what the check made, also when its context has ended.
func (e *Env) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	e.made.mu.Lock()
	defer e.made.mu.Unlock()
	var errs []error
	for _, b := range e.made.boxes {
		b.client.Close() //nolint:errcheck // the sandbox goes away
		if err := b.Destroy(ctx); err != nil {
			errs = append(errs, fmt.Errorf("clean up %s: %w", b.ID(), err))
		}
	}
	e.made.boxes = nil
	for _, dir := range e.made.dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	e.made.dirs = nil
	return errors.Join(errs...)
}

// output is what a command that ran to its end left.
type output struct {
	guest.Exit
	stdout, stderr string
}

// run runs a command to its end with the first MiB of its output kept.
func (b *box) run(ctx context.Context, cmd guest.Command, stdin io.Reader) (output, error) {
	var stdout, stderr head
	cmd.Stdin = stdin != nil
	exit, err := b.client.Run(ctx, cmd, stdin, &stdout, &stderr)
	out := output{Exit: exit, stdout: stdout.String(), stderr: stderr.String()}
	if err != nil {
		return out, fmt.Errorf("run %q: %w", cmd.Args, err)
	}
	return out, nil
}

// shell runs a script by sh in the root directory. Scripts name files relative
// to it where they can: a test double has its root elsewhere.
func (b *box) shell(ctx context.Context, script string) (output, error) {
	return b.run(ctx, guest.Command{Args: []string{"sh", "-c", script}}, nil)
}

// expect runs a script that must succeed and print exactly what is wanted,
// white space at the ends aside.
func (b *box) expect(ctx context.Context, script, want string) error {
	out, err := b.shell(ctx, script)
	if err != nil {
		return err
	}
	if out.Code != 0 || strings.TrimSpace(out.stdout) != want {
		return fmt.Errorf("%q: exit code %d, stdout %q, stderr %q; want exit code 0, stdout %q",
			script, out.Code, out.stdout, out.stderr, want)
	}
	return nil
}

// refuse runs a script that must fail.
func (b *box) refuse(ctx context.Context, what, script string) error {
	out, err := b.shell(ctx, script)
	if err != nil {
		return err
	}
	if out.Code == 0 {
		return fmt.Errorf("%s: %q succeeded inside the sandbox (stdout %q)", what, script, out.stdout)
	}
	return nil
}

// alive says that the sandbox still does its work.
func (b *box) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := b.expect(ctx, "echo alive", "alive"); err != nil {
		return fmt.Errorf("sandbox %s no longer works: %w", b.ID(), err)
	}
	return nil
}

// head keeps the first MiB written to it. It is safe for concurrent use.
type head struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := 1<<20 - h.buf.Len(); room > 0 {
		h.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.buf.String()
}

// eventually waits until the condition holds, asking again every few
// milliseconds, and returns the condition's last error when ctx ends first.
func eventually(ctx context.Context, condition func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (waited until: %w)", err, ctx.Err())
		case <-tick.C:
		}
	}
}

// parallel runs n functions at once and joins their errors.
func parallel(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wantKind says that err is of one of the kinds.
func wantKind(what string, err error, kinds ...faas.Kind) error {
	if err == nil {
		return fmt.Errorf("%s: no error, want one of kind %v", what, kinds)
	}
	var e *faas.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %T %v, want a *faas.Error", what, err, err)
	}
	for _, k := range kinds {
		if e.Kind == k {
			return nil
		}
	}
	return fmt.Errorf("%s: error of kind %s (%v), want kind %v", what, e.Kind, err, kinds)
}

// firstError runs steps in order and returns the first error.
func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
