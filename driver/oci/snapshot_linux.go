package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/cgroup"
	"github.com/faas-platform/faas/driver/criu"
	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/snapshot"
)

const (
	// These are in the memory part of a full snapshot: CRIU's images, the
	// files of each tmpfs that the sandbox has, and the memory that all
	// restores share.
	imagesDir = "images"
	tmpfsDir  = "tmpfs"
	heapDir   = "heap"
	// ghostLimit is the size in bytes of the largest file without a name that
	// is saved with the processes that hold it open.
	ghostLimit = 1 << 30
	// dumpTimeout bounds one dump, whose source stands still meanwhile.
	dumpTimeout = 2 * time.Minute
	// minimumCRIU is the oldest version that saves and restores what sandboxes
	// hold: older ones fail on sockets and vDSOs of newer kernels.
	minimumCRIU = 40201
)

// savedData is the driver's own part of a snapshot.
type savedData struct {
	Secret   []byte   `json:"secret"`  // of the agent's channel at the time
	Stopped  []int    `json:"stopped"` // ids inside of processes that were stopped by a signal
	Mounts   []string `json:"mounts"`  // external ones, by their place inside
	ReadOnly bool     `json:"read_only"`
	Agent    string   `json:"agent"` // digest
}

var _ driver.Snapshotter = (*sandbox)(nil)

// Snapshot saves the sandbox. The source stands still while memory and changed
// files are written, and goes on.
func (s *sandbox) Snapshot(ctx context.Context, kind faas.SnapshotKind, files, memory string) (driver.Saved, error) {
	ctx, cancel := context.WithTimeout(ctx, dumpTimeout)
	defer cancel()
	s.saving.Lock() // one at a time: CRIU seizes the processes
	defer s.saving.Unlock()
	var saved driver.Saved
	var err error
	if kind == faas.SnapshotFull {
		saved, err = s.saveAll(ctx, files, memory)
	} else {
		saved, err = s.saveFiles(ctx, files)
	}
	if err != nil {
		return saved, snapshotError("snapshot sandbox "+s.id, err)
	}
	return saved, nil
}

func snapshotError(op string, err error) error {
	var known *faas.Error
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", op, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &faas.Error{Kind: faas.KindResourceExhausted, Op: op, Detail: "the disk is full",
			Remedy: "remove snapshots or give the data directory more room", Err: err}
	}
	return &faas.Error{Kind: faas.KindInternal, Op: op, Err: err}
}

// saveFiles copies the writable layer with the processes frozen, so that all
// files are of one moment.
func (s *sandbox) saveFiles(ctx context.Context, files string) (driver.Saved, error) {
	var saved driver.Saved
	if s.spec().ReadOnly {
		return s.describe(saved, faas.SnapshotFS, nil)
	}
	upper, release, err := s.upperOf()
	if err != nil {
		return saved, err
	}
	defer release() //nolint:errcheck // opened by path only
	started := time.Now()
	frozen := s.group != nil && s.driver.has(cgroup.Freezer)
	if frozen {
		if err := s.group.Freeze(ctx); err != nil {
			return saved, errors.Join(fmt.Errorf("freeze: %w", err), s.group.Thaw())
		}
	}
	err = snapshot.CopyLayer(ctx, upper, files)
	if frozen {
		err = errors.Join(err, s.group.Thaw())
	}
	saved.Pause = time.Since(started)
	if err != nil {
		return saved, err
	}
	return s.describe(saved, faas.SnapshotFS, nil)
}

// saveAll dumps memory and processes, and copies the files while those are
// still stopped: later they would no longer be what the processes know.
func (s *sandbox) saveAll(ctx context.Context, files, memory string) (driver.Saved, error) {
	var saved driver.Saved
	tool, err := s.driver.criuTool(ctx)
	if err != nil {
		return saved, err
	}
	if s.record.Launcher != LauncherBuiltin {
		return saved, faas.Unavailable("memory is saved of sandboxes of the builtin launcher, and this one was started with "+s.record.Launcher,
			"configure the launcher builtin for the native runtime")
	}
	images := filepath.Join(memory, imagesDir)
	// Restored processes read it as users of their own, through a descriptor:
	// what keeps others out is the directory above.
	if err := os.Mkdir(images, 0o755); err != nil { //nolint:gosec
		return saved, err
	}
	stopped, err := stoppedInside(s.process.ID.PID)
	if err != nil {
		return saved, err
	}
	var started time.Time
	opts := s.dumpOptions()
	hooks := criu.Hooks{
		"network-lock": func(int) error { started = time.Now(); return nil },
		"post-dump":    func(int) error { return s.saveStopped(ctx, files, memory) },
	}
	err = s.driver.onStage(func() error { return tool.Dump(ctx, images, opts, hooks) })
	if !started.IsZero() {
		saved.Pause = time.Since(started)
	}
	if err == nil {
		err = criu.RearmTimers(images)
	}
	if err == nil {
		err = s.share(memory)
	}
	if err != nil {
		return saved, err
	}
	return s.describe(saved, faas.SnapshotFull, stopped)
}

// share moves the saved memory to where restores share it. The source runs on
// already.
func (s *sandbox) share(memory string) error {
	heap := filepath.Join(memory, heapDir)
	// Readable by restored processes, which must know a file's name.
	if err := os.Mkdir(heap, 0o711); err != nil { //nolint:gosec
		return err
	}
	earlier := ""
	for _, m := range s.record.Mounts {
		if m.Destination == memoryDir {
			earlier = m.Source
		}
	}
	if earlier == "" {
		return nil
	}
	_, err := criu.Share(criu.Sharing{
		Images: filepath.Join(memory, imagesDir), Files: heap, Mount: memoryDir, Key: externalKey(memoryDir),
		Earlier: earlier, Skip: func(pid int) bool { return pid == 1 },
	})
	return err
}

