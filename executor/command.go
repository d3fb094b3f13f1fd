package executor

import (
	"bytes"
	"context"
	"path"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/pool"
)

const (
	filesTimeout     = time.Minute
	filesAtOnce      = 8
	quickStatsWait   = 250 * time.Millisecond // when nothing hints at a limit
	guestStatsWait   = 2 * time.Second
	sandboxDeathWait = time.Second
)

// runIn runs the request's command in its sandbox. stop ends the context.
func (e *Executor) runIn(ctx context.Context, stop context.CancelCauseFunc, x *execution, s *pool.Sandbox) (*faas.Result, error) {
	config := s.Image.Config
	cmd := guest.Command{Args: x.req.Command, Env: x.env, Dir: x.req.WorkingDir, User: x.req.User, Timeout: x.req.Timeout}
	if cmd.Dir == "" {
		cmd.Dir = config.WorkingDir
	}
	if cmd.User == "" {
		cmd.User = config.User
	}
	if x.req.TTY != nil {
		cmd.TTY = &guest.WindowSize{Cols: x.req.TTY.Cols, Rows: x.req.TTY.Rows}
	}
	if err := writeFiles(ctx, s.Client, cmd.Dir, cmd.User, x.req.Files); err != nil {
		return nil, e.causeOf(ctx, err)
	}
	x.outputs.open(x.req)
	overdue := time.AfterFunc(x.req.Timeout+backstop, func() { stop(errBackstop) })
	exit, err := runCommand(ctx, s.Client, cmd, &x.req, &x.outputs)
	overdue.Stop()
	return e.outcome(ctx, x, s, exit, err)
}

// writeFiles puts a request's files in place, several at a time.
func writeFiles(ctx context.Context, client *guest.Client, dir, user string, files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, filesTimeout)
	defer cancel()
	var (
		writers sync.WaitGroup
		once    sync.Once
		failed  error
		places  = make(chan struct{}, filesAtOnce)
	)
	for name, content := range files {
		places <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		writers.Go(func() {
			defer func() { <-places }()
			_, err := client.WriteFile(ctx, absolute(dir, name), bytes.NewReader(content),
				guest.WriteOptions{User: user, Parents: true})
			if err != nil {
				once.Do(func() {
					failed = &faas.Error{Kind: faas.KindOf(err), Op: "write the file " + clip(path.Clean(name)), Field: "files", Err: err}
					cancel()
				})
			}
		})
	}
	writers.Wait()
	if failed == nil && ctx.Err() != nil {
		return stopped(ctx, "write files")
	}
	return failed
}

// runCommand runs a command with the request's streams, and passes on signals
// and sizes of its terminal for as long as it runs.
func runCommand(ctx context.Context, client *guest.Client, cmd guest.Command, req *faas.Request, out *outputs) (guest.Exit, error) {
	if req.Resize != nil || req.Signals != nil {
		ctx, cancel := context.WithCancel(ctx)
		var forwarding sync.WaitGroup
		defer forwarding.Wait()
		defer cancel()
		cmd.Attach = func(exec *guest.Exec) {
			forwarding.Go(func() { forward(ctx, exec, req) })
		}
	}
	return client.Run(ctx, cmd, req.Stdin, &out.stdout, &out.stderr)
}

// forward passes signals and sizes on until ctx ends. What cannot be sent
// concerns a command that ends anyway.
func forward(ctx context.Context, exec *guest.Exec, req *faas.Request) {
	signals, sizes := req.Signals, req.Resize
	for signals != nil || sizes != nil {
		select {
		case <-ctx.Done():
			return
		case signal, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			exec.Signal(ctx, signal) //nolint:errcheck
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			exec.Resize(ctx, guest.WindowSize{Cols: size.Cols, Rows: size.Rows}) //nolint:errcheck
		}
	}
}

// consumption reads what the sandbox used since it became the request's. A
// command that ended well is not made to wait for a runtime that is slow to
// tell.
func consumption(s *pool.Sandbox, failed bool) (driver.Stats, error) {
	limit := quickStatsWait
	if failed {
		limit = statsTimeout
	}
	stats, err := readStats(context.Background(), s, limit)
	stats.CPUMS -= s.Baseline.CPUMS
	stats.OOMKills -= s.Baseline.OOMKills
	stats.PIDsRefused -= s.Baseline.PIDsRefused
	return stats, err
}
