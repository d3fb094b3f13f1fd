package reseed

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	generalRegset   = 1                  // NT_PRSTATUS
	vectorRegset    = 2                  // NT_PRFPREG
	syscallRegset   = 0x404              // NT_ARM_SYSTEM_CALL
	callInstruction = "\x01\x00\x00\xd4" // of a system call: svc #0
)

// registers are the general registers of a stopped thread.
type registers struct {
	unix.PtraceRegs
	inside int32 // the system call's number, -1 when in none
}

func (r *registers) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&r.PtraceRegs)), unsafe.Sizeof(r.PtraceRegs))
}

func (r *registers) read(tid int) error {
	if _, err := getRegset(tid, generalRegset, r.bytes()); err != nil {
		return fmt.Errorf("read registers of thread %d: %w", tid, err)
	}
	var number [4]byte
	r.inside = -1
	if _, err := getRegset(tid, syscallRegset, number[:]); err == nil {
		r.inside = int32(binary.LittleEndian.Uint32(number[:]))
	}
	return nil
}

func (r *registers) write(tid int) error {
	if err := setRegset(tid, generalRegset, r.bytes()); err != nil {
		return fmt.Errorf("write registers of thread %d: %w", tid, err)
	}
	return nil
}

func (r *registers) pc() uint64 { return r.Pc }

// syscall returns the system call that the thread was stopped in, or -1. The
// kernel has prepared its restart before a tracer looks, so it may have
// forgotten the number while the instruction before the next is still the
// system call's: then x8 holds it.
func (r *registers) syscall() int { return int(r.inside) }

// number is that of the system call which a thread in front of one will make.
func (r *registers) number() int { return int(int64(r.Regs[8])) }

// interrupted says whether a system call that has just returned failed with
// EINTR.
func (r *registers) interrupted() bool { return int64(r.Regs[0]) == -int64(unix.EINTR) }

// again has nothing to do: the kernel has prepared the restart of a system call
// before a tracer looks.
func (r *registers) again() {}

// resumable is false where the kernel, gVisor's, has not: what the call's first
// argument was, no tracer is told.
func (r *registers) resumable() bool {
	switch -int64(r.Regs[0]) {
	case restartSys, restartNoIntr, restartNoHand, restartBlock:
		return false
	}
	return true
}

func (r *registers) returned() bool { return r.Pc == 0 }

func (r *registers) result() int32 { return int32(r.Regs[0]) }

// prepareCall points the thread at a function without arguments that returns
// to address 0.
func (th *thread) prepareCall(function uint64) error {
	r := th.regs
	r.Sp &^= 15
	r.Pc, r.Regs[30] = function, 0
	return r.write(th.tid)
}

// unsafeSyscalls are made with a lock of the allocator or of the generator
// held, so a thread in one is no place for a call.
var unsafeSyscalls = map[int]bool{
	unix.SYS_BRK: true, unix.SYS_MMAP: true, unix.SYS_MUNMAP: true, unix.SYS_MREMAP: true,
	unix.SYS_MADVISE: true, unix.SYS_MPROTECT: true, unix.SYS_GETRANDOM: true, unix.SYS_CLONE: true,
	unix.SYS_CLONE3: true, unix.SYS_EXECVE: true,
}
