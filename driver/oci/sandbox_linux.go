package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/pidfd"
)

// sandbox is one native sandbox.
type sandbox struct {
	id     string
	secret []byte // guarded by mu: a restore changes it
	driver *Native
	group  *cgroup.Group // nil: no control groups
	done   chan struct{} // closed when process 1 has ended
	end    sync.Once     // closes done
	// unwatched is closed when the driver was closed while process 1 ran.
	unwatched chan struct{}

	process *pidfd.Handle // set once, before the sandbox is handed out; nil when it never started

	saving sync.Mutex // one snapshot at a time

	mu         sync.Mutex
	record     record
	destroying bool

	destroy sync.Mutex // one Destroy at a time
}

var (
	_ driver.Sandbox = (*sandbox)(nil)
	_ driver.Pauser  = (*sandbox)(nil)
)

func (n *Native) newSandbox(r *record) *sandbox {
	s := &sandbox{id: r.ID, secret: r.Secret, driver: n, record: *r,
		done: make(chan struct{}), unwatched: make(chan struct{})}
	if n.tree != nil {
		s.group = n.tree.Group(r.ID)
	}
	return s
}

// placed records the process before it can outlive this one.
func (s *sandbox) placed(h *pidfd.Handle) error {
	return s.update(func(r *record) { r.Process = h.ID })
}

// update changes the record, on disk first.
func (s *sandbox) update(change func(*record)) error {
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

// spec returns what the sandbox was made for, or adopted for.
func (s *sandbox) spec() faas.Spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record.Spec
}

// confine puts the process under the sandbox's limits.
func (s *sandbox) confine(pid int) error {
	if s.group == nil {
		return nil
	}
	return s.group.Add(pid)
}

// watch returns when the sandbox's first process has ended or the driver is
// closed.
func (s *sandbox) watch() {
	if err := s.process.Wait(); err != nil {
		close(s.unwatched)
		return
	}
	s.ended()
}

// ended takes note of the end of process 1.
func (s *sandbox) ended() {
	s.end.Do(func() {
		if s.process != nil && s.process.Child != nil {
			reap(s.process.Child) //nolint:errcheck // only the zombie matters
		}
		close(s.done)
	})
}

// ID returns the sandbox's id.
func (s *sandbox) ID() string { return s.id }

// handleData is what a handle says besides the id. The record in the
// sandbox's directory has the rest.
type handleData struct {
	Process pidfd.ID `json:"process"`
}

// Handle returns what Recover needs.
func (s *sandbox) Handle() driver.Handle {
	data, _ := json.Marshal(handleData{Process: s.process.ID}) // three plain fields
	return driver.Handle{Runtime: faas.RuntimeNative, ID: s.id, Data: data}
}

// Channel returns the secret; connections are cheap.
func (s *sandbox) Channel() driver.Channel { return driver.Channel{Secret: s.channelSecret()} }

// Dial connects to the agent.
func (s *sandbox) Dial(ctx context.Context) (net.Conn, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	conn, err := dialAgent(ctx, s.process.ID)
	if err != nil {
		return nil, s.unreachable(err)
	}
	return conn, nil
}

// dialAgent connects to the agent's socket inside. The way leads through the
// sandbox's own root, so each step refuses symbolic links: root inside must
// not lead the host to a socket of the host.
func dialAgent(ctx context.Context, id pidfd.ID) (net.Conn, error) {
	root, err := openPath("/proc/" + strconv.Itoa(id.PID) + "/root")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// The number may have been another's only before this moment: what is
	// open is the sandbox's when it still runs now.
	if !id.Alive() {
		return nil, pidfd.ErrGone
	}
	fd, err := unix.Openat2(int(root.Fd()), path.Clean("."+socketPath), &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var d net.Dialer
	return d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
}

func (s *sandbox) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.destroying {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "dial sandbox " + s.id, Detail: "it is being destroyed"}
	}
	return nil
}

func (s *sandbox) unreachable(err error) error {
	return &faas.Error{Kind: faas.KindUnavailable, Op: "dial sandbox " + s.id, Detail: "its agent cannot be reached", Err: err}
}

