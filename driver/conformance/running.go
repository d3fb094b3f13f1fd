package conformance

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/faas-platform/faas/guest"
)

// running is a command whose output is collected while it runs.
type running struct {
	*guest.Exec
	stdout, stderr head
	read           int // bytes of stdout that await has seen
	done           chan struct{}
}

// start starts a command and collects its output until it is closed.
func (b *box) start(ctx context.Context, cmd guest.Command) (*running, error) {
	e, err := b.client.Start(ctx, cmd)
	if err != nil {
		return nil, fmt.Errorf("start %q: %w", cmd.Args, err)
	}
	r := &running{Exec: e, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		stderr := make(chan struct{})
		go func() {
			defer close(stderr)
			io.Copy(&r.stderr, e.Stderr) //nolint:errcheck // ends with the command
		}()
		io.Copy(&r.stdout, e.Stdout) //nolint:errcheck // ends with the command
		<-stderr
	}()
	return r, nil
}

// await waits until the command has printed want after what earlier calls
// waited for.
func (r *running) await(ctx context.Context, want string) error {
	return eventually(ctx, func() error {
		out := r.stdout.String()[r.read:]
		at := strings.Index(out, want)
		if at < 0 {
			return fmt.Errorf("stdout %q (stderr %q) lacks %q", out, r.stderr.String(), want)
		}
		r.read += at + len(want)
		return nil
	})
}

// Close kills the command when it still runs and waits for the collectors.
func (r *running) Close() error {
	err := r.Exec.Close()
	<-r.done
	return err
}
