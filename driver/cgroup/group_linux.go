package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuPeriod is the length in microseconds of the interval that a CPU quota
// counts in: the kernel's own default.
const cpuPeriod = 100000

// Group is one sandbox's control groups. It may be used concurrently.
type Group struct {
	tree *Tree
	name string
}

// Group returns the group of a name, whether or not it exists.
func (t *Tree) Group(name string) *Group { return &Group{tree: t, name: name} }

// Create makes the group and sets its limits. A group that exists is taken
// over. Whoever calls it removes the group when an error is returned too.
func (g *Group) Create(l Limits) error {
	for _, dir := range g.tree.directories() {
		err := os.Mkdir(filepath.Join(dir, g.name), 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make control group: %w", err)
		}
	}
	return g.SetLimits(l)
}

// SetLimits changes the limits of the group. A limit whose controller cannot
// be used is left out: callers ask Tree.Has first.
func (g *Group) SetLimits(l Limits) error {
	return errors.Join(g.limitCPU(l.CPUCores), g.limitMemory(l.MemoryBytes), g.limitPIDs(l.PIDs))
}

func (g *Group) limitCPU(cores float64) error {
	if _, ok := g.tree.dirs[CPU]; !ok {
		return nil
	}
	quota := int64(math.Round(cores * cpuPeriod))
	if cores > 0 {
		quota = max(quota, 1000) // the kernel refuses less than one millisecond
	}
	if g.tree.unified {
		value := "max"
		if cores > 0 {
			value = strconv.FormatInt(quota, 10)
		}
		return g.write(CPU, "cpu.max", value+" "+strconv.Itoa(cpuPeriod))
	}
	if cores <= 0 {
		quota = -1
	}
	return errors.Join(
		g.write(CPU, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod)),
		g.write(CPU, "cpu.cfs_quota_us", strconv.FormatInt(quota, 10)))
}

func (g *Group) limitMemory(bytes int64) error {
	if _, ok := g.tree.dirs[Memory]; !ok {
		return nil
	}
	value := strconv.FormatInt(bytes, 10)
	if g.tree.unified {
		if bytes <= 0 {
			value = "max"
		}
		err := g.write(Memory, "memory.max", value)
		return errors.Join(err, ignoreMissing(g.write(Memory, "memory.swap.max", "0")))
	}
	if bytes <= 0 {
		value = "-1"
	}
	return g.limitLegacyMemory(value)
}

// limitLegacyMemory sets memory and memory plus swap to the same value. The
// kernel wants the first never above the second, so the order depends on the
// direction of the change.
func (g *Group) limitLegacyMemory(value string) error {
	const limit, withSwap = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	err := g.write(Memory, limit, value)
	if errors.Is(err, syscall.EINVAL) {
		err = errors.Join(ignoreMissing(g.write(Memory, withSwap, value)), g.write(Memory, limit, value))
	}
	return errors.Join(err,
		ignoreMissing(g.write(Memory, withSwap, value)),
		ignoreMissing(g.write(Memory, "memory.swappiness", "0")))
}

func (g *Group) limitPIDs(n int64) error {
	if _, ok := g.tree.dirs[PIDs]; !ok {
		return nil
	}
	value := "max"
	if n > 0 {
		value = strconv.FormatInt(n, 10)
	}
	return g.write(PIDs, "pids.max", value)
}

// Add moves a process into the group. What it forks later is born there.
func (g *Group) Add(pid int) error {
	for _, dir := range g.tree.directories() {
		path := filepath.Join(dir, g.name, "cgroup.procs")
		if err := os.WriteFile(path, strconv.AppendInt(nil, int64(pid), 10), 0); err != nil {
			return fmt.Errorf("move process %d into its control group: %w", pid, err)
		}
	}
	return nil
}

// Start runs start, which starts a program with attr, so that the program is in
// the group before its first instruction, without being limited by it where
// the kernel can tell the two apart (version 1). It must be called on a thread
// that ends with the call.
func (g *Group) Start(attr *syscall.SysProcAttr, start func() error) error {
	dir, ok := g.tree.dirs[Freezer]
	if !ok {
		return start()
	}
	dir = filepath.Join(dir, g.name)
	if !g.tree.unified {
		// Version 1 moves single threads, and children are born with theirs.
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter the control group: %w", err)
		}
		return start()
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("enter the control group: %w", err)
	}
	defer f.Close()
	attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
	return start()
}

