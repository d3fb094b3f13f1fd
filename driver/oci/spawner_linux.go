package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest/launch"
)

// spawnTimeout bounds one clone, which takes milliseconds.
const spawnTimeout = 20 * time.Second

// spawner is a small process that clones others for this one (see
// launch.Spawn). It is started when it is first needed, and again when it has
// ended, and ends with this process. It may be used concurrently.
type spawner struct {
	agent string // the agent's executable on the host

	mu     sync.Mutex // one clone at a time
	conn   *net.UnixConn
	cmd    *exec.Cmd
	closed bool
}

// spawn clones a process. The caller owns the pidfd.
func (s *spawner) spawn(r *launch.SpawnRequest, files []*os.File) (pid, fd int, err error) {
	message, err := json.Marshal(r)
	if err != nil {
		return 0, -1, err
	}
	if len(message) > launch.MaxSpawn {
		return 0, -1, fmt.Errorf("the request takes %d bytes, %d at most", len(message), launch.MaxSpawn)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for attempt := 1; ; attempt++ {
		if err := s.start(); err != nil {
			return 0, -1, fmt.Errorf("start the process that clones: %w", err)
		}
		err := s.ask(message, files)
		if err == nil {
			break
		}
		s.stop()
		if attempt == 2 {
			return 0, -1, err
		}
	}
	pid, fd, err = s.answer()
	var refused *spawnError
	if err != nil && !errors.As(err, &refused) {
		s.stop() // whatever it says later would be taken for another's
	}
	return pid, fd, err
}

// spawnError is the spawner's own answer.
type spawnError struct {
	text  string
	errno error
}

func (e *spawnError) Error() string { return e.text }
func (e *spawnError) Unwrap() error { return e.errno }

// ask sends a request. It has not been taken when that fails.
func (s *spawner) ask(message []byte, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if err := s.conn.SetDeadline(time.Now().Add(spawnTimeout)); err != nil {
		return err
	}
	_, _, err := s.conn.WriteMsgUnix(message, unix.UnixRights(fds...), nil)
	return err
}

func (s *spawner) answer() (pid, fd int, err error) {
	text, rights := make([]byte, launch.MaxSpawn), make([]byte, unix.CmsgSpace(4))
	n, oob, _, _, err := s.conn.ReadMsgUnix(text, rights)
	if err != nil || n == 0 {
		return 0, -1, fmt.Errorf("the process that clones has ended: %w", errors.Join(err, pidfd.ErrGone))
	}
	var a launch.SpawnAnswer
	if err := json.Unmarshal(text[:n], &a); err != nil {
		return 0, -1, err
	}
	if a.Error != "" {
		refused := &spawnError{text: a.Error}
		if a.Errno != 0 {
			refused.errno = syscall.Errno(a.Errno)
		}
		return 0, -1, refused
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oob])
	if err == nil && len(messages) == 1 {
		var fds []int
		if fds, err = unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return a.PID, fds[0], nil
		}
	}
	return 0, -1, errors.Join(errors.New("the process that clones sent no pidfd"), err)
}

// start starts the process unless it runs.
func (s *spawner) start() error {
	if s.closed {
		return closedError()
	}
	if s.conn != nil {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "spawner"), os.NewFile(uintptr(pair[1]), "spawner")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return err
	}
	cmd := exec.Command(s.agent, launch.SpawnCommand) //nolint:gosec // our own executable
	cmd.Dir, cmd.Env, cmd.Stderr = "/", []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=16MiB"}, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return err
	}
	s.conn, s.cmd = conn.(*net.UnixConn), cmd //nolint:forcetypeassert // a unix socket pair
	return nil
}

// stop ends the process; it goes by itself when its socket is closed, and by
// force when something holds it.
func (s *spawner) stop() {
	if s.conn == nil {
		return
	}
	s.conn.Close()
	force := time.AfterFunc(spawnTimeout, func() { s.cmd.Process.Kill() }) //nolint:errcheck // Wait tells
	s.cmd.Wait()                                                           //nolint:errcheck // how it ended is of no interest
	force.Stop()
	s.conn, s.cmd = nil, nil
}

func (s *spawner) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.stop()
}
