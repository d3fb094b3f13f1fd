package agent

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every
// architecture that Linux's user interface knows.
const clockTick = time.Second / 100

// procStat is what is used of /proc/PID/stat.
type procStat struct {
	pid, ppid, session int
	state              byte
	cpu                time.Duration
	start              time.Duration // since boot
	rss                int64
}

// parseStat reads /proc/PID/stat. The name in it may hold anything.
func parseStat(b []byte) (procStat, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return procStat{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	f := strings.Fields(string(b[end+1:]))
	if err != nil || len(f) < 22 || len(f[0]) != 1 {
		return procStat{}, false
	}
	number := func(i int) int64 {
		n, err := strconv.ParseInt(f[i-3], 10, 64) // numbered as in proc(5), from 1; the third is f[0]
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	return procStat{
		pid: pid, state: f[0][0], ppid: int(number(4)), session: int(number(6)),
		cpu:   time.Duration(number(14)+number(15)) * clockTick,
		start: time.Duration(number(22)) * clockTick,
		rss:   number(24) * int64(os.Getpagesize()),
	}, true
}

// processTable reads every process that /proc shows.
func processTable() ([]procStat, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close() //nolint:errcheck // read only
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []procStat
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		b, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if st, ok := parseStat(b); ok {
			out = append(out, st)
		}
	}
	slices.SortFunc(out, func(a, b procStat) int { return a.pid - b.pid })
	return out, nil
}

// markFromProc reads a mark where the process belongs to another user.
func markFromProc(pid int) uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(b), "Max file locks")
	if !ok {
		return 0
	}
	f := strings.Fields(rest)
	if len(f) < 2 {
		return 0
	}
	v, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0 // unlimited
	}
	return v
}

// execOf reads the command's id from a process's environment.
func execOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return ""
	}
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(execVariable+"=")); ok {
			return string(v)
		}
	}
	return ""
}

// descent finds which command each process of a table descends from: by mark
// where there are marks, else by environment, session and parent.
func (s *spawner) descent(table []procStat, commands []*command) map[int]*command {
	byMark, byID, bySession := map[uint64]*command{}, map[string]*command{}, map[int]*command{}
	for _, c := range commands {
		c.mu.Lock()
		p := c.process
		c.mu.Unlock()
		if p != nil {
			byMark[p.mark], byID[c.id], bySession[p.pid] = c, c, c
		}
	}
	delete(byMark, 0)
	out := map[int]*command{}
	self := os.Getpid()
	for _, st := range table {
		if st.pid == self || st.pid == 1 && s.agent.cfg.Init {
			continue
		}
		c := bySession[st.session]
		if c == nil && len(byMark) > 0 {
			c = byMark[markOf(st.pid)]
		}
		if c == nil && len(byMark) == 0 {
			c = byID[execOf(st.pid)]
		}
		if c != nil {
			out[st.pid] = c
		}
	}
	for again := true; again; {
		again = false
		for _, st := range table {
			if c := out[st.ppid]; c != nil && out[st.pid] == nil && st.pid != self {
				out[st.pid], again = c, true
			}
		}
	}
	return out
}

// members lists the living processes of a command.
func (s *spawner) members(c *command) []int {
	table, err := processTable()
	if err != nil {
		return nil
	}
	descent := s.descent(table, []*command{c})
	var out []int
	for _, st := range table {
		if st.state != 'Z' && st.state != 'X' && descent[st.pid] == c {
			out = append(out, st.pid)
		}
	}
	return out
}

const (
	stopRounds  = 64              // passes in which a fork bomb is brought to a stand
	killTimeout = 4 * time.Second // until which killed processes must be gone
)

// kill ends everything that a command started and returns when it is gone, or
// when the kernel cannot end it in time. Whatever forks is stopped first, all
// of it, so that nothing escapes between the look and the signal.
func (s *spawner) kill(c *command) {
	c.mu.Lock()
	pid := c.process.pid
	c.mu.Unlock()
	members := s.members(c)
	if len(members) > 1 {
		stopped := map[int]bool{}
		for range stopRounds {
			fresh := false
			for _, m := range members {
				if !stopped[m] {
					syscall.Kill(m, syscall.SIGSTOP) //nolint:errcheck // it may have ended
					stopped[m], fresh = true, true
				}
			}
			if !fresh {
				break
			}
			members = s.members(c)
		}
	}
	deadline := time.Now().Add(killTimeout)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		s.killGroup(c, pid)
		for _, m := range members {
			syscall.Kill(m, syscall.SIGKILL) //nolint:errcheck // it may have ended
		}
		if time.Sleep(pause); time.Now().After(deadline) {
			return
		}
		if members = s.members(c); len(members) == 0 {
			return
		}
	}
}

// killGroup kills the command's own process group, while its number cannot
// belong to another.
func (s *spawner) killGroup(c *command, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-c.exited:
	default:
		syscall.Kill(-pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
	}
}

// processes answers with the process list.
func (r *request) processes() error {
	a := r.agent
	table, err := processTable()
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Detail: "the process list cannot be read", Err: err}
	}
	a.mu.Lock()
	var commands []*command
	for _, c := range a.commands {
		commands = append(commands, c)
	}
	a.mu.Unlock()
	descent := a.spawner.descent(table, commands)
	boot := time.Now().Add(-sinceBoot())
	out := make([]guest.Process, 0, len(table))
	for _, st := range table {
		p := guest.Process{
			PID: st.pid, PPID: st.ppid, State: string(st.state), CPU: st.cpu, RSS: st.rss,
			Started: boot.Add(st.start), Command: commandLine(st.pid),
		}
		var info unix.Stat_t
		if unix.Stat("/proc/"+strconv.Itoa(st.pid), &info) == nil {
			p.UID = int(info.Uid)
		}
		if c := descent[st.pid]; c != nil {
			p.Exec = c.id
		}
		out = append(out, p)
	}
	return lines(r, out)
}

// maxCommandLine bounds what is reported of one process's arguments.
const maxCommandLine = 4 << 10

func commandLine(pid int) []string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	defer f.Close() //nolint:errcheck // read only
	b := make([]byte, maxCommandLine)
	n, _ := f.Read(b) //nolint:errcheck // nothing then
	if n == 0 {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) //nolint:errcheck // nothing then
		return []string{"[" + strings.TrimSpace(string(comm)) + "]"}
	}
	parts := strings.Split(strings.TrimRight(string(b[:n]), "\x00"), "\x00")
	for i := range parts {
		parts[i] = strings.ToValidUTF8(parts[i], "\uFFFD")
	}
	return parts
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// stats sums up what the sandbox consumes.
func (a *Agent) stats() (guest.Stats, error) {
	out := guest.Stats{Uptime: time.Since(a.startedAt)}
	table, err := processTable()
	if err != nil {
		return out, &faas.Error{Kind: faas.KindInternal, Detail: "the process list cannot be read", Err: err}
	}
	self := os.Getpid()
	for _, st := range table {
		out.Processes++
		out.MemoryBytes += st.rss
		out.CPU += st.cpu
		if st.pid == self {
			out.AgentRSS = st.rss
		}
	}
	root := a.cfg.Root
	if root == "" {
		root = "/"
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err == nil {
		out.DiskTotal = int64(fs.Blocks) * fs.Bsize
		out.DiskFree = int64(fs.Bavail) * fs.Bsize
	}
	return out, nil
}
