package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

func snapshotChecks() []Check {
	files := []faas.Feature{faas.FeatureSnapshotFS, faas.FeatureFiles}
	memory := []faas.Feature{faas.FeatureSnapshotFull}
	return []Check{
		{Name: "snapshot/files", Features: files, UserFacing: true, Run: checkSnapshotFiles},
		{Name: "snapshot/files-of-a-restored-sandbox", Features: files, Run: checkSnapshotChain},
		{Name: "snapshot/memory", Features: memory, UserFacing: true, Timeout: 2 * time.Minute, Run: checkSnapshotMemory},
		{Name: "snapshot/everything", Features: memory, Program: true, Timeout: 3 * time.Minute, Run: checkSnapshotEverything},
		{Name: "snapshot/memory-again", Features: memory, Timeout: 2 * time.Minute, Run: checkSnapshotAgain},
		{Name: "snapshot/output-goes-on", Features: memory, Run: checkSnapshotOutput},
		{Name: "snapshot/siblings", Features: memory, Timeout: 2 * time.Minute, Run: checkSiblings},
		{Name: "snapshot/limits-of-a-copy", Features: append([]faas.Feature{faas.FeatureLimitPIDs, faas.FeatureLimitMemory}, memory...), Run: checkCopyLimits},
		{Name: "snapshot/stopped-until-prepared", Features: memory, Run: checkPreparedFirst},
		{Name: "snapshot/failed-restore", Features: files, Run: checkFailedRestore},
	}
}

// saved is a snapshot that a check took.
type saved struct {
	driver.State
	pause time.Duration
}

// save takes a snapshot into a directory of the check's, on top of layers.
func (e *Env) save(ctx context.Context, b *box, kind faas.SnapshotKind, below ...string) (*saved, error) {
	s, ok := b.Sandbox.(driver.Snapshotter)
	if !ok {
		return nil, fmt.Errorf("the probe tells snapshots available, but a sandbox is a %T and no driver.Snapshotter", b.Sandbox)
	}
	dir, err := os.MkdirTemp("", "faas-snapshot-")
	if err != nil {
		return nil, err
	}
	e.made.mu.Lock()
	e.made.dirs = append(e.made.dirs, dir)
	e.made.mu.Unlock()
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.Mkdir(files, 0o700), os.Mkdir(memory, 0o700)); err != nil {
		return nil, err
	}
	if err := b.client.Quiesce(ctx); err != nil {
		return nil, fmt.Errorf("quiesce: %w", err)
	}
	out, err := s.Snapshot(ctx, kind, files, memory)
	if err := errors.Join(err, b.client.Resume(ctx)); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return &saved{pause: out.Pause, State: driver.State{
		Kind: kind, Layers: append([]string{files}, below[out.Covers:]...), Memory: memory, Requires: out.Requires, Data: out.Data,
	}}, nil
}

