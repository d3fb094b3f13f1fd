package launch

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filterSize is the size of struct sock_filter.
const filterSize = 8

// dropCapabilities keeps the capabilities of the mask and gives up all others
// for good. Root inside stays root: execve gives it the bounding set.
func dropCapabilities(keep uint64) error {
	for c := 0; c < 64; c++ {
		if keep&(1<<c) != 0 {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the last capability of this kernel
		}
		if err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear the ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(keep), uint32(keep>>32)
	data := [2]unix.CapUserData{
		{Effective: low, Permitted: low},
		{Effective: high, Permitted: high},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities to %#x: %w", keep, err)
	}
	return nil
}

// setFilter loads a seccomp program for this thread. It is the last thing
// before execve, after which there is no other thread.
func setFilter(program []byte) error {
	if len(program) == 0 {
		return nil
	}
	if len(program)%filterSize != 0 || len(program)/filterSize > 4096 {
		return fmt.Errorf("program of %d bytes is malformed", len(program))
	}
	instructions := make([]unix.SockFilter, len(program)/filterSize)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&instructions[0])), len(program)), program)
	prog := unix.SockFprog{Len: uint16(len(instructions)), Filter: &instructions[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
