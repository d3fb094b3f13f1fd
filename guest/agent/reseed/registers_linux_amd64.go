package reseed

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	generalRegset   = 1          // NT_PRSTATUS
	vectorRegset    = 0x202      // NT_X86_XSTATE
	callInstruction = "\x0f\x05" // of a system call
	redZone         = 128        // below the stack pointer, in use by leaf functions
)

// registers are the general registers of a stopped thread.
type registers struct{ unix.PtraceRegs }

func (r *registers) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&r.PtraceRegs)), unsafe.Sizeof(r.PtraceRegs))
}

func (r *registers) read(tid int) error {
	if _, err := getRegset(tid, generalRegset, r.bytes()); err != nil {
		return fmt.Errorf("read registers of thread %d: %w", tid, err)
	}
	return nil
}

func (r *registers) write(tid int) error {
	if err := setRegset(tid, generalRegset, r.bytes()); err != nil {
		return fmt.Errorf("write registers of thread %d: %w", tid, err)
	}
	return nil
}

func (r *registers) pc() uint64 { return r.Rip }

// syscall returns the system call that the thread was stopped in, or -1.
func (r *registers) syscall() int { return int(int64(r.Orig_rax)) }

// number is that of the system call which a thread in front of one will make.
func (r *registers) number() int { return int(int64(r.Rax)) }

// interrupted says whether a system call that has just returned failed with
// EINTR.
func (r *registers) interrupted() bool { return int64(r.Rax) == -int64(unix.EINTR) }

// again points a thread whose system call was interrupted at the call once
// more, as the kernel does when no handler runs. gVisor's does so only while it
// remembers the interruption, which another call makes it forget; the program
// would see a result that no program should.
func (r *registers) again() {
	const width = uint64(len(callInstruction))
	switch -int64(r.Rax) {
	case restartSys, restartNoIntr, restartNoHand:
		r.Rax = r.Orig_rax
	case restartBlock:
		r.Rax = unix.SYS_RESTART_SYSCALL
	default:
		return
	}
	r.Rip, r.Orig_rax = r.Rip-width, ^uint64(0)
}

// resumable says whether again can do that.
func (r *registers) resumable() bool { return true }

// returned says whether the function came back to the address 0 that it was
// given to return to. With a shadow stack the return itself faults, one
// instruction earlier, its result in place: the stack then still points at
// that address.
func (r *registers) returned() bool { return r.Rip == 0 }

func (r *registers) result() int32 { return int32(r.Rax) }

// prepareCall points the thread at a function without arguments that returns
// to address 0.
func (th *thread) prepareCall(function uint64) error {
	r := th.regs
	stack := (r.Rsp-redZone)&^15 - 8
	var zero [8]byte
	binary.LittleEndian.PutUint64(zero[:], 0)
	if err := pokeMemory(th.tid, stack, zero[:]); err != nil {
		return err
	}
	r.Rsp, r.Rip, r.Rax = stack, function, 0
	r.Orig_rax = ^uint64(0) // no system call to restart while the call runs
	r.Eflags &^= 1 << 10    // direction flag: clear at every call
	return r.write(th.tid)
}

// unsafeSyscalls are made with a lock of the allocator or of the generator
// held, so a thread in one is no place for a call.
var unsafeSyscalls = map[int]bool{
	unix.SYS_BRK: true, unix.SYS_MMAP: true, unix.SYS_MUNMAP: true, unix.SYS_MREMAP: true,
	unix.SYS_MADVISE: true, unix.SYS_MPROTECT: true, unix.SYS_GETRANDOM: true, unix.SYS_CLONE: true,
	unix.SYS_CLONE3: true, unix.SYS_FORK: true, unix.SYS_VFORK: true, unix.SYS_EXECVE: true,
}