// restore makes a sandbox of a snapshot and gives it an identity.
func (e *Env) restore(ctx context.Context, from *saved, change ...func(*faas.Spec)) (*box, error) {
	r, ok := e.Driver.(driver.Restorer)
	if !ok {
		return nil, fmt.Errorf("the probe tells snapshots available, but the driver is a %T and no driver.Restorer", e.Driver)
	}
	if err := r.CheckRestore(ctx, from.State); err != nil {
		return nil, fmt.Errorf("check restore: %w", err)
	}
	spec := e.spec(change...)
	s, err := r.Restore(ctx, from.State, spec, func(ctx context.Context, s driver.Sandbox) error {
		client := connect(s, s.Channel().Secret)
		defer client.Close() //nolint:errcheck // connections only
		_, err := client.Configure(ctx, guest.Configuration{
			Identity: &guest.Identity{ID: spec.ID, Project: spec.Project}, RunHooks: true,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return e.adopt(s), nil
}

func checkSnapshotFiles(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "mkdir -p /data/d && echo one > /data/a && ln -s a /data/l && echo x > /data/d/x && rm -rf /mnt && chmod 700 /data/a", ""); err != nil {
		return err
	}
	from, err := env.save(ctx, b, faas.SnapshotFS)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "echo two > /data/a; rm /data/d/x; cat /data/a", "two"); err != nil {
		return fmt.Errorf("the source afterwards: %w", err)
	}
	for range 2 {
		c, err := env.restore(ctx, from)
		if err != nil {
			return err
		}
		err = c.expect(ctx, "cat /data/a /data/l /data/d/x; test -e /mnt || echo gone; stat -c %a /data/a; echo changed > /data/a", "one\none\nx\ngone\n700")
		if err != nil {
			return fmt.Errorf("a copy: %w", err)
		}
	}
	return b.expect(ctx, "cat /data/a", "two")
}

// checkSnapshotChain saves a copy that has changed, on top of its source.
func checkSnapshotChain(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "mkdir /data && echo 1 > /data/first && echo 1 > /data/both", ""); err != nil {
		return err
	}
	from, err := env.save(ctx, b, faas.SnapshotFS)
	if err != nil {
		return err
	}
	for i := range 3 {
		c, err := env.restore(ctx, from)
		if err != nil {
			return err
		}
		if err := c.expect(ctx, fmt.Sprintf("echo %d > /data/both; echo x > /data/n%d; rm -f /data/n%d", i, i, i-1), ""); err != nil {
			return err
		}
		if from, err = env.save(ctx, c, faas.SnapshotFS, from.Layers...); err != nil {
			return err
		}
	}
	c, err := env.restore(ctx, from)
	if err != nil {
		return err
	}
	return c.expect(ctx, "cat /data/first /data/both; ls /data", "1\n2\nboth\nfirst\nn2")
}

// counting counts in a process that was started before the snapshot: into a
// file that it holds open, and one that has no name any more.
const counting = `exec 3>/tmp/held 4>/tmp/nameless; rm /tmp/nameless; i=0
while :; do i=$((i+1)); echo $i >&3; echo $i >&4; echo $i > /tmp/now.new; mv /tmp/now.new /tmp/now; sleep 0.02; done`

// count reads where a counter stands.
func (b *box) count(ctx context.Context) (int, error) {
	out, err := b.shell(ctx, "cat /tmp/now")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(out.stdout))
	if err != nil {
		return 0, fmt.Errorf("the counter says %q %q", out.stdout, out.stderr)
	}
	return n, nil
}

// countsBeyond waits until a counter has passed a number.
func (b *box) countsBeyond(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return eventually(ctx, func() error {
		have, err := b.count(ctx)
		if err == nil && have <= n {
			err = fmt.Errorf("the counter stands at %d", have)
		}
		return err
	})
}

// background starts a script that goes on when its command has ended.
func (b *box) background(ctx context.Context, script string) error {
	out, err := b.run(ctx, guest.Command{Args: []string{"setsid", "sh", "-c", "sh -c \"$0\" </dev/null >/dev/null 2>&1 &", script}}, nil)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("start in the background: %+v %s", out.Exit, out.stderr)
	}
	return err
}

func checkSnapshotMemory(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.background(ctx, counting); err != nil {
		return err
	}
	if err := b.countsBeyond(ctx, 5); err != nil {
		return err
	}
	before, err := b.count(ctx)
	if err != nil {
		return err
	}
	from, err := env.save(ctx, b, faas.SnapshotFull)
	if err != nil {
		return err
	}
	after, err := b.count(ctx)
	if err != nil {
		return err
	}
	if err := b.countsBeyond(ctx, after+20); err != nil {
		return fmt.Errorf("the source afterwards: %w", err)
	}
	var copies []*box
	for range 2 {
		c, err := env.restore(ctx, from)
		if err != nil {
			return err
		}
		copies = append(copies, c)
	}
	for _, c := range copies {
		if err := c.countedThrough(ctx, before); err != nil {
			return fmt.Errorf("a copy: %w", err)
		}
	}
	return b.countedThrough(ctx, before)
}

// countedThrough sees that a counter runs and missed no number: it is the
// same process that goes on, with the file that it held open.
func (b *box) countedThrough(ctx context.Context, from int) error {
	if err := b.countsBeyond(ctx, from); err != nil {
		return err
	}
	return b.expect(ctx, `awk '$1 != NR {print "line " NR " says " $1; exit}' /tmp/held`, "")
}

