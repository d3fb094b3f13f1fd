//go:build unix && !linux

package agent

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// Sandboxes are Linux; elsewhere the agent serves tests and the fake driver,
// without what only Linux has.
var errLinuxOnly = faas.Unavailable("the agent can do this on Linux only", "use a sandbox of a real runtime")

// Protection is what Harden achieved.
type Protection struct{ Missing []string }

// Harden can do nothing on this system.
func Harden(...uintptr) Protection { return Protection{Missing: []string{errLinuxOnly.Detail}} }

func (Protection) reveal() {}

func (Protection) conceal() {}

func (Protection) expose() func() { return func() {} }

type marker struct{}

func (*marker) next() uint64 { return 0 }

func newSpawner(a *Agent) *spawner { return &spawner{agent: a, wait: &ownWaiter{}} }

func (s *spawner) close() { s.wait.close() }

// kill ends the command's process group; processes that left it go on.
func (s *spawner) kill(c *command) {
	c.mu.Lock()
	pid := c.process.pid
	c.mu.Unlock()
	syscall.Kill(-pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
}

func maxRSS(u *syscall.Rusage) int64 { return u.Maxrss }

func signalName(sig syscall.Signal) string { return sig.String() }

func pipe() (r, w int, err error) {
	var fds [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := syscall.Pipe(fds[:]); err != nil {
		return 0, 0, err
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	return fds[0], fds[1], nil
}

func enlarge(*os.File) {}

func closeFD(fd int) { syscall.Close(fd) } //nolint:errcheck // nothing was written through it

func pollable(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		closeFD(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openTerminal(*process, *childFiles, guest.WindowSize) error { return errLinuxOnly }

func setSize(*os.File, guest.WindowSize) error { return errLinuxOnly }

func foreground(*os.File) int { return 0 }

func (r *request) watch(string, wire.FileArgs) error { return errLinuxOnly }

func (r *request) processes() error { return errLinuxOnly }

func (a *Agent) stats() (guest.Stats, error) { return guest.Stats{}, errLinuxOnly }

func (a *Agent) killOrphans() {}

func addEntropy([]byte) error { return errors.New(errLinuxOnly.Detail) }

func setClock(time.Time) error { return errors.New(errLinuxOnly.Detail) }

func (a *Agent) setHostname(string) error { return errors.New(errLinuxOnly.Detail) }

func configureNetwork(context.Context, guest.Network) error { return errors.New(errLinuxOnly.Detail) }

// LoopbackUp can do nothing on this system.
func LoopbackUp() error { return errors.New(errLinuxOnly.Detail) }

func deviceNumbers(dev uint64) (major, minor int64) { return int64(dev >> 24), int64(dev & 0xffffff) }

// forker is not needed here.
type forker struct{}

func (*forker) do(job func()) { job() }

func (*Agent) reseed(context.Context) ([]faas.Reseeded, error) { return nil, errLinuxOnly }
