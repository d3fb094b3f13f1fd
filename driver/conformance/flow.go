package conformance

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func flowChecks() []Check {
	return []Check{
		{Name: "flow/slow-reader", UserFacing: true, Run: checkSlowReader},
		{Name: "flow/slow-command", Run: checkSlowCommand},
		{Name: "flow/many-stalled", Run: checkManyStalled},
		{Name: "flow/neglected-port", Features: []faas.Feature{faas.FeaturePorts}, Program: true, Run: checkNeglectedPort},
	}
}

// growthLimit is how much either side may grow over unbounded output that
// nobody reads: its buffers, not its content.
const growthLimit = 24 << 20

// heap is the memory in use on the host's side of the channel.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// memory is the host's heap and the agent's resident set.
func (b *box) memory(ctx context.Context) (host, agent int64, err error) {
	stats, err := b.client.Stats(ctx)
	return heap(), stats.AgentRSS, err
}

// stall starts an endless writer whose output nobody reads.
func (b *box) stall(ctx context.Context) (*guest.Exec, error) {
	return b.client.Start(ctx, guest.Command{Args: []string{"cat", "/dev/zero"}})
}

// checkSlowReader leaves one stream unread while others are used to the full:
// they stay fast, nobody's memory grows, and the neglected stream has lost
// nothing when it is read at last.
func checkSlowReader(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	host, agent, err := b.memory(ctx)
	if err != nil {
		return err
	}
	stalled, err := b.client.Start(ctx, guest.Command{Args: []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero; echo end", largeOutput)}})
	if err != nil {
		return err
	}
	defer stalled.Close() //nolint:errcheck // ended or killed
	if err := b.busyNeighbours(ctx); err != nil {
		return fmt.Errorf("beside a stream that nobody reads: %w", err)
	}
	if err := b.grewLittle(ctx, host, agent); err != nil {
		return err
	}
	var n counter
	if _, err := io.Copy(&n, stalled.Stdout); err != nil {
		return fmt.Errorf("read the neglected stream: %w", err)
	}
	if n != largeOutput+4 {
		return fmt.Errorf("of %d bytes the neglected stream delivered %d", largeOutput+4, n)
	}
	return nil
}

// busyNeighbours uses other streams for a while; the slowest of its short
// commands tells whether a stalled stream holds them up.
func (b *box) busyNeighbours(ctx context.Context) error {
	slowest := time.Duration(0)
	for range 40 {
		start := time.Now()
		if err := b.expect(ctx, "echo quick", "quick"); err != nil {
			return err
		}
		slowest = max(slowest, time.Since(start))
	}
	if slowest > 3*time.Second {
		return fmt.Errorf("a short command took %v", slowest)
	}
	var n counter
	cmd := guest.Command{Args: []string{"head", "-c", fmt.Sprint(32 << 20), "/dev/zero"}}
	if _, err := b.client.Run(ctx, cmd, nil, &n, io.Discard); err != nil {
		return err
	}
	if n != 32<<20 {
		return fmt.Errorf("of %d bytes %d arrived", 32<<20, n)
	}
	return nil
}

// grewLittle wants no more than the buffers of one neglected stream, and some.
func (b *box) grewLittle(ctx context.Context, host, agent int64) error {
	return b.grewAtMost(ctx, growthLimit, host, agent)
}

func (b *box) grewAtMost(ctx context.Context, limit, host, agent int64) error {
	hostNow, agentNow, err := b.memory(ctx)
	if err != nil {
		return err
	}
	if grown := hostNow - host; grown > limit {
		return fmt.Errorf("the host's heap grew by %d MiB", grown>>20)
	}
	if grown := agentNow - agent; grown > limit {
		return fmt.Errorf("the agent grew by %d MiB", grown>>20)
	}
	return nil
}

// checkSlowCommand writes to a command that reads nothing: the write waits
// and ends with the command.
func checkSlowCommand(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	host, agent, err := b.memory(ctx)
	if err != nil {
		return err
	}
	e, err := b.client.Start(ctx, guest.Command{Args: []string{"sleep", "600"}, Stdin: true})
	if err != nil {
		return err
	}
	go io.Copy(io.Discard, e.Stdout) //nolint:errcheck // ends with the command
	written := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(e.Stdin, zerosOf(1<<30))
		written <- n
	}()
	err = b.busyNeighbours(ctx)
	if err == nil {
		err = b.grewLittle(ctx, host, agent)
	}
	e.Close() //nolint:errcheck // the command is killed
	select {
	case n := <-written:
		if err == nil && n > growthLimit {
			err = fmt.Errorf("%d MiB were taken for a command that reads nothing", n>>20)
		}
	case <-ctx.Done():
		err = fmt.Errorf("the write to a command that has ended never returned")
	}
	return err
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// zerosOf is a source of n bytes.
func zerosOf(n int64) io.Reader { return io.LimitReader(zeros{}, n) }

// stalledStreams is how many streams checkManyStalled neglects, each with a
// bounded buffer of its own at both ends.
const stalledStreams = 16

func checkManyStalled(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	host, agent, err := b.memory(ctx)
	if err != nil {
		return err
	}
	for range stalledStreams {
		e, err := b.stall(ctx)
		if err != nil {
			return err
		}
		defer e.Close() //nolint:errcheck // the command is killed
	}
	if err := b.busyNeighbours(ctx); err != nil {
		return fmt.Errorf("beside %d streams that nobody reads: %w", stalledStreams, err)
	}
	return b.grewAtMost(ctx, growthLimit+stalledStreams<<21, host, agent)
}

func checkNeglectedPort(ctx context.Context, env *Env) error {
	b, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{intruder, "pour", "tcp", "127.0.0.1:8097"}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	if err := run.await(ctx, "listening\n"); err != nil {
		return err
	}
	host, agent, err := b.memory(ctx)
	if err != nil {
		return err
	}
	conn, err := b.client.DialPort(ctx, "tcp", "127.0.0.1:8097")
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nobody reads it
	if err := b.busyNeighbours(ctx); err != nil {
		return fmt.Errorf("beside a port that nobody reads: %w", err)
	}
	return b.grewLittle(ctx, host, agent)
}