// checkSnapshotAgain saves the same sandbox twice, and then a copy.
func checkSnapshotAgain(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.background(ctx, counting); err != nil {
		return err
	}
	if err := b.countsBeyond(ctx, 2); err != nil {
		return err
	}
	var from *saved
	for range 2 {
		if from, err = env.save(ctx, b, faas.SnapshotFull); err != nil {
			return err
		}
	}
	for range 3 {
		n, err := b.count(ctx)
		if err != nil {
			return err
		}
		c, err := env.restore(ctx, from)
		if err != nil {
			return err
		}
		if err := c.countedThrough(ctx, n); err != nil {
			return err
		}
		if from, err = env.save(ctx, c, faas.SnapshotFull, from.Layers...); err != nil {
			return fmt.Errorf("of a copy: %w", err)
		}
		b = c
	}
	return nil
}

// checkSnapshotOutput loses and repeats nothing of a command that runs.
func checkSnapshotOutput(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const lines = 3000
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; done", lines)
	x, err := b.client.Start(ctx, guest.Command{Args: []string{"sh", "-c", script}})
	if err != nil {
		return err
	}
	defer x.Close() //nolint:errcheck // it has ended
	var got bytes.Buffer
	done := make(chan error, 1)
	go func() {
		_, err := got.ReadFrom(x.Stdout)
		done <- err
	}()
	if _, err := env.save(ctx, b, faas.SnapshotFull); err != nil {
		return err
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("read on: %w", err)
	}
	var want bytes.Buffer
	for i := range lines {
		fmt.Fprintln(&want, i+1)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		return fmt.Errorf("%d bytes came through a snapshot, want the %d that were written", got.Len(), want.Len())
	}
	return nil
}

// drawer hands out random numbers in a process that was started before the
// snapshot, each time it finds a request.
const drawer = `mkfifo /tmp/ask /tmp/answer; while read x < /tmp/ask; do head -c 16 /dev/urandom | od -An -tx1 > /tmp/answer; done`

