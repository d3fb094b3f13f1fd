package oci

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// x32Bit marks the system calls of the x32 variant of amd64.
const x32Bit = 0x40000000

// defaultSeccomp is the Moby project's default profile for a process with the
// capabilities of commands, for this machine's own system call interface only:
// the others (32 bit) double what a sandbox can reach and are hardly used. The
// agent lives under the same filter, so setting the host name, which the
// kernel refuses to commands, is let through.
func defaultSeccomp() (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{
		Bounding: capabilityNames(commandCapabilities),
	}}}
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("evaluate the seccomp profile: %w", err)
	}
	if len(profile.Architectures) > 1 {
		profile.Architectures = profile.Architectures[:1]
	}
	profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{Names: []string{"sethostname"}, Action: specs.ActAllow})
	return profile, nil
}

// block is a piece of program that returns on every path, so that blocks can
// be put behind one another and be jumped to.
type block []bpf.Instruction

// compileSeccomp turns the OCI form of a filter into the kernel's: struct
// sock_filter in this machine's byte order. System calls that this machine
// does not have are left out. A call that no rule names gets the default
// action, and so does one whose rules all have conditions that do not hold.
//
// The program is a binary search over the call's number, so that a call costs
// some ten instructions whatever its number.
func compileSeccomp(profile *specs.LinuxSeccomp) ([]byte, error) {
	machine, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("compile the seccomp filter: %w", err)
	}
	return assembleSeccomp(profile, machine)
}

func assembleSeccomp(profile *specs.LinuxSeccomp, machine *arch.Info) ([]byte, error) {
	otherwise, err := actionValue(profile.DefaultAction, profile.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	bodies, err := callBodies(profile, machine, otherwise)
	if err != nil {
		return nil, err
	}
	nosys := uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	program := block{
		bpf.LoadAbsolute{Off: dataArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(machine.ID), SkipTrue: 1},
		bpf.RetConstant{Val: nosys},
		bpf.LoadAbsolute{Off: dataNumber, Size: 4},
	}
	if machine.ID == arch.X86_64.ID {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 1},
			bpf.RetConstant{Val: nosys})
	}
	program = append(program, search(ranges(bodies, otherwise, nosys))...)
	return encode(program)
}

// callBodies returns what happens for each call that a rule names.
func callBodies(profile *specs.LinuxSeccomp, machine *arch.Info, otherwise uint32) (map[uint32]block, error) {
	type alternative struct {
		args   []specs.LinuxSeccompArg
		action uint32
	}
	calls := map[uint32][]alternative{}
	for _, rule := range profile.Syscalls {
		action, err := actionValue(rule.Action, rule.ErrnoRet)
		if err != nil {
			return nil, err
		}
		for _, name := range rule.Names {
			if number, ok := machine.SyscallNames[name]; ok {
				n := uint32(number)
				calls[n] = append(calls[n], alternative{rule.Args, action})
			}
		}
	}
	bodies := make(map[uint32]block, len(calls))
	for number, alternatives := range calls {
		// A rule without conditions decides; as in libseccomp it wins over
		// those with conditions, wherever it stands.
		unconditional := slices.IndexFunc(alternatives, func(a alternative) bool { return len(a.args) == 0 })
		if unconditional >= 0 {
			bodies[number] = ret(alternatives[unconditional].action)
			continue
		}
		body := ret(otherwise)
		for _, a := range slices.Backward(alternatives) {
			tested, err := conditional(a.args, ret(a.action), body)
			if err != nil {
				return nil, fmt.Errorf("system call %d: %w", number, err)
			}
			body = tested
		}
		bodies[number] = body
	}
	return bodies, nil
}

// conditional runs then when all conditions hold, and otherwise els.
func conditional(args []specs.LinuxSeccompArg, then, els block) (block, error) {
	body := then
	for _, arg := range slices.Backward(args) {
		test, err := compare(arg, body, els)
		if err != nil {
			return nil, err
		}
		body = test
	}
	return body, nil
}

