package oci

import (
	"encoding/binary"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// runFilter executes a filter on one call. The virtual machine reads big-endian
// words, so the data is laid out as a little-endian machine has it, with each
// word turned round.
func runFilter(t *testing.T, program []byte, machine uint32, number uint32, args [6]uint64) uint32 {
	t.Helper()
	var instructions []bpf.Instruction
	for at := 0; at < len(program); at += 8 {
		instructions = append(instructions, bpf.RawInstruction{
			Op: binary.NativeEndian.Uint16(program[at:]), Jt: program[at+2], Jf: program[at+3],
			K: binary.NativeEndian.Uint32(program[at+4:]),
		}.Disassemble())
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data[dataNumber:], number)
	binary.BigEndian.PutUint32(data[dataArch:], machine)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[dataArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[dataArgs+8*i+4:], uint32(a>>32))
	}
	// The machine's return value is a length of the packet at most 32 bits
	// wide, so errno values come through.
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(got)
}

// naive decides a call by reading the profile from top to bottom.
func naive(profile *specs.LinuxSeccomp, machine *arch.Info, number uint32, args [6]uint64) uint32 {
	for _, withArgs := range []bool{false, true} {
		for _, rule := range profile.Syscalls {
			if (len(rule.Args) > 0) != withArgs {
				continue
			}
			for _, name := range rule.Names {
				if n, ok := machine.SyscallNames[name]; !ok || uint32(n) != number || !naiveArgs(rule.Args, args) {
					continue
				}
				v, _ := actionValue(rule.Action, rule.ErrnoRet)
				return v
			}
		}
	}
	v, _ := actionValue(profile.DefaultAction, profile.DefaultErrnoRet)
	return v
}

func naiveArgs(rules []specs.LinuxSeccompArg, args [6]uint64) bool {
	for _, r := range rules {
		a := args[r.Index]
		ok := false
		switch r.Op {
		case specs.OpEqualTo:
			ok = a == r.Value
		case specs.OpNotEqual:
			ok = a != r.Value
		case specs.OpGreaterThan:
			ok = a > r.Value
		case specs.OpGreaterEqual:
			ok = a >= r.Value
		case specs.OpLessThan:
			ok = a < r.Value
		case specs.OpLessEqual:
			ok = a <= r.Value
		case specs.OpMaskedEqual:
			ok = a&r.Value == r.ValueTwo
		}
		if !ok {
			return false
		}
	}
	return true
}

var interesting = []uint64{
	0, 1, 2, 7, 8, 9, 16, 37, 38, 39, 40, 41, 44, 45, 0x20000, 0x20008, 0xffffffff, 1 << 32, 1<<32 | 8,
	unix.CLONE_NEWUSER, unix.CLONE_NEWNS | 0x11, 0x7E020000, ^uint64(0),
}

func TestDefaultFilterDecidesLikeItsProfile(t *testing.T) {
	for _, machine := range []*arch.Info{arch.X86_64, arch.AARCH64} {
		for _, mask := range []uint64{commandCapabilities, 0, AgentCapabilities} {
			profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{
				Capabilities: &specs.LinuxCapabilities{Bounding: capabilityNames(mask)}}})
			if err != nil {
				t.Fatal(err)
			}
			program, err := assembleSeccomp(profile, machine)
			if err != nil {
				t.Fatal(err)
			}
			last := uint32(0)
			for _, rule := range profile.Syscalls {
				for _, name := range rule.Names {
					if n, ok := machine.SyscallNames[name]; ok {
						last = max(last, uint32(n))
					}
				}
			}
			for number := uint32(0); number <= last; number++ {
				for _, a := range interesting {
					args := [6]uint64{a, a, a, a, a, a}
					got := runFilter(t, program, uint32(machine.ID), number, args)
					if want := naive(profile, machine, number, args); got != want {
						t.Fatalf("%s, call %d (%s) with %#x: %#x, want %#x", machine.Name, number, machine.SyscallNumbers[int(number)], a, got, want)
					}
				}
			}
			t.Logf("%s: %d instructions", machine.Name, len(program)/8)
		}
	}
}

func TestFilterRefusesOtherInterfaces(t *testing.T) {
	profile, err := defaultSeccomp()
	if err != nil {
		t.Fatal(err)
	}
	program, err := assembleSeccomp(profile, arch.X86_64)
	if err != nil {
		t.Fatal(err)
	}
	nosys := uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	read := uint32(arch.X86_64.SyscallNames["read"])
	for _, c := range []struct {
		what    string
		machine uint32
		number  uint32
		want    uint32
	}{
		{"read", uint32(arch.X86_64.ID), read, unix.SECCOMP_RET_ALLOW},
		{"the same number of 32 bit programs", uint32(arch.I386.ID), read, nosys},
		{"x32", uint32(arch.X86_64.ID), x32Bit | read, nosys},
		{"a call of the future", uint32(arch.X86_64.ID), 5000, nosys},
	} {
		if got := runFilter(t, program, c.machine, c.number, [6]uint64{}); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.what, got, c.want)
		}
	}
}

func TestFilterComparesArguments(t *testing.T) {
	errno := uint(77)
	for _, op := range []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual,
	} {
		for _, value := range interesting {
			for _, two := range []uint64{0, value, 8} {
				profile := &specs.LinuxSeccomp{
					DefaultAction: specs.ActErrno,
					Syscalls: []specs.LinuxSyscall{
						{Names: []string{"ioctl"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
							{Index: 1, Op: op, Value: value, ValueTwo: two}, {Index: 5, Op: specs.OpNotEqual, Value: 3},
						}},
						{Names: []string{"ioctl"}, Action: specs.ActErrno, ErrnoRet: &errno, Args: []specs.LinuxSeccompArg{
							{Index: 2, Op: specs.OpEqualTo, Value: 1 << 40},
						}},
					},
				}
				program, err := assembleSeccomp(profile, arch.X86_64)
				if err != nil {
					t.Fatal(err)
				}
				number := uint32(arch.X86_64.SyscallNames["ioctl"])
				for _, a := range interesting {
					for _, sixth := range []uint64{3, 4} {
						for _, third := range []uint64{0, 1 << 40} {
							args := [6]uint64{0, a, third, 0, 0, sixth}
							got := runFilter(t, program, uint32(arch.X86_64.ID), number, args)
							if want := naive(profile, arch.X86_64, number, args); got != want {
								t.Fatalf("%s %#x/%#x with %#x: %#x, want %#x", op, value, two, args, got, want)
							}
						}
					}
				}
			}
		}
	}
}

func TestFilterRefusesWhatItCannotExpress(t *testing.T) {
	for name, profile := range map[string]*specs.LinuxSeccomp{
		"notify":           {DefaultAction: specs.ActNotify},
		"unknown operator": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Op: "?"}}}}},
		"seventh argument": {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
	} {
		if _, err := assembleSeccomp(profile, arch.X86_64); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func BenchmarkCompileSeccomp(b *testing.B) {
	for b.Loop() {
		profile, err := defaultSeccomp()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := compileSeccomp(profile); err != nil {
			b.Fatal(err)
		}
	}
}
