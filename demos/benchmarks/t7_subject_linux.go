package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// saver is a driver that saves and restores.
type saver interface {
	driver.Driver
	driver.Restorer
}

// subject is a running sandbox that is saved again and again.
type subject struct {
	on     saver
	dir    string
	made   driver.Sandbox
	client *guest.Client
	layers []string // that it was restored from
	count  int
	last   driver.State
}

// subject starts a workload in a new sandbox of the machine's own /usr.
func newSubject(ctx context.Context, on saver, dir, script string) (*subject, error) {
	made, err := on.Create(ctx, hostSpec())
	if err != nil {
		return nil, err
	}
	s := &subject{on: on, dir: dir, made: made, client: connect(made)}
	const start = `setsid sh -c "$0" </dev/null >/dev/null 2>&1 & while [ ! -e /tmp/ready ]; do sleep 0.02; done`
	exit, err := s.client.Run(ctx, guest.Command{Args: []string{"sh", "-c", start, script}}, nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("the workload's start ended with %d", exit.Code)
	}
	if err != nil {
		return nil, errors.Join(err, made.Destroy(ctx))
	}
	return s, nil
}

func connect(made driver.Sandbox) *guest.Client {
	channel := made.Channel()
	return guest.NewClient(made.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
}

// save takes a full snapshot and returns how long the sandbox stood still. The
// one before is removed.
func (s *subject) save(ctx context.Context) (time.Duration, error) {
	s.count++
	dir := filepath.Join(s.dir, s.made.ID(), fmt.Sprint(s.count))
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	if err := errors.Join(os.MkdirAll(files, 0o755), os.Mkdir(memory, 0o755)); err != nil {
		return 0, err
	}
	if err := s.client.Quiesce(ctx); err != nil {
		return 0, err
	}
	saved, err := s.made.(driver.Snapshotter).Snapshot(ctx, faas.SnapshotFull, files, memory)
	if err := errors.Join(err, s.client.Resume(ctx)); err != nil {
		return 0, err
	}
	s.last = driver.State{Kind: faas.SnapshotFull, Layers: append([]string{files}, s.layers...), Memory: memory,
		Requires: saved.Requires, Data: saved.Data}
	if s.count > 2 { // the first is what restores are of
		err = os.RemoveAll(filepath.Join(s.dir, s.made.ID(), fmt.Sprint(s.count-1)))
	}
	return saved.Pause, err
}

// fork restores a copy and runs `true` in it.
func (s *subject) fork(ctx context.Context, from driver.State) (*subject, error) {
	return s.forkAs(ctx, from, hostSpec())
}

func hostSpec() faas.Spec {
	wanted := spec()
	wanted.Image = faas.HostImage
	return wanted
}

func (s *subject) forkAs(ctx context.Context, from driver.State, wanted faas.Spec) (*subject, error) {
	made, err := s.on.Restore(ctx, from, wanted, func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		return nil, err
	}
	f := &subject{on: s.on, dir: s.dir, made: made, client: connect(made), layers: from.Layers}
	exit, err := f.client.Run(ctx, guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("true ended with %d", exit.Code)
	}
	if err != nil {
		return nil, errors.Join(err, made.Destroy(ctx))
	}
	return f, nil
}

// touch has the workload use every object that it has.
func (s *subject) touch(ctx context.Context) error {
	exit, err := s.client.Run(ctx, guest.Command{Args: []string{"sh", "-c", "touch /tmp/touch; while [ ! -e /tmp/touched ]; do sleep 0.02; done"}},
		nil, io.Discard, io.Discard)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("touching everything ended with %d", exit.Code)
	}
	return err
}

// memory is what the sandbox takes, in MiB: the PSS of its processes, or of
// gVisor's kernel, whose memory no other shares, that of its control group.
func (s *subject) memory(ctx context.Context) (float64, error) {
	if s.on.Name() != faas.RuntimeGVisor {
		return treePSS(s.made)
	}
	stats, err := s.made.Stats(ctx)
	return float64(stats.MemoryBytes) / (1 << 20), err
}

func (s *subject) restore(ctx context.Context, from driver.State) (time.Duration, error) {
	start := time.Now()
	f, err := s.fork(ctx, from)
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	return took, f.made.Destroy(ctx)
}

// treePSS sums what a sandbox's processes take, in MiB.
func treePSS(made driver.Sandbox) (float64, error) {
	var handle struct {
		Process struct {
			PID int `json:"pid"`
		} `json:"process"`
	}
	if err := json.Unmarshal(made.Handle().Data, &handle); err != nil {
		return 0, err
	}
	each, err := sandboxPSS([]int{handle.Process.PID})
	if err != nil {
		return 0, err
	}
	return each[0], nil
}

// restoreAhead is restore with what can be done before it is asked for done
// before the clock starts.
func (s *subject) restoreAhead(ctx context.Context, from driver.State) (time.Duration, error) {
	wanted := hostSpec()
	discard, err := s.on.(driver.AheadRestorer).RestoreAhead(ctx, from, wanted)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	f, err := s.forkAs(ctx, from, wanted)
	took := time.Since(start)
	if err != nil {
		return 0, errors.Join(err, discard(ctx))
	}
	return took, f.made.Destroy(ctx)
}
