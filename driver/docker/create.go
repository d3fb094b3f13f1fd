package docker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/network"
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

// agentCapabilities are those that the agent needs to act for every user
// inside; it gives its children fewer.
var agentCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID",
}

// Create implements driver.Driver.
func (d *Driver) Create(ctx context.Context, spec faas.Spec) (driver.Sandbox, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	img, err := d.imageFor(ctx, spec.Image)
	if err != nil {
		return nil, opError(opCreate, "sandbox "+spec.ID, err)
	}
	rec, err := d.claim(spec)
	if err != nil {
		return nil, err
	}
	s := d.newSandbox(spec.ID, rec)
	if err := s.start(ctx, img); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if undoErr := s.Destroy(undo); undoErr != nil {
			d.log.Warn("a failed sandbox could not be removed; Sweep will", "sandbox", spec.ID, "error", undoErr)
			undoErr = s.update(func(rec *record) { rec.Owner = "" })
			err = errors.Join(err, undoErr)
		}
		return nil, opError(opCreate, "sandbox "+spec.ID, err)
	}
	return s, nil
}

// checkSpec refuses what cannot be made before anything is touched.
func checkSpec(spec faas.Spec) error {
	if !validName(spec.ID) {
		return faas.InvalidField("id", "%.80q is no sandbox id", spec.ID)
	}
	r := spec.Resources
	switch {
	case r.CPUCores < 0 || r.CPUCores > 1024:
		return faas.InvalidField("cpu_cores", "%g is not between 0 and 1024", r.CPUCores)
	case r.CPUCores > 0 && r.CPUCores < 0.01:
		return faas.InvalidField("cpu_cores", "%g is less than 0.01, the least that the engine allots", r.CPUCores)
	case r.MemoryMB < 0 || r.MemoryMB > 1<<24:
		return faas.InvalidField("memory_mb", "%d is not between 0 and 16 TiB", r.MemoryMB)
	case r.MemoryMB > 0 && r.MemoryMB < minMemoryMB:
		return faas.InvalidField("memory_mb", "%d is less than %d, which the agent needs", r.MemoryMB, minMemoryMB)
	case r.DiskMB < 0 || r.DiskMB > 1<<24:
		return faas.InvalidField("disk_mb", "%d is not between 0 and 16 TiB", r.DiskMB)
	case r.PIDs < 0 || r.PIDs > 1<<22:
		return faas.InvalidField("pids", "%d is not between 0 and %d", r.PIDs, 1<<22)
	case r.PIDs > 0 && r.PIDs < minPIDs:
		return faas.InvalidField("pids", "%d is less than %d, which the agent's threads need", r.PIDs, minPIDs)
	case !validHostname(spec.Hostname):
		return faas.InvalidField("hostname", "%.80q is no host name: letters, digits, hyphens and dots, at most 63", spec.Hostname)
	}
	return network.CheckPolicy(spec.Network)
}

// validHostname says whether the engine and the kernel take a host name; the
// empty one stands for the sandbox's id.
func validHostname(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
	return len(name) <= 63 && strings.Trim(name, letters) == "" && !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, ".")
}

// The least that leaves the agent room: its memory, and its threads together
// with those of a shim.
const (
	minMemoryMB = 16
	minPIDs     = 24
)

// claim records a sandbox before anything of it exists.
func (d *Driver) claim(spec faas.Spec) (record, error) {
	secret := make([]byte, secretSize)
	rand.Read(secret) //nolint:errcheck // crypto/rand.Read never fails
	spec.Env = maps.Clone(spec.Env)
	rec := record{Owner: d.owner.token, Secret: secret, Spec: spec, CreatedAt: time.Now().UTC()}
	kept := rec
	kept.Spec.Env = nil
	b, err := json.Marshal(kept)
	if err == nil {
		err = claimFile(d.recordPath(spec.ID), b)
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
	s.mu.Lock()
	s.rec.Agent, s.rec.DiskLimit = digest, shared.diskLimit && s.rec.Spec.Resources.DiskMB > 0
	s.mu.Unlock()
	cfg, host := s.config(img, volume)
	if err := s.createContainer(ctx, cfg, host); err != nil {
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

// config describes the container to the engine.
func (s *sandbox) config(img source, volume string) (*container.Config, *container.HostConfig) {
	spec := s.rec.Spec
	hostname := spec.Hostname
	if hostname == "" {
		hostname = spec.ID
	}
	no := false
	cfg := &container.Config{
		Hostname: hostname, Image: img.id, User: "0:0", WorkingDir: "/",
		Entrypoint: []string{agentPath}, Cmd: agentArguments(),
		Labels:    s.d.labels(roleSandbox, spec.ID, spec.Project),
		OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		StopSignal:  "SIGKILL", // the agent ignores the polite ones, and an engine that stops would wait for it
	}
	host := &container.HostConfig{
		NetworkMode:    "none",
		LogConfig:      container.LogConfig{Type: "none"}, // a guest must not fill the engine's disk with output
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		IpcMode:        "private",
		CapDrop:        []string{"ALL"},
		CapAdd:         agentCapabilities,
		SecurityOpt:    []string{"no-new-privileges:true"},
		ReadonlyRootfs: spec.ReadOnly,
		Init:           &no,
		Tmpfs:          map[string]string{runDir: "rw,noexec,nosuid,nodev,mode=0755,size=1m"},
		Mounts:         append([]mount.Mount{agentMount(volume, s.d.agentLabels(s.rec.Agent))}, img.mounts...),
		Resources:      limits(spec.Resources),
	}
	maps.Copy(host.Tmpfs, img.tmpfs)
	if spec.ReadOnly {
		host.Tmpfs["/tmp"] = "rw,exec,nosuid,nodev,mode=1777,size=64m"
	}
	if s.rec.DiskLimit {
		host.StorageOpt = map[string]string{"size": fmt.Sprintf("%dm", spec.Resources.DiskMB)}
	}
	return cfg, host
}

// agentMount is the agent's volume, read-only. The labels are for the case
// that the volume went away and the engine makes an empty one of that name.
func agentMount(volume string, labels map[string]string) mount.Mount {
	return mount.Mount{
		Type: mount.TypeVolume, Source: volume, Target: agentDir, ReadOnly: true,
		VolumeOptions: &mount.VolumeOptions{NoCopy: true, Labels: labels},
	}
}

// limits puts resources in the engine's form. Swap is off: memory is all that
// a sandbox gets.
func limits(r faas.Resources) container.Resources {
	res := container.Resources{NanoCPUs: int64(r.CPUCores * 1e9)}
	if r.MemoryMB > 0 {
		res.Memory = r.MemoryMB << 20
		res.MemorySwap = res.Memory
	}
	if r.PIDs > 0 {
		res.PidsLimit = &r.PIDs
	}
	return res
}

// containerName is the name of a sandbox's container in the engine.
func (d *Driver) containerName(id string) string { return "faas-" + d.installation[:8] + "-" + id }

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

// limitError names the request field when the engine refuses a limit.
func limitError(err error) error {
	var e *faas.Error
	if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument {
		return err
	}
	text := strings.ToLower(e.Detail)
	field := ""
	switch {
	case strings.Contains(text, "cpu"):
		field = "cpu_cores"
	case strings.Contains(text, "memory"):
		field = "memory_mb"
	case strings.Contains(text, "storage"), strings.Contains(text, "size"):
		field = "disk_mb"
	}
	c := *e
	c.Field = field
	return &c
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
	_, err := a.stdin.Write(encodeSecret(secret))
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