// Processes lists the processes of the group, in whatever hierarchy they are.
// This process is never among them, though a thread of it may be passing
// through on its way to start a program there (see Start).
func (g *Group) Processes() ([]int, error) {
	var pids []int
	own := os.Getpid()
	for _, dir := range g.tree.every {
		b, err := os.ReadFile(filepath.Join(dir, g.name, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(field)
			if err == nil && pid > 0 && pid != own && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Remove kills every process of the group, frozen ones included, and removes
// it. It waits for the kernel to let go of the last one until the context
// ends. A group that does not exist is removed already.
func (g *Group) Remove(ctx context.Context) error {
	return untilDone(ctx, func() (bool, error) {
		if err := g.kill(); err != nil {
			return false, err
		}
		busy := false
		for _, dir := range g.tree.every {
			err := syscall.Rmdir(filepath.Join(dir, g.name))
			switch {
			case err == nil, errors.Is(err, syscall.ENOENT):
			case errors.Is(err, syscall.EBUSY):
				busy = true
			default:
				return false, fmt.Errorf("remove control group %s of %s: %w", g.name, dir, err)
			}
		}
		return !busy, nil
	})
}

// kill sends SIGKILL to every process that is in the group now.
func (g *Group) kill() error {
	pids, err := g.Processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	if len(pids) == 0 {
		return nil
	}
	// A frozen process dies when it is let go on. The freezer may be missing,
	// or the group gone with its last process.
	if err := g.Thaw(); err != nil && g.thawable() {
		return err
	}
	return nil
}

// thawable says whether the group has a freezer now.
func (g *Group) thawable() bool {
	if _, ok := g.tree.dirs[Freezer]; !ok {
		return false
	}
	_, err := os.Stat(g.file(Freezer, ""))
	return err == nil
}

// Exists says whether anything of the group is there.
func (g *Group) Exists() bool {
	for _, dir := range g.tree.every {
		if _, err := os.Stat(filepath.Join(dir, g.name)); err == nil {
			return true
		}
	}
	return false
}

// Freeze stops every process of the group and returns when they have stopped.
func (g *Group) Freeze(ctx context.Context) error {
	if g.tree.unified {
		if err := g.write(Freezer, "cgroup.freeze", "1"); err != nil {
			return err
		}
		return untilDone(ctx, func() (bool, error) {
			frozen, err := g.counter(Freezer, "cgroup.events", "frozen")
			return frozen == 1, err
		})
	}
	return untilDone(ctx, func() (bool, error) {
		// A version 1 freezer can get stuck half way when a process forks;
		// asking again is what makes it go on.
		if err := g.write(Freezer, "freezer.state", "FROZEN"); err != nil {
			return false, err
		}
		b, err := os.ReadFile(g.file(Freezer, "freezer.state"))
		return strings.TrimSpace(string(b)) == "FROZEN", err
	})
}

// Thaw lets the processes of the group go on.
func (g *Group) Thaw() error {
	if g.tree.unified {
		return g.write(Freezer, "cgroup.freeze", "0")
	}
	return g.write(Freezer, "freezer.state", "THAWED")
}

// Stats reads the consumption of the group.
func (g *Group) Stats() (Stats, error) {
	if g.tree.unified {
		return g.unifiedStats()
	}
	return g.legacyStats()
}

func (g *Group) unifiedStats() (s Stats, err error) {
	var errs [6]error
	s.CPUMS, errs[0] = g.counter(Accounting, "cpu.stat", "usage_usec")
	s.CPUMS /= 1000
	s.MemoryBytes, errs[1] = g.number(Memory, "memory.current")
	s.MaxMemoryBytes, errs[2] = g.number(Memory, "memory.peak")
	s.OOMKills, errs[3] = g.counter(Memory, "memory.events", "oom_kill")
	s.PIDs, errs[4] = g.number(PIDs, "pids.current")
	s.PIDsRefused, errs[5] = g.counter(PIDs, "pids.events", "max")
	return s, errors.Join(errs[:]...)
}

func (g *Group) legacyStats() (s Stats, err error) {
	var errs [6]error
	s.CPUMS, errs[0] = g.number(Accounting, "cpuacct.usage")
	s.CPUMS /= int64(time.Millisecond)
	s.MemoryBytes, errs[1] = g.number(Memory, "memory.usage_in_bytes")
	s.MaxMemoryBytes, errs[2] = g.number(Memory, "memory.max_usage_in_bytes")
	s.OOMKills, errs[3] = g.counter(Memory, "memory.oom_control", "oom_kill")
	s.PIDs, errs[4] = g.number(PIDs, "pids.current")
	s.PIDsRefused, errs[5] = g.counter(PIDs, "pids.events", "max")
	return s, errors.Join(errs[:]...)
}

func (g *Group) file(c Controller, name string) string {
	return filepath.Join(g.tree.dirs[c], g.name, name)
}

func (g *Group) write(c Controller, name, value string) error {
	if _, ok := g.tree.dirs[c]; !ok {
		_, why := g.tree.Has(c)
		return errors.New(why)
	}
	if err := os.WriteFile(g.file(c, name), []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", name, value, err)
	}
	return nil
}

// number reads a file that holds one number; 0 when the controller or the
// file (which may be newer than the kernel) is not there.
func (g *Group) number(c Controller, name string) (int64, error) {
	b, err := g.read(c, name)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// counter reads one line "key value" of a file; 0 as for number.
func (g *Group) counter(c Controller, name, key string) (int64, error) {
	b, err := g.read(c, name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			return strconv.ParseInt(v, 10, 64)
		}
	}
	return 0, nil
}

func (g *Group) read(c Controller, name string) ([]byte, error) {
	if _, ok := g.tree.dirs[c]; !ok {
		return nil, nil
	}
	b, err := os.ReadFile(g.file(c, name))
	if errors.Is(err, fs.ErrNotExist) && g.Exists() {
		return nil, nil
	}
	return b, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// untilDone calls step until it says that it is done, fails, or the context
// ends. The kernel gives no event for what it is used for, so it asks again,
// first after 100 microseconds and then at growing intervals up to 10 ms.
func untilDone(ctx context.Context, step func() (bool, error)) error {
	wait := 100 * time.Microsecond
	for {
		done, err := step()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 10*time.Millisecond)
	}
}
