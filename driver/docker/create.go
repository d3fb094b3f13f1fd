package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

const (
	// readyTimeout bounds the time from a started container to an agent that
	// answers.
	readyTimeout = 30 * time.Second
	// undoTimeout bounds the removal of what a failed Create left.
	undoTimeout = 2 * time.Minute
	// secretSize is the length of a channel secret in bytes.
	secretSize = 32
)

const opCreate = "create docker sandbox"

// Create implements driver.Driver.
func (d *Driver) Create(ctx context.Context, spec faas.Spec) (driver.Sandbox, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	img, err := d.imageFor(ctx, spec.Image)
	if err != nil {
		return nil, opError(opCreate, "sandbox "+spec.ID, err)
	}
	rec, err := d.claim(spec, newSecret())
	if err != nil {
		return nil, err
	}
	s := d.newSandbox(spec.ID, rec)
	if err := s.start(ctx, img); err != nil {
		return nil, opError(opCreate, "sandbox "+spec.ID, s.undo(ctx, err))
	}
	return s, nil
}

// claim records a sandbox before anything of it exists.
func (d *Driver) claim(spec faas.Spec, secret []byte) (record, error) {
	spec.Env = maps.Clone(spec.Env)
	rec := record{Owner: d.owner.token, Secret: secret, Spec: spec, CreatedAt: time.Now().UTC()}
	kept := rec
	kept.Spec.Env = nil
	b, err := json.Marshal(kept)
	if err == nil {
		err = claimFile(d.unfinished(), d.recordPath(spec.ID), b)
	}
	if errors.Is(err, os.ErrExist) {
		return rec, &faas.Error{Kind: faas.KindConflict, Op: opCreate, Detail: "sandbox " + spec.ID + " exists"}
	}
	if err != nil {
		return rec, &faas.Error{Kind: faas.KindInternal, Op: opCreate, Detail: "record sandbox " + spec.ID, Err: err}
	}
	return rec, nil
}

// start makes the container, starts it and waits for the agent. What it leaves
// when it fails, Destroy removes.
func (s *sandbox) start(ctx context.Context, img source) error {
	volume, digest, err := s.d.agentVolume(ctx)
	if err != nil {
		return err
	}
	shared, err := s.d.sharedWith(ctx)
	if err != nil {
		return err
	}
	if err := s.makeContainer(ctx, img, volume, digest, shared); err != nil {
		return err
	}
	attached, err := s.attach(ctx)
	if err != nil {
		return err
	}
	defer attached.close()
	if err := s.startContainer(ctx); err != nil {
		return err
	}
	if err := attached.sendSecret(ctx, s.secret()); err != nil {
		return attached.explain(err)
	}
	if err := s.find(ctx); err != nil {
		return attached.explain(err)
	}
	if err := s.connectNetwork(ctx); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := s.awaitAgent(ready, attached.ended); err != nil {
		return attached.explain(err)
	}
	return nil
}

// makeContainer describes the container to the engine and has it made.
func (s *sandbox) makeContainer(ctx context.Context, img source, volume, agent string, shared sharing) error {
	s.mu.Lock()
	s.rec.Agent, s.rec.DiskLimit = agent, shared.diskLimit && s.rec.Spec.Resources.DiskMB > 0
	s.mu.Unlock()
	cfg, host := s.config(img, volume)
	if shared.cgroupns {
		// A restored container would else see the control groups of the whole
		// machine, and any other the path of its own.
		host.CgroupnsMode = container.CgroupnsModePrivate
	}
	if shared.checkpoints && hasMultipath() {
		// Go programs would listen with it, and CRIU saves no such socket.
		host.Sysctls = map[string]string{"net.mptcp.enabled": "0"}
	}
	return s.createContainer(ctx, cfg, host)
}

// hasMultipath says whether this machine's kernel, which is the engine's where
// checkpoints are restored, speaks multipath TCP.
func hasMultipath() bool {
	_, err := os.Stat("/proc/sys/net/mptcp/enabled")
	return err == nil
}

// createContainer makes the container. The call is not cut short when ctx
// ends, since an engine that was interrupted may still make the container
// after it was looked for.
func (s *sandbox) createContainer(ctx context.Context, cfg *container.Config, host *container.HostConfig) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var res client.ContainerCreateResult
	err := s.d.engine.call(context.WithoutCancel(ctx), changeTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ContainerCreate(ctx, client.ContainerCreateOptions{Config: cfg, HostConfig: host, Name: s.d.containerName(s.id)})
		return err
	})
	if err != nil {
		return limitError(err)
	}
	for _, w := range res.Warnings {
		s.d.log.Debug("docker engine warns", "sandbox", s.id, "warning", w)
	}
	if err := s.update(func(rec *record) { rec.Container = res.ID }); err != nil {
		return err
	}
	return ctx.Err()
}

