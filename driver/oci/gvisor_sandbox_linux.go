package oci

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest"
)

// gvisorSandbox is one sandbox of gVisor.
type gvisorSandbox struct {
	id      string
	driver  *GVisor
	group   *cgroup.Group
	channel *dialOutChannel
	done    chan struct{} // closed when gVisor's kernel has ended
	end     sync.Once     // closes done
	// unwatched is closed when the driver was closed while the kernel ran.
	unwatched chan struct{}

	process *pidfd.Handle // gVisor's kernel; set once, before the sandbox is handed out; nil when it never started

	mu         sync.Mutex
	record     record
	destroying bool

	destroy sync.Mutex // one Destroy at a time
	saving  sync.Mutex // one Snapshot at a time
}

var (
	_ driver.Sandbox = (*gvisorSandbox)(nil)
	_ driver.Pauser  = (*gvisorSandbox)(nil)
)

func (g *GVisor) newSandbox(r *record) *gvisorSandbox {
	proof := r.Proof
	if proof == nil {
		proof = guest.DialOutProof(r.Secret)
	}
	s := &gvisorSandbox{
		id: r.ID, driver: g, record: *r,
		channel: newDialOutChannel(filepath.Join(g.work.Path(r.ID), "channel"), g.shift, proof),
		done:    make(chan struct{}), unwatched: make(chan struct{}),
	}
	if g.tree != nil {
		s.group = g.tree.Group(r.ID)
	}
	return s
}

// update changes the record, on disk first.
func (s *gvisorSandbox) update(change func(*record)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.record
	change(&next)
	if err := s.driver.work.Save(&next); err != nil {
		return err
	}
	s.record = next
	return nil
}

// spec returns what the sandbox was made for.
func (s *gvisorSandbox) spec() faas.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Spec
}

// watch returns when gVisor's kernel has ended or the driver is closed.
func (s *gvisorSandbox) watch() {
	if err := s.process.Wait(); err != nil {
		close(s.unwatched)
		return
	}
	s.ended()
}

func (s *gvisorSandbox) ended() { s.end.Do(func() { close(s.done) }) }

// ID returns the sandbox's id.
func (s *gvisorSandbox) ID() string { return s.id }

// Handle returns what Recover needs. The record has the rest.
func (s *gvisorSandbox) Handle() driver.Handle {
	data, _ := json.Marshal(handleData{Process: s.process.ID}) // three plain fields
	return driver.Handle{Runtime: faas.RuntimeGVisor, ID: s.id, Data: data}
}

// Channel asks for one connection per client: each is the agent's to bring.
func (s *gvisorSandbox) Channel() driver.Channel {
	return driver.Channel{Secret: s.channelSecret(), Multiplex: true}
}

func (s *gvisorSandbox) channelSecret() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Secret
}

// Dial takes a connection that the agent offers.
func (s *gvisorSandbox) Dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	destroying := s.destroying
	s.mu.Unlock()
	if destroying {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "dial sandbox " + s.id, Detail: "it is being destroyed"}
	}
	conn, err := s.channel.dial(ctx, s.done)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, &faas.Error{Kind: faas.KindOf(ctx.Err()), Op: "dial sandbox " + s.id, Detail: "its agent did not come in time", Err: err}
	}
	return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "dial sandbox " + s.id, Detail: "its agent cannot be reached", Err: err}
}

// Wait returns when gVisor's kernel has ended. It goes on after the driver was
// closed.
func (s *gvisorSandbox) Wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.unwatched:
	}
	process, err := pidfd.Open(s.process.ID)
	if errors.Is(err, pidfd.ErrGone) {
		s.ended()
		return nil
	}
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "wait for sandbox " + s.id, Err: err}
	}
	defer process.Close() //nolint:errcheck // nothing was written
	if err := process.WaitUntil(ctx); err != nil {
		return err
	}
	s.ended()
	return nil
}

// Stats reads the control groups, which hold gVisor's own processes too, and
// asks its kernel for the number of processes inside. An ended sandbox's
// figures can be read until it is destroyed.
func (s *gvisorSandbox) Stats(ctx context.Context) (driver.Stats, error) {
	g, err := s.group.Stats()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return driver.Stats{}, &faas.Error{Kind: faas.KindNotFound, Op: "stats", Detail: "sandbox " + s.id + " is gone", Err: err}
	}
	if err != nil {
		return driver.Stats{}, &faas.Error{Kind: faas.KindInternal, Op: "stats of sandbox " + s.id, Err: err}
	}
	out := driver.Stats{CPUMS: g.CPUMS, MemoryBytes: g.MemoryBytes, MaxMemoryBytes: g.MaxMemoryBytes, OOMKills: g.OOMKills}
	out.DiskBytes = s.layerSize()
	select {
	case <-s.done:
		return out, nil
	default:
	}
	// A kernel that is frozen or ends does not answer; the rest still holds.
	ask, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	if running, refused, err := s.processes(ask); err == nil {
		out.PIDs, out.PIDsRefused = running, refused
	}
	return out, nil
}

// layerSize is what the writable layer's file takes on the host's disk.
func (s *gvisorSandbox) layerSize() int64 {
	f, err := s.upperData()
	if err != nil {
		return 0
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Pause stops every process of the sandbox, gVisor's own included.
func (s *gvisorSandbox) Pause(ctx context.Context) error {
	if !s.driver.has(cgroup.Freezer) {
		return s.noFreezer("pause")
	}
	if err := s.group.Freeze(ctx); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "pause sandbox " + s.id, Err: errors.Join(err, s.group.Thaw())}
	}
	return nil
}

// Resume lets them go on.
func (s *gvisorSandbox) Resume(context.Context) error {
	if !s.driver.has(cgroup.Freezer) {
		return s.noFreezer("resume")
	}
	if err := s.group.Thaw(); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "resume sandbox " + s.id, Err: err}
	}
	return nil
}

func (s *gvisorSandbox) noFreezer(op string) error {
	c := s.driver.cgroupCapability(faas.FeaturePause, cgroup.Freezer)
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: op + " sandbox", Detail: c.Reason, Remedy: c.Remedy}
}

// Destroy ends and removes the sandbox. It goes on from where an earlier one
// failed.
func (s *gvisorSandbox) Destroy(ctx context.Context) error {
	s.mu.Lock()
	s.destroying = true
	s.mu.Unlock()
	s.destroy.Lock()
	defer s.destroy.Unlock()
	s.mu.Lock()
	r := s.record
	s.mu.Unlock()
	if err := s.driver.remove(ctx, &r); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "destroy sandbox " + s.id, Err: err}
	}
	s.ended() // remove saw to it
	s.channel.close()
	if s.process != nil {
		s.process.Close() //nolint:errcheck // nothing was written
	}
	s.driver.forget(s.id)
	return nil
}
