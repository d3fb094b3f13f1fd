package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest"
)

// maxEntropy bounds what is mixed in at once, in bytes.
const maxEntropy = 4 << 10

// addEntropy mixes bytes into the kernel's pool and makes it draw from the
// pool anew, so that copies of one memory part ways.
func addEntropy(b []byte) error {
	b = b[:min(len(b), maxEntropy)]
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what was written is in
	info := make([]byte, 8+len(b))
	binary.NativeEndian.PutUint32(info, uint32(8*len(b)))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(b)))
	copy(info[8:], b)
	return control(f, func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
			if _, err := unix.Write(fd, b); err != nil {
				return err
			}
			return fmt.Errorf("mixed in without being counted: %w", errno)
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDRESEEDCRNG, 0); errno != 0 {
			return fmt.Errorf("mixed in, but in use only after some time: %w", errno)
		}
		return nil
	})
}

func setClock(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	_, _, errno := unix.Syscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setHostname names the machine, where it is the sandbox's own.
func (a *Agent) setHostname(name string) error {
	if !a.cfg.Init {
		return errors.New("the host name is that of the whole machine")
	}
	return unix.Sethostname([]byte(name))
}

// killOrphans ends what no command accounts for.
func (a *Agent) killOrphans() {
	if !a.cfg.Init || os.Getpid() != 1 {
		return
	}
	for deadline := time.Now().Add(killTimeout); time.Now().Before(deadline); {
		if syscall.Kill(-1, syscall.SIGKILL) == syscall.ESRCH {
			return
		}
		table, err := processTable()
		if err != nil {
			return
		}
		living := 0
		for _, st := range table {
			if st.pid != 1 && st.state != 'Z' && st.state != 'X' && st.ppid != 0 {
				living++
			}
		}
		if living == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// LoopbackUp brings the loopback interface up, where the agent may.
func LoopbackUp() error {
	nl, err := openNetlink()
	if err != nil {
		return err
	}
	defer nl.close()
	return nl.linkUp("lo")
}

// configureNetwork configures one interface.
func configureNetwork(ctx context.Context, cfg guest.Network) error {
	nl, err := openNetlink()
	if err != nil {
		return err
	}
	defer nl.close()
	if cfg.MAC != "" {
		if err := nl.setMAC(cfg.Interface, cfg.MAC); err != nil {
			return fmt.Errorf("set the address of %s: %w", cfg.Interface, err)
		}
	}
	for _, addr := range cfg.Addresses {
		if err := nl.addAddress(cfg.Interface, addr); err != nil {
			return fmt.Errorf("add %s to %s: %w", addr, cfg.Interface, err)
		}
	}
	if err := nl.linkUp(cfg.Interface); err != nil {
		return fmt.Errorf("bring %s up: %w", cfg.Interface, err)
	}
	if cfg.Gateway != "" {
		if err := nl.addGateway(cfg.Interface, cfg.Gateway); err != nil {
			return fmt.Errorf("route through %s: %w", cfg.Gateway, err)
		}
	}
	return ctx.Err()
}
