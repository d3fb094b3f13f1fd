package main

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Machine says where figures were measured.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int64  `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	Arch     string `json:"arch"`
	Cgroup   string `json:"cgroup"`  // v1, v2 or hybrid
	Storage  string `json:"storage"` // file system below the data directory
	User     string `json:"user"`    // root or rootless
	Go       string `json:"go"`
	// Load is the machine's load average of the last minute at the start:
	// figures taken beside other work say so.
	Load float64 `json:"load"`
}

// describe reads what this machine is; what cannot be read stays empty.
func describe(dataDir string) Machine {
	m := Machine{
		CPU:     field("/proc/cpuinfo", "model name"),
		Cores:   runtime.NumCPU(),
		Kernel:  firstLine("/proc/sys/kernel/osrelease"),
		Arch:    runtime.GOARCH,
		Cgroup:  cgroupVersion(),
		Storage: fileSystem(dataDir),
		User:    "rootless",
		Go:      runtime.Version(),
	}
	if u, err := user.Current(); err == nil && u.Uid == "0" {
		m.User = "root"
	}
	if kb, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryMB = kb / 1024
	}
	if first, _, ok := strings.Cut(firstLine("/proc/loadavg"), " "); ok {
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// cgroupVersion looks at which hierarchies are mounted.
func cgroupVersion() string {
	v1, v2 := false, false
	for _, mount := range mounts() {
		v1 = v1 || mount.kind == "cgroup"
		v2 = v2 || mount.kind == "cgroup2"
	}
	switch {
	case v1 && v2:
		return "hybrid"
	case v1:
		return "v1"
	case v2:
		return "v2"
	}
	return "none"
}

type mountEntry struct{ at, kind string }

func mounts() []mountEntry {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	var all []mountEntry
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) > 2 {
			all = append(all, mountEntry{words[1], words[2]})
		}
	}
	return all
}

// fileSystem is the type of the deepest mount above a directory.
func fileSystem(dir string) string {
	best := mountEntry{}
	for _, m := range mounts() {
		below := m.at == "/" || dir == m.at || strings.HasPrefix(dir, m.at+"/")
		if below && len(m.at) >= len(best.at) {
			best = m
		}
	}
	return best.kind
}

func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// commit names the tree that was measured, without what the measurement
// itself writes.
func commit(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	id := strings.TrimSpace(string(out))
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--", ".", ":!demos/benchmarks/results").Output()
	if err != nil || len(bytes.TrimSpace(changes)) > 0 {
		id += "-dirty"
	}
	return id
}