// saveStopped runs while the processes are stopped.
func (s *sandbox) saveStopped(ctx context.Context, files, memory string) error {
	if !s.spec().ReadOnly {
		upper, release, err := s.upperOf()
		if err != nil {
			return err
		}
		err = snapshot.CopyLayer(ctx, upper, files)
		if err = errors.Join(err, release()); err != nil {
			return err
		}
	}
	for _, m := range s.record.Mounts {
		if m.Type != "tmpfs" {
			continue
		}
		to := filepath.Join(memory, tmpfsDir, externalKey(m.Destination))
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		from := fmt.Sprintf("/proc/%d/root%s", s.process.ID.PID, m.Destination)
		if err := snapshot.CopyLayer(ctx, from, to); err != nil {
			return err
		}
	}
	return nil
}

func value[T any](v T) *T { return &v }

// cloneNewNet is the network namespace in CRIU's options.
const cloneNewNet = uint32(unix.CLONE_NEWNET)

// dumpOptions leave out whatever a sandbox has no need of: no network to lock
// or save, no control groups (the driver's own), no mounts but those that only
// CRIU can make.
func (s *sandbox) dumpOptions() *rpc.CriuOpts {
	opts := &rpc.CriuOpts{
		Pid: value(int32(s.process.ID.PID)), LeaveRunning: value(true), LogLevel: value(int32(2)),
		TcpClose: value(true), FileLocks: value(true), LinkRemap: value(true), GhostLimit: value(uint32(ghostLimit)),
		NetworkLock: value(rpc.CriuNetworkLockMethod_SKIP), EmptyNs: value(cloneNewNet),
		ManageCgroups: value(true), ManageCgroupsMode: value(rpc.CriuCgMode_IGNORE),
	}
	for _, target := range s.externalMounts() {
		opts.External = append(opts.External, "mnt["+target+"]:"+externalKey(target))
	}
	return opts
}

func (s *sandbox) externalMounts() []string {
	var list []string
	if !s.spec().ReadOnly {
		list = append(list, keptLayer)
	}
	for _, m := range s.record.Mounts {
		if external(m) {
			list = append(list, m.Destination)
		}
	}
	return list
}

// describe fills in what a restore must know and have.
func (s *sandbox) describe(saved driver.Saved, kind faas.SnapshotKind, stopped []int) (driver.Saved, error) {
	data, err := json.Marshal(savedData{
		Secret: s.channelSecret(), Stopped: stopped, Mounts: s.externalMounts(),
		ReadOnly: s.spec().ReadOnly, Agent: s.record.Agent,
	})
	saved.Data = data
	if err == nil && kind == faas.SnapshotFull {
		saved.Requires, err = s.requirements()
	}
	return saved, err
}

// stoppedInside lists the processes of a sandbox that a signal has stopped, by
// their ids inside: a restore must not wake them.
func stoppedInside(pid int) ([]int, error) {
	var list []int
	err := eachDescendant(pid, func(pid int) error {
		_, state, err := pidfd.StartTime(pid)
		if errors.Is(err, pidfd.ErrGone) || state != 'T' {
			return nil
		}
		if inner, ok := innerID(pid); ok {
			list = append(list, inner)
		}
		return err
	})
	return list, err
}

// eachDescendant calls f for a process and all below it.
func eachDescendant(pid int, f func(pid int) error) error {
	if err := f(pid); err != nil {
		return err
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return ignoreMissing(err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			if ignoreMissing(err) == nil || errors.Is(err, unix.ESRCH) {
				continue
			}
			return err
		}
		for field := range strings.FieldsSeq(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if err := eachDescendant(child, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// innerID returns a process's id in its own process namespace.
func innerID(pid int) (int, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(list)
			inner, err := strconv.Atoi(fields[len(fields)-1])
			return inner, err == nil
		}
	}
	return 0, false
}

// criuAnswers bounds what an installed CRIU may take to say its version.
const criuAnswers = 3 * time.Second

// criuTool finds a CRIU that is new enough.
func (n *Native) criuTool(ctx context.Context) (*criu.Tool, error) {
	const remedy = criuRemedy
	if os.Geteuid() != 0 {
		return nil, faas.Unavailable("saving memory with CRIU needs root", runAsRoot)
	}
	name := n.opts.CRIU
	if name == "" {
		name = "criu"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, faas.Unavailable(criuMissing, remedy)
	}
	n.criuMu.Lock()
	defer n.criuMu.Unlock()
	if n.criuFound != nil && n.criuFound.Path == path {
		return n.criuFound, nil
	}
	tool := &criu.Tool{Path: path}
	asking, cancel := context.WithTimeout(ctx, criuAnswers)
	defer cancel()
	version, err := tool.Version(asking)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindCapabilityUnavailable, Detail: "the installed CRIU does not answer", Remedy: remedy, Err: err}
	}
	if version < minimumCRIU {
		return nil, faas.Unavailable("memory needs CRIU 4.2.1 or newer, found "+criuVersion(version), remedy)
	}
	n.criuFound, n.criuVersion = tool, criuVersion(version)
	return tool, nil
}

func criuVersion(v int) string { return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100) }
