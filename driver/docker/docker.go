// Package docker is the driver of the docker runtime: it makes sandboxes
// through the Docker Engine API, on an engine of this machine, in a virtual
// machine (Docker Desktop, Colima) or far away.
//
// # What a sandbox is here
//
// A container whose PID 1 is the guest agent, without a network, with every
// capability dropped but those that the agent needs, no new privileges and
// the engine's seccomp profile. The agent comes from a volume that is filled
// once through the API and mounted read-only, so nothing depends on the
// engine seeing this machine's files, and root inside cannot change it. The
// channel secret is written to the container's standard input, which is then
// closed: it stands in no file and in no inspectable field.
//
// # The way to the agent
//
// Where the engine runs on this very kernel and the daemon may look into the
// container's root, Dial connects to the agent's socket through
// /proc/PID/root: no helper process, one connection per stream. Everywhere
// else a shim (the agent's connect command) is exec'd in the container and
// its standard streams, hijacked over the API, are the connection; that costs
// a process, so the guest client multiplexes. The handshake of the guest
// protocol proves in both cases that the right agent answers. A shim is a
// process inside: root there can stop it, and so cut its own sandbox off until
// the next Dial, which harms nobody else.
//
// # What belongs to us
//
// Every container, volume and image that the driver makes carries the label
// LabelInstallation with the id of its Dir. Sweep and Destroy remove nothing
// without it.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/network"
)

// Labels on everything that the driver makes in an engine.
const (
	LabelInstallation = "io.faas.installation" // id of the Dir that it belongs to
	LabelOwner        = "io.faas.owner"        // driver process that made it
	LabelRole         = "io.faas.role"         // sandbox, probe, agent, skeleton, state
	LabelSandbox      = "io.faas.sandbox"      // id of the sandbox
	LabelProject      = "io.faas.project"      // tenant
	LabelDigest       = "io.faas.digest"       // content of an agent volume or a skeleton image
)

// Values of LabelRole.
const (
	roleSandbox  = "sandbox"
	roleProbe    = "probe"
	roleAgent    = "agent"
	roleSkeleton = "skeleton"
	roleState    = "state"
)

// Options configures a Driver. Only Dir is required.
type Options struct {
	// Dir is a private directory for the secrets and records of this
	// installation's sandboxes; made when missing. Drivers of one Dir share
	// their sandboxes, one after the other or at the same time.
	Dir string
	// Host is the engine's address (unix://, npipe://, tcp://, ssh://). When
	// it is empty the engine is found as the docker command finds it:
	// DOCKER_HOST, DOCKER_CONTEXT, the current context of the docker
	// configuration, the platform's default socket.
	Host string
	// Context names a docker context to use instead.
	Context string
	// ForceRemote forgoes everything that needs the engine on this machine.
	ForceRemote bool
	// Network says which addresses and name servers connected sandboxes get;
	// its Installation and Logger are the driver's own.
	Network network.Options
	// EngineGrace is how long Wait bears an engine that does not answer before
	// it gives up on the sandbox; 0: one minute.
	EngineGrace time.Duration
	Logger      *slog.Logger // nil: discard
}

// Driver makes sandboxes on one engine. It is safe for concurrent use.
type Driver struct {
	opts         Options
	log          *slog.Logger
	installation string
	owner        *owner
	engine       *engine

	mu      sync.Mutex
	network *network.Network // nil until needed
	store   *image.Store     // of skeletons; nil until needed

	assembly chan struct{} // holds one token: who has it may assemble an image
}

// New returns a driver. It reads and writes only local files: an engine that
// is dead, missing or slow shows in Probe and in the first call that needs it.
func New(opts Options) (*Driver, error) {
	if opts.Dir == "" {
		return nil, faas.InvalidField("dir", "the docker driver needs a directory of its own")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.EngineGrace == 0 {
		opts.EngineGrace = time.Minute
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, faas.InvalidField("dir", "docker driver: %v", err)
	}
	opts.Dir = dir
	installation, err := openInstallation(dir)
	if err != nil {
		return nil, err
	}
	own, err := newOwner(filepath.Join(dir, "owners"))
	if err != nil {
		return nil, err
	}
	d := &Driver{
		opts: opts, log: opts.Logger, installation: installation, owner: own,
		engine: newEngine(opts.Host, opts.Context), assembly: make(chan struct{}, 1),
	}
	d.assembly <- struct{}{}
	return d, nil
}

// Name implements driver.Driver.
func (d *Driver) Name() faas.Runtime { return faas.RuntimeDocker }

// Close gives up the driver's connections. Sandboxes live on.
func (d *Driver) Close() error {
	return errors.Join(d.engine.close(), d.closeNetworks(), d.owner.close())
}

// handleData is what Recover needs besides the id.
type handleData struct {
	Container string `json:"container"`
}

// Recover implements driver.Driver: it returns the sandbox of a handle when
// its container still runs (or is paused). A sandbox whose engine was
// restarted without live-restore has ended and is faas.ErrNotFound; an engine
// that cannot be asked is faas.ErrUnavailable, and the sandbox may live.
func (d *Driver) Recover(ctx context.Context, h driver.Handle) (driver.Sandbox, error) {
	const op = "recover docker sandbox"
	var data handleData
	if err := json.Unmarshal(h.Data, &data); err != nil || data.Container == "" || !validName(h.ID) {
		return nil, &faas.Error{Kind: faas.KindInvalidArgument, Op: op, Detail: "the handle of " + h.ID + " is not one of the docker driver", Err: err}
	}
	rec, err := d.readRecord(h.ID)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &faas.Error{Kind: faas.KindNotFound, Op: op, Detail: "nothing is recorded of sandbox " + h.ID}
	}
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInternal, Op: op, Detail: "record of sandbox " + h.ID, Err: err}
	}
	if rec.Container != data.Container {
		return nil, &faas.Error{Kind: faas.KindNotFound, Op: op, Detail: "sandbox " + h.ID + " is another one now"}
	}
	info, err := d.engine.inspect(ctx, data.Container)
	if err != nil {
		return nil, opError(op, "sandbox "+h.ID, err)
	}
	if !d.isOurs(info.Config, h.ID) || info.State == nil || !info.State.Running {
		return nil, &faas.Error{Kind: faas.KindNotFound, Op: op, Detail: "sandbox " + h.ID + " does not run any more"}
	}
	s := d.newSandbox(h.ID, rec)
	if err := s.update(func(rec *record) { rec.Owner = d.owner.token }); err != nil {
		return nil, err
	}
	s.setPaused(info.State.Paused)
	s.locate(info.State.Pid)
	if rec.Saving != nil { // a snapshot was under way when the last daemon ended
		if err := s.letGo(ctx, *rec.Saving); err != nil {
			return nil, opError(op, "sandbox "+h.ID, err)
		}
	}
	return s, nil
}