// startContainer starts the container. When the agent is not in its volume any
// more, because someone removed the volume, the next sandbox fills it again.
func (s *sandbox) startContainer(ctx context.Context) error {
	err := s.d.engine.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.ContainerStart(ctx, s.container(), client.ContainerStartOptions{})
		return err
	})
	if err != nil && strings.Contains(err.Error(), agentPath) {
		s.d.forgetAgent(ctx)
		return &faas.Error{Kind: faas.KindUnavailable, Detail: "the agent's volume was emptied or removed; try again", RetryAfter: time.Second, Err: err}
	}
	return err
}

// find asks where the agent's process is and how it is reached.
func (s *sandbox) find(ctx context.Context) error {
	info, err := s.d.engine.inspect(ctx, s.container())
	if err != nil {
		return err
	}
	if info.State == nil || !info.State.Running {
		return &faas.Error{Kind: faas.KindInternal, Detail: "the guest agent ended at once"}
	}
	s.locate(info.State.Pid)
	return nil
}

// awaitAgent returns when the agent has answered and knows who it is. gone is
// closed when the agent's standard streams end.
func (s *sandbox) awaitAgent(ctx context.Context, gone <-chan struct{}) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := s.greet(ctx)
		if err == nil {
			return nil
		}
		var known *faas.Error
		if errors.As(err, &known) && (known.Kind == faas.KindUnauthenticated || known.Kind == faas.KindPermissionDenied) {
			return err
		}
		select {
		case <-gone:
			return &faas.Error{Kind: faas.KindInternal, Detail: "the guest agent ended before it answered", Err: err}
		case <-ctx.Done():
			return &faas.Error{Kind: faas.KindOf(ctx.Err()), Detail: "the guest agent does not answer", Err: err}
		case <-time.After(pause):
		}
	}
}

// greet says hello to the agent and tells it who it is. By way of a shim the
// connection is kept for Stats: a sandbox that has used up its processes could
// not start another shim.
func (s *sandbox) greet(ctx context.Context) error {
	c := s.insideClient()
	err := s.introduce(ctx, c)
	if err != nil || !s.Channel().Multiplex {
		s.closeInside()
	}
	return err
}

func (s *sandbox) introduce(ctx context.Context, c *guest.Client) error {
	if _, err := c.Hello(ctx); err != nil {
		return err
	}
	spec := s.rec.Spec
	_, err := c.Configure(ctx, guest.Configuration{
		Identity: &guest.Identity{ID: spec.ID, Project: spec.Project, Hostname: spec.Hostname, Labels: spec.Labels},
		Env:      spec.Env,
		Network:  s.resolvers(),
	})
	return err
}

// attachment is the agent's standard streams while it starts.
type attachment struct {
	conn  io.Closer
	stdin io.Writer
	half  func() error // ends the input alone
	said  boundedBuffer
	ended chan struct{}
}

// attach takes hold of the standard streams of a container that has not been
// started.
func (s *sandbox) attach(ctx context.Context) (*attachment, error) {
	var res client.ContainerAttachResult
	err := s.d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ContainerAttach(ctx, s.container(), client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
		return err
	})
	if err != nil {
		return nil, err
	}
	a := &attachment{conn: res.Conn, stdin: res.Conn, half: res.CloseWrite, ended: make(chan struct{})}
	go func() { // ends with the streams or with close
		defer close(a.ended)
		_, _ = io.Copy(&a.said, &demux{from: res.Reader, aside: &a.said})
	}()
	return a, nil
}

// sendSecret gives the agent its channel secret and nothing after it.
func (a *attachment) sendSecret(ctx context.Context, secret []byte) error {
	stop := context.AfterFunc(ctx, func() { _ = a.conn.Close() })
	defer stop()
	_, err := a.stdin.Write(secret)
	if err == nil {
		err = a.half()
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &faas.Error{Kind: faas.KindUnavailable, Detail: "give the agent its secret", Err: err}
	}
	return nil
}

// explain adds what the agent said to an error.
func (a *attachment) explain(err error) error {
	said := a.said.String()
	var known *faas.Error
	if said == "" || !errors.As(err, &known) {
		return err
	}
	c := *known
	c.Detail = strings.TrimSpace(c.Detail + "; the agent said: " + strings.ToValidUTF8(said, "?"))
	return &c
}

func (a *attachment) close() {
	_ = a.conn.Close()
	<-a.ended
}