// compare tests one argument, 64 bits in two halves.
func compare(arg specs.LinuxSeccompArg, yes, no block) (block, error) {
	if arg.Index > 5 {
		return nil, fmt.Errorf("there is no argument %d", arg.Index)
	}
	low := bpf.LoadAbsolute{Off: dataArgs + 8*uint32(arg.Index), Size: 4}
	high := bpf.LoadAbsolute{Off: low.Off + 4, Size: 4}
	if bigEndian() {
		low, high = high, low
	}
	value := arg.Value
	valueHigh, valueLow := uint32(value>>32), uint32(value)
	switch arg.Op {
	case specs.OpEqualTo:
		return seq(high, when(bpf.JumpEqual, valueHigh, seq(low, when(bpf.JumpEqual, valueLow, yes, no)), no)), nil
	case specs.OpNotEqual:
		return compare(specs.LinuxSeccompArg{Index: arg.Index, Value: value, Op: specs.OpEqualTo}, no, yes)
	case specs.OpGreaterThan:
		return ordered(high, low, valueHigh, seq(low, when(bpf.JumpGreaterThan, valueLow, yes, no)), yes, no), nil
	case specs.OpGreaterEqual:
		return ordered(high, low, valueHigh, seq(low, when(bpf.JumpGreaterOrEqual, valueLow, yes, no)), yes, no), nil
	case specs.OpLessThan:
		return compare(specs.LinuxSeccompArg{Index: arg.Index, Value: value, Op: specs.OpGreaterEqual}, no, yes)
	case specs.OpLessEqual:
		return compare(specs.LinuxSeccompArg{Index: arg.Index, Value: value, Op: specs.OpGreaterThan}, no, yes)
	case specs.OpMaskedEqual:
		// Value is the mask and ValueTwo what must come out.
		wantHigh, wantLow := uint32(arg.ValueTwo>>32), uint32(arg.ValueTwo)
		and := func(mask uint32) bpf.Instruction { return bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask} }
		return seq(high, append(block{and(valueHigh)}, when(bpf.JumpEqual, wantHigh,
			seq(low, append(block{and(valueLow)}, when(bpf.JumpEqual, wantLow, yes, no)...)), no)...)), nil
	}
	return nil, fmt.Errorf("unknown comparison %q", arg.Op)
}

// ordered decides by the high half where it differs and else by same.
func ordered(high, _ bpf.LoadAbsolute, value uint32, same, greater, less block) block {
	return seq(high, when(bpf.JumpGreaterThan, value, greater, when(bpf.JumpEqual, value, same, less)))
}

func seq(first bpf.Instruction, rest block) block { return append(block{first}, rest...) }

func ret(action uint32) block { return block{bpf.RetConstant{Val: action}} }

// when goes to yes when the accumulator compares with value, and otherwise to
// no. A conditional jump reaches 255 instructions; beyond that it is made over
// an unconditional one.
func when(cond bpf.JumpTest, value uint32, yes, no block) block {
	var head block
	if len(yes) <= 255 {
		head = block{bpf.JumpIf{Cond: cond, Val: value, SkipFalse: uint8(len(yes))}}
	} else {
		head = block{
			bpf.JumpIf{Cond: cond, Val: value, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(yes))},
		}
	}
	return slices.Concat(head, yes, no)
}

// span is a run of call numbers, from its first up to the next span's, that
// have one body.
type span struct {
	first uint32
	body  block
}

// ranges covers all numbers with spans. Calls beyond the last that the profile
// knows are newer than it: they get beyond, which says that the kernel lacks
// them, so that programs fall back to what they did before.
func ranges(bodies map[uint32]block, otherwise, beyond uint32) []span {
	spans := []span{{0, ret(otherwise)}}
	add := func(first uint32, body block) {
		last := &spans[len(spans)-1]
		switch {
		case slices.Equal(last.body, body):
		case last.first == first:
			last.body = body
		default:
			spans = append(spans, span{first, body})
		}
	}
	numbers := make([]uint32, 0, len(bodies))
	for n := range bodies {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	next := uint32(0)
	for _, n := range numbers {
		if n > next {
			add(next, ret(otherwise))
		}
		add(n, bodies[n])
		next = n + 1
	}
	add(next, ret(beyond))
	return spans
}

// search is a binary search for the span of the call's number.
func search(spans []span) block {
	if len(spans) == 1 {
		return spans[0].body
	}
	middle := len(spans) / 2
	return when(bpf.JumpGreaterOrEqual, spans[middle].first, search(spans[middle:]), search(spans[:middle]))
}

// actionValue is the kernel's number of an action. An errno defaults to EPERM.
func actionValue(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch action {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		if errno == nil {
			return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), nil
		}
		return unix.SECCOMP_RET_ERRNO | uint32(*errno)&unix.SECCOMP_RET_DATA, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	}
	return 0, fmt.Errorf("seccomp action %q is not supported", action)
}

// encode writes the program as an array of struct sock_filter.
func encode(program block) ([]byte, error) {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble the seccomp filter: %w", err)
	}
	if len(raw) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("the seccomp filter has %d instructions, the kernel takes %d", len(raw), unix.BPF_MAXINSNS)
	}
	out := make([]byte, 0, 8*len(raw))
	for _, r := range raw {
		out = binary.NativeEndian.AppendUint16(out, r.Op)
		out = append(out, r.Jt, r.Jf)
		out = binary.NativeEndian.AppendUint32(out, r.K)
	}
	return out, nil
}

func bigEndian() bool { return binary.NativeEndian.Uint16([]byte{0, 1}) == 1 }

// capabilityNames are the names that profiles use for a set of capabilities.
func capabilityNames(mask uint64) []string {
	var names []string
	for number, name := range capabilityByNumber {
		if mask&(1<<number) != 0 {
			names = append(names, "CAP_"+strings.ToUpper(name))
		}
	}
	return names
}
