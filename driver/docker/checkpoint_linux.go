package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver/criu"
	"github.com/faas-platform/faas/snapshot"
)

// canRestoreMemory says why this process cannot put checkpoints where the
// engine looks for them.
func canRestoreMemory(dataRoot string) error {
	if os.Geteuid() != 0 {
		return faas.Unavailable(memoryElsewhere, besideRemedy)
	}
	if _, err := os.Stat(filepath.Join(dataRoot, "containers")); err != nil {
		return faas.Unavailable("the engine's directory "+dataRoot+" is not to be seen from here", besideRemedy)
	}
	return nil
}

// placeCheckpoint puts the checkpoint of a state where the engine looks for
// those of a container, and returns what removes it again.
func placeCheckpoint(ctx context.Context, memory, dataRoot, id string) (remove func() error, err error) {
	dir := filepath.Join(dataRoot, "containers", id, "checkpoints")
	remove = func() error { return os.RemoveAll(dir) }
	to := filepath.Join(dir, checkpointName)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return nil, layerError("place the checkpoint", err)
	}
	if err := snapshot.CopyLayer(ctx, filepath.Join(memory, checkpointName), to); err != nil {
		return nil, errors.Join(layerError("place the checkpoint", err), remove())
	}
	if err := criu.RearmTimers(to); err != nil {
		return nil, errors.Join(layerError("mend the checkpoint's timers", err), remove())
	}
	// The engine keeps checkpoints by their content while it restores, and
	// fails when two restores bring the same: so no two are the same.
	if err := os.WriteFile(filepath.Join(to, "copy"), []byte(id), 0o600); err != nil {
		return nil, errors.Join(layerError("place the checkpoint", err), remove())
	}
	return remove, nil
}

// inhabitant is one process of a sandbox other than the agent.
type inhabitant struct {
	pid     int
	inner   int  // its id inside
	stopped bool // by a signal
}

// others lists the sandbox's processes below the agent, parents first.
func (s *sandbox) others() ([]inhabitant, error) {
	direct, p := s.located()
	if !direct || !p.alive() {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "the sandbox has ended"}
	}
	var list []inhabitant
	err := eachDescendant(p.pid, 0, func(pid int) {
		if in, err := inspectProcess(pid); err == nil { // else it has just ended
			list = append(list, in)
		}
	})
	return list, err
}

// maxDescent bounds how deep a tree of processes is followed.
const maxDescent = 10000

func eachDescendant(pid, depth int, visit func(pid int)) error {
	if depth > maxDescent {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "the sandbox's processes are nested too deeply"}
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil //nolint:nilerr // it has just ended
	}
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue // so has this thread
		}
		for field := range strings.FieldsSeq(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			visit(child)
			if err := eachDescendant(child, depth+1, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func inspectProcess(pid int) (inhabitant, error) {
	b, err := readSmall(fmt.Sprintf("/proc/%d/status", pid), 16<<10)
	if err != nil {
		return inhabitant{}, err
	}
	in := inhabitant{pid: pid, stopped: strings.HasPrefix(statusField(string(b), "State"), "T")}
	if at, err := readSmall(fmt.Sprintf("/proc/%d/wchan", pid), 256); err == nil && string(at) == "do_signal_stop" {
		in.stopped = true // and frozen, which hides the state
	}
	ids := strings.Fields(statusField(string(b), "NSpid"))
	if len(ids) == 0 {
		return in, fmt.Errorf("process %d has ended", pid)
	}
	in.inner, err = strconv.Atoi(ids[len(ids)-1])
	return in, err
}

// vforkWaits are the kernel's functions in which a thread waits for the child of
// a vfork, by the names that they have had.
var vforkWaits = []string{"kernel_clone", "wait_for_vfork_done", "_do_fork", "do_fork"}

// forking says whether a thread of the frozen sandbox waits in a vfork.
func (s *sandbox) forking() (bool, error) {
	list, err := s.others()
	if err != nil {
		return false, err
	}
	_, agent := s.located()
	for _, in := range append(list, inhabitant{pid: agent.pid}) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", in.pid))
		if err != nil {
			return false, err
		}
		for _, task := range tasks {
			at, err := readSmall(task, 256)
			if err == nil && slices.Contains(vforkWaits, string(at)) {
				return true, nil
			}
		}
	}
	return false, nil
}

// stoppedBefore lists the processes that a signal has stopped, by their ids
// inside: neither the source nor a copy may let them go on.
func (s *sandbox) stoppedBefore() ([]int, error) {
	list, err := s.others()
	var stopped []int
	for _, in := range list {
		if in.stopped {
			stopped = append(stopped, in.inner)
		}
	}
	return stopped, err
}

// stopOthers marks every process but the agent to be stopped, while all are
// frozen: the engine's restore lets all that run go on at once, and these must
// wait until the copy has been prepared. A mark takes effect where the process
// thaws, so the source need not notice.
//
// A process that is stopped already is woken first, into its frozen state:
// CRIU would wait for ever until it says that it stands, which a frozen one
// cannot.
func (s *sandbox) stopOthers() error {
	list, err := s.others()
	if err != nil {
		return err
	}
	for _, in := range list {
		for _, signal := range []unix.Signal{unix.SIGCONT, unix.SIGSTOP} {
			if err := unix.Kill(in.pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("stop process %d: %w", in.pid, err)
			}
		}
	}
	return nil
}

// continueOthers lets every process go on but those that were stopped before.
// Children come before their parents, which so find none of them stopped.
func (s *sandbox) continueOthers(stopped []int) error {
	list, err := s.others()
	if err != nil {
		return err
	}
	for _, in := range slices.Backward(list) {
		if slices.Contains(stopped, in.inner) {
			continue
		}
		if err := unix.Kill(in.pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("let process %d go on: %w", in.pid, err)
		}
	}
	return nil
}

// rename gives a restored sandbox its own host name: CRIU brings that of the
// source back.
func (s *sandbox) rename() error {
	direct, p := s.located()
	if !direct {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "the restored container cannot be reached past the engine"}
	}
	rec := s.snapshotRecord()
	name := hostnameOf(rec.Spec)
	done := make(chan error, 1)
	go func() { // ends at once, and its thread with it, which is in another namespace
		runtime.LockOSThread()
		done <- func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/uts", p.pid))
			if err != nil {
				return err
			}
			defer ns.Close()
			if !p.alive() {
				return fmt.Errorf("the agent, process %d, has ended", p.pid)
			}
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWUTS); err != nil {
				return err
			}
			return unix.Sethostname([]byte(name))
		}()
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	return nil
}

// criuLog returns the last errors of a log of CRIU's, or nothing.
func criuLog(path string) string {
	if !filepath.IsAbs(path) {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		if _, err := f.Seek(-64<<10, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return ""
	}
	// The first error may be one that CRIU gets over, the last only says that
	// it gave up.
	var said []string
	for line := range bytes.Lines(b) {
		if _, text, ok := bytes.Cut(bytes.TrimSpace(line), []byte("Error (")); ok && !bytes.HasSuffix(text, []byte(" FAILED.")) {
			said = append(said, "Error ("+strings.ToValidUTF8(string(text[:min(len(text), 200)]), "?"))
		}
	}
	return strings.Join(said[max(0, len(said)-3):], "; ")
}
