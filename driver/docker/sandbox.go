package docker

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// sandbox is one container of the driver.
type sandbox struct {
	d  *Driver
	id string

	mu      sync.Mutex
	rec     record
	process process       // of the agent, when direct
	direct  bool          // the agent's socket is reached without the engine
	paused  bool          // as far as this process knows
	held    chan struct{} // closed when a snapshot of memory has ended; nil: none is under way
	inside  *guest.Client // for Stats; nil until needed

	saving    sync.Mutex // held by a snapshot
	once      sync.Once
	destroyed chan struct{} // closed when Destroy began
}

func (d *Driver) newSandbox(id string, rec record) *sandbox {
	return &sandbox{d: d, id: id, rec: rec, destroyed: make(chan struct{})}
}

// ID implements driver.Sandbox.
func (s *sandbox) ID() string { return s.id }

// Handle implements driver.Sandbox. It holds no secret.
func (s *sandbox) Handle() driver.Handle {
	data, _ := json.Marshal(handleData{Container: s.container()}) // a string cannot fail
	return driver.Handle{Runtime: faas.RuntimeDocker, ID: s.id, Data: data}
}

// Channel implements driver.Sandbox.
func (s *sandbox) Channel() driver.Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return driver.Channel{Secret: append([]byte(nil), s.rec.Secret...), Multiplex: !s.direct}
}

// Dial implements driver.Sandbox. By way of the shim it costs a process in
// the sandbox, 50 to 100 ms.
func (s *sandbox) Dial(ctx context.Context) (net.Conn, error) {
	const op = "dial guest agent"
	if s.gone() {
		return nil, &faas.Error{Kind: faas.KindNotFound, Op: op, Detail: "sandbox " + s.id + " was destroyed"}
	}
	if err := s.awaitSaved(ctx); err != nil {
		return nil, opError(op, "sandbox "+s.id, err)
	}
	direct, p := s.located()
	var conn net.Conn
	var err error
	if direct {
		conn, err = p.dial(ctx)
	} else {
		conn, err = s.shim(ctx)
	}
	if err != nil {
		return nil, opError(op, "sandbox "+s.id, err)
	}
	if s.gone() {
		_ = conn.Close()
		return nil, &faas.Error{Kind: faas.KindNotFound, Op: op, Detail: "sandbox " + s.id + " was destroyed"}
	}
	return conn, nil
}

// Wait implements driver.Sandbox. While the engine cannot be asked, it asks
// again; when that takes longer than Options.EngineGrace, it gives up with
// faas.ErrUnavailable.
func (s *sandbox) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with Wait
		select {
		case <-s.destroyed:
			cancel()
		case <-stop:
		}
	}()
	err := s.awaitEnd(ctx)
	if err != nil && s.gone() {
		return nil
	}
	return err
}

func (s *sandbox) awaitEnd(ctx context.Context) error {
	s.mu.Lock()
	direct, p := s.direct, s.process
	s.mu.Unlock()
	if direct {
		if err := p.wait(ctx); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	var silentSince time.Time
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		asked := time.Now()
		err := s.askEnd(ctx)
		switch {
		case err == nil || errors.Is(err, faas.ErrNotFound):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case silentSince.IsZero() || time.Since(asked) > pingTimeout:
			silentSince, pause = time.Now(), 50*time.Millisecond
		case time.Since(silentSince) > s.d.opts.EngineGrace:
			return opError("wait for docker sandbox", "sandbox "+s.id, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// askEnd has the engine say when the container ends. It returns an error when
// the engine went away before that.
func (s *sandbox) askEnd(ctx context.Context) error {
	conn, err := s.d.engine.connect(ctx, false)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res := conn.api.ContainerWait(ctx, s.container(), client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	select { // the request ends with ctx, so one of the two comes
	case <-res.Result:
		return nil
	case err := <-res.Error:
		return conn.explain(ctx, pingTimeout, err)
	}
}

// Pause implements driver.Pauser.
func (s *sandbox) Pause(ctx context.Context) error {
	return s.freeze(ctx, "pause docker sandbox", true, func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerPause(ctx, s.container(), client.ContainerPauseOptions{})
		return err
	})
}

// Resume implements driver.Pauser.
func (s *sandbox) Resume(ctx context.Context) error {
	return s.freeze(ctx, "resume docker sandbox", false, func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerUnpause(ctx, s.container(), client.ContainerUnpauseOptions{})
		return err
	})
}

// freeze makes a change of state whose refusal is no error when the state is
// the wanted one.
func (s *sandbox) freeze(ctx context.Context, op string, paused bool, change func(context.Context, *client.Client) error) error {
	err := s.d.engine.call(ctx, changeTimeout, change)
	if err == nil {
		s.setPaused(paused)
		return nil
	}
	info, askErr := s.d.engine.inspect(ctx, s.container())
	if askErr == nil && info.State != nil && info.State.Running {
		s.setPaused(info.State.Paused)
		if info.State.Paused == paused {
			return nil
		}
		return opError(op, "sandbox "+s.id, err)
	}
	if askErr == nil {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: op, Detail: "sandbox " + s.id + " has ended"}
	}
	return opError(op, "sandbox "+s.id, err)
}

// Destroy implements driver.Sandbox.
func (s *sandbox) Destroy(ctx context.Context) error {
	s.once.Do(func() { close(s.destroyed) })
	s.closeInside()
	if err := s.d.removeSandbox(ctx, s.id, s.snapshotRecord()); err != nil {
		return opError("destroy docker sandbox", "sandbox "+s.id, err)
	}
	return nil
}

// removeSandbox removes all that there is of a sandbox. The record goes last,
// so that what could not be removed is found again.
func (d *Driver) removeSandbox(ctx context.Context, id string, rec record) error {
	target := rec.Container
	if target == "" { // Create ended before it learnt the id
		target = d.containerName(id)
	}
	if err := d.removeContainer(ctx, target, id); err != nil {
		return err
	}
	if err := d.disconnectNetwork(ctx, rec); err != nil {
		return err
	}
	return d.removeRecord(id)
}

// removeContainer removes a container of ours and waits until it is gone.
func (d *Driver) removeContainer(ctx context.Context, target, sandbox string) error {
	info, err := d.engine.inspect(ctx, target)
	if errors.Is(err, faas.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !d.isOurs(info.Config, sandbox) {
		return &faas.Error{Kind: faas.KindConflict, Detail: "the container " + target + " is not ours"}
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := d.engine.remove(ctx, info.ID)
		if err == nil || !removalUnderWay(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// removalUnderWay says whether another call is removing the container.
func removalUnderWay(err error) bool {
	return errors.Is(err, faas.ErrConflict) && strings.Contains(err.Error(), "already in progress")
}

func (s *sandbox) setPaused(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
}

func (s *sandbox) gone() bool {
	select {
	case <-s.destroyed:
		return true
	default:
		return false
	}
}

func (s *sandbox) container() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec.Container
}

func (s *sandbox) secret() []byte { return s.Channel().Secret }

func (s *sandbox) snapshotRecord() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rec
}

// locate finds out whether the agent's process, by its number on the engine's
// machine, can be reached from here.
func (s *sandbox) locate(pid int) {
	p, ok := process{}, false
	if !s.d.opts.ForceRemote {
		p, ok = findProcess(pid, s.snapshotRecord().Agent)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.direct = p, ok
}

// update changes the record and writes it.
func (s *sandbox) update(change func(rec *record)) error {
	s.mu.Lock()
	change(&s.rec)
	rec := s.rec
	s.mu.Unlock()
	return s.d.writeRecord(s.id, rec)
}
