package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Requests of linux/kvm.h, and the only version of the interface that there
// ever was since it is stable.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmVersion       = 12
)

// kvmTimeout bounds the question: a nested hypervisor may never answer.
const kvmTimeout = 2 * time.Second

// virtualisation says what /dev/kvm answers. Whether a kernel boots there is
// not tried, and nothing is claimed of it: some hypervisors answer every call
// and boot nothing.
func virtualisation(ctx context.Context) string {
	answer := make(chan string, 1)
	go func() { answer <- askKVM("/dev/kvm") }()
	select {
	case text := <-answer:
		return text
	case <-ctx.Done():
		return "/dev/kvm was not asked to the end"
	case <-time.After(kvmTimeout):
		return fmt.Sprintf("/dev/kvm does not answer within %v", kvmTimeout)
	}
}

func askKVM(path string) string {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "and this machine has no " + path
	case errors.Is(err, fs.ErrPermission):
		return "and this user may not open " + path
	case err != nil:
		return "and opening it failed: " + err.Error()
	}
	defer f.Close() //nolint:errcheck // nothing was written
	version, err := unix.IoctlRetInt(int(f.Fd()), kvmGetAPIVersion)
	if err != nil {
		return path + " is no virtualisation device: " + err.Error()
	}
	if version != kvmVersion {
		return fmt.Sprintf("%s speaks version %d of its interface, not %d", path, version, kvmVersion)
	}
	vm, err := unix.IoctlRetInt(int(f.Fd()), kvmCreateVM)
	if err != nil {
		return path + " answers, but makes no virtual machine: " + err.Error()
	}
	unix.Close(vm) //nolint:errcheck // nothing was written
	return path + " answers and makes virtual machines; whether a kernel boots in them was not tried"
}