func checkSiblings(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.background(ctx, drawer); err != nil {
		return err
	}
	const draw = "echo go > /tmp/ask; cat /tmp/answer"
	if out, err := b.shell(ctx, "while [ ! -p /tmp/answer ]; do :; done; "+draw); err != nil || strings.TrimSpace(out.stdout) == "" {
		return fmt.Errorf("draw in the source: %q %w", out.stderr, err)
	}
	sourceSecret := b.Channel().Secret
	from, err := env.save(ctx, b, faas.SnapshotFull)
	if err != nil {
		return err
	}
	const siblings = 4
	var mu sync.Mutex
	var group sync.WaitGroup
	var errs []error
	seen := map[string]string{}
	differs := func(what, who, v string) error {
		mu.Lock()
		defer mu.Unlock()
		if other := seen[what+v]; other != "" || v == "" {
			return fmt.Errorf("%s %q is that of %s too", what, v, other)
		}
		seen[what+v] = who
		return nil
	}
	for range siblings {
		group.Go(func() {
			err := env.sibling(ctx, from, sourceSecret, draw, differs)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// sibling restores one copy and compares it with the others.
func (e *Env) sibling(ctx context.Context, from *saved, sourceSecret []byte, draw string, differs func(what, who, v string) error) error {
	c, err := e.restore(ctx, from)
	if err != nil {
		return err
	}
	drawn, err := c.shell(ctx, draw)
	if err != nil {
		return err
	}
	host, err := c.shell(ctx, "hostname")
	if err != nil {
		return err
	}
	identity, err := c.shell(ctx, "cat /run/faas/instance.json")
	if err != nil {
		return err
	}
	err = errors.Join(
		differs("random number", c.ID(), strings.TrimSpace(drawn.stdout)),
		differs("host name", c.ID(), strings.TrimSpace(host.stdout)),
		differs("identity", c.ID(), strings.TrimSpace(identity.stdout)),
		differs("channel secret", c.ID(), string(c.Channel().Secret)),
	)
	if !strings.Contains(identity.stdout, c.ID()) {
		err = errors.Join(err, fmt.Errorf("instance.json says %s, not %s", identity.stdout, c.ID()))
	}
	stranger := connect(c.Sandbox, sourceSecret)
	defer stranger.Close() //nolint:errcheck // connections only
	if _, helloErr := stranger.Hello(ctx); helloErr == nil {
		err = errors.Join(err, errors.New("the source's channel secret opens a copy"))
	}
	return err
}

func checkCopyLimits(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	from, err := env.save(ctx, b, faas.SnapshotFull)
	if err != nil {
		return err
	}
	c, err := env.restore(ctx, from, func(s *faas.Spec) { s.Resources.MemoryMB, s.Resources.PIDs = 96, 96 })
	if err != nil {
		return err
	}
	if err := c.refusesForks(ctx); err != nil {
		return err
	}
	// Those that were refused room are still ending.
	if err := eventually(ctx, func() error { return c.alive(ctx) }); err != nil {
		return err
	}
	out, err := c.shell(ctx, "exec dd if=/dev/zero of=/dev/null bs=256M count=1")
	switch {
	case err != nil && env.Driver.Name() == faas.RuntimeGVisor:
		err = env.endedForMemory(ctx, c)
	case err == nil && out.Code == 0:
		err = errors.New("256 MiB were used in a copy limited to 96")
	case err == nil:
		err = c.awaitStats(ctx, "a process of the copy killed for want of memory", func(s driver.Stats) bool { return s.OOMKills > 0 })
		err = errors.Join(err, eventually(ctx, func() error { return c.alive(ctx) }))
	}
	if err != nil {
		return err
	}
	if s, err := b.Stats(ctx); err != nil || s.OOMKills > 0 || s.PIDsRefused > 0 {
		return fmt.Errorf("the copy's limits were told of the source: %+v, %w", s, err)
	}
	return b.alive(ctx)
}

// refusesForks crowds a sandbox until a fork is refused.
func (b *box) refusesForks(ctx context.Context) error {
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", crowd(200)}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the command is killed
	if err := b.awaitStats(ctx, "a fork of the copy refused", func(s driver.Stats) bool { return s.PIDsRefused > 0 }); err != nil {
		return err
	}
	if err := run.Close(); err != nil {
		return fmt.Errorf("end the crowd: %w", err)
	}
	return nil
}

// checkPreparedFirst sees that nothing but the agent runs in a copy before it
// has been prepared.
func checkPreparedFirst(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.background(ctx, counting); err != nil {
		return err
	}
	if err := b.countsBeyond(ctx, 2); err != nil {
		return err
	}
	from, err := env.save(ctx, b, faas.SnapshotFull)
	if err != nil {
		return err
	}
	var during [2]int
	spec := env.spec()
	s, err := env.Driver.(driver.Restorer).Restore(ctx, from.State, spec, func(ctx context.Context, s driver.Sandbox) error {
		client := connect(s, s.Channel().Secret)
		defer client.Close() //nolint:errcheck // connections only
		early := &box{Sandbox: s, client: client}
		for i := range during {
			if during[i], err = early.count(ctx); err != nil {
				return err
			}
			if _, err := early.shell(ctx, "sleep 0.3"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	c := env.adopt(s)
	if during[0] != during[1] {
		return fmt.Errorf("a process counted from %d to %d before the copy was prepared", during[0], during[1])
	}
	return c.countsBeyond(ctx, during[1])
}

// errRefused stands for whatever keeps a caller from preparing a copy.
var errRefused = errors.New("refused by the check")

func checkFailedRestore(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	kinds := []faas.SnapshotKind{faas.SnapshotFS}
	if env.Driver.Probe(ctx).Has(faas.FeatureSnapshotFull) {
		kinds = append(kinds, faas.SnapshotFull)
	}
	for _, kind := range kinds {
		from, err := env.save(ctx, b, kind)
		if err != nil {
			return err
		}
		spec := env.spec()
		s, err := env.Driver.(driver.Restorer).Restore(ctx, from.State, spec,
			func(context.Context, driver.Sandbox) error { return errRefused })
		if err == nil {
			env.adopt(s)
			return fmt.Errorf("%s: restored though it could not be prepared", kind)
		}
		if !errors.Is(err, errRefused) {
			return fmt.Errorf("%s: %w, want the reason why it could not be prepared", kind, err)
		}
		if err := env.NothingLeft(ctx, spec.ID); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return b.alive(ctx)
}
