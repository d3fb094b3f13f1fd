package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest/agent"
	"github.com/faas-platform/faas/guest/machine"
)

const soAcceptConn = unix.SO_ACCEPTCONN

// serveDevices serves on virtio-serial ports: one session at a time on each,
// begun anew whenever the host has hung up.
func serveDevices(s settings) (server, error) {
	if s.device == "" {
		return nil, nil
	}
	return func(ctx context.Context, a *agent.Agent) error {
		var ports sync.WaitGroup
		for device := range strings.SplitSeq(s.device, ",") {
			ports.Go(func() { serveDevice(ctx, a, device) })
		}
		ports.Wait()
		return nil
	}, nil
}

func serveDevice(ctx context.Context, a *agent.Agent, device string) {
	again(ctx, func() bool { //nolint:errcheck // it has none
		f, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
		if err != nil {
			logLine("open %s: %v", device, err)
			return false
		}
		return a.ServeDialled(ctx, devicePort{newFileConnOf(f)}) == nil
	})
}

// serveMachine answers about the machine that the agent is the init process of.
func serveMachine(s settings) (server, error) {
	if s.machine.Device == "" {
		return nil, nil
	}
	return func(ctx context.Context, _ *agent.Agent) error { return machine.Serve(ctx, s.machine) }, nil
}

// devicePort is a connection whose end the host does not see: the port stays.
type devicePort struct{ *fileConn }

// EndUnseen is asked by the agent before a checkpoint.
func (devicePort) EndUnseen() bool { return true }

func newFileConnOf(f *os.File) *fileConn {
	return &fileConn{Reader: machine.Await(f, f), Writer: f, close: f.Close}
}

// vsockListener listens on AF_VSOCK, which package net does not know.
type vsockListener struct {
	file *os.File
	port uint32
}

func serveVsock(s settings) (server, error) {
	if s.vsock == 0 {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	l := &vsockListener{file: os.NewFile(uintptr(fd), "vsock"), port: uint32(s.vsock)}
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: l.port}); err != nil {
		return nil, errors.Join(fmt.Errorf("vsock port %d: %w", l.port, err), l.Close())
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, errors.Join(fmt.Errorf("vsock port %d: %w", l.port, err), l.Close())
	}
	return func(ctx context.Context, a *agent.Agent) error { return a.Serve(ctx, l) }, nil
}

func (l *vsockListener) Accept() (net.Conn, error) {
	rc, err := l.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var inner error
	err = rc.Read(func(listening uintptr) bool {
		fd, _, inner = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return inner != unix.EAGAIN && inner != unix.EINTR
	})
	if err = errors.Join(err, inner); err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "vsock")
	return &fileConn{Reader: f, Writer: f, close: f.Close}, nil
}

func (l *vsockListener) Close() error   { return l.file.Close() }
func (l *vsockListener) Addr() net.Addr { return fileAddr{} }

// powerOff ends a microVM, whose last process the agent is.
func powerOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) //nolint:errcheck // there is nothing left to do
}