// Wait returns when process 1 has ended. It goes on after the driver was
// closed.
func (s *sandbox) Wait(ctx context.Context) error {
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

// Stats reads the control groups and the writable layer.
func (s *sandbox) Stats(context.Context) (driver.Stats, error) {
	var out driver.Stats
	if s.group != nil {
		g, err := s.group.Stats()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return out, &faas.Error{Kind: faas.KindNotFound, Op: "stats", Detail: "sandbox " + s.id + " is gone", Err: err}
		}
		if err != nil {
			return out, &faas.Error{Kind: faas.KindInternal, Op: "stats of sandbox " + s.id, Err: err}
		}
		out = driver.Stats{CPUMS: g.CPUMS, MemoryBytes: g.MemoryBytes, MaxMemoryBytes: g.MaxMemoryBytes,
			PIDs: g.PIDs, OOMKills: g.OOMKills, PIDsRefused: g.PIDsRefused}
	}
	var disk unix.Statfs_t
	root := "/proc/" + strconv.Itoa(s.process.ID.PID) + "/root"
	if !s.spec().ReadOnly && s.process.ID.Alive() && unix.Statfs(root, &disk) == nil {
		out.DiskBytes = int64(disk.Blocks-disk.Bfree) * disk.Bsize
	}
	return out, nil
}

// Pause stops every process of the sandbox.
func (s *sandbox) Pause(ctx context.Context) error {
	if s.group == nil || !s.driver.has(cgroup.Freezer) {
		return s.noFreezer("pause")
	}
	if err := s.group.Freeze(ctx); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "pause sandbox " + s.id, Err: errors.Join(err, s.group.Thaw())}
	}
	return nil
}

// Resume lets them go on.
func (s *sandbox) Resume(context.Context) error {
	if s.group == nil || !s.driver.has(cgroup.Freezer) {
		return s.noFreezer("resume")
	}
	if err := s.group.Thaw(); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "resume sandbox " + s.id, Err: err}
	}
	return nil
}

func (s *sandbox) noFreezer(op string) error {
	c := s.driver.cgroupCapability(faas.FeaturePause, cgroup.Freezer)
	return &faas.Error{Kind: faas.KindCapabilityUnavailable, Op: op + " sandbox", Detail: c.Reason, Remedy: c.Remedy}
}

// Destroy ends and removes the sandbox. It goes on from where an earlier one
// failed.
func (s *sandbox) Destroy(ctx context.Context) error {
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
	if s.process != nil {
		s.process.Close() //nolint:errcheck // nothing was written
	}
	s.driver.forget(s.id)
	return nil
}

// Adopt gives a sandbox that was made ahead of time the limits, labels and
// name of a request.
func (n *Native) Adopt(_ context.Context, made driver.Sandbox, spec faas.Spec) error {
	s, ok := made.(*sandbox)
	if !ok || s.driver != n {
		return faas.Errorf(faas.KindInvalidArgument, "adopt sandbox: %s is not of this driver", made.ID())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.adoptable(spec); err != nil {
		return err
	}
	next := s.record
	next.Spec = spec
	next.Spec.ID = s.id
	if s.group != nil {
		if err := s.group.SetLimits(limits(spec.Resources)); err != nil {
			return &faas.Error{Kind: faas.KindInternal, Op: "adopt sandbox " + s.id, Err: err}
		}
	}
	if spec.Hostname != "" && spec.Hostname != driver.Hostname(s.record.Spec) {
		if err := setHostname(s.process.ID.PID, spec.Hostname); err != nil {
			return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "adopt sandbox " + s.id,
				Field: "hostname", Detail: "it cannot be changed any more", Err: err}
		}
	}
	if err := n.work.Save(&next); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "adopt sandbox " + s.id, Err: err}
	}
	s.record = next
	return nil
}

// adoptable refuses what is fixed at Create.
func (s *sandbox) adoptable(spec faas.Spec) error {
	have := s.record.Spec
	for _, fixed := range []struct {
		field string
		same  bool
	}{
		{"image", have.Image == spec.Image},
		{"disk_mb", have.ReadOnly || have.Resources.DiskMB == spec.Resources.DiskMB},
		{"read_only", have.ReadOnly == spec.ReadOnly},
		{"network", isNone(have.Network) && isNone(spec.Network)},
	} {
		if !fixed.same {
			return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "adopt sandbox " + have.ID, Field: fixed.field,
				Detail: "it differs from what the sandbox was made with"}
		}
	}
	if !s.process.ID.Alive() {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "adopt sandbox " + have.ID, Detail: "it does not run any more"}
	}
	return nil
}

func isNone(p faas.NetworkPolicy) bool { return p.Mode == "" || p.Mode == faas.NetworkNone }

// setHostname enters the host name namespace of a process.
func setHostname(pid int, name string) error {
	return onOwnThread(func() error {
		fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("enter the host name namespace: %w", err)
		}
		return unix.Sethostname([]byte(name))
	})
}
