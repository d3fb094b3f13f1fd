package conformance

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// machineLeftovers lists files below stateDir, mounts, cgroups, network
// namespaces and processes that carry id.
func machineLeftovers(id, stateDir string) []string {
	var left []string
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, id) {
				left = append(left, "mount "+strings.TrimSpace(line))
			}
		}
	}
	for what, root := range map[string]string{"file": stateDir, "cgroup": "/sys/fs/cgroup", "network namespace": "/run/netns", "run file": "/run/faas"} {
		if root != "" {
			left = append(left, named(what, root, id)...)
		}
	}
	return append(left, processesWith(id)...)
}

// named lists the outermost paths below root whose name holds id.
func named(what, root, id string) []string {
	var left []string
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // what cannot be read is skipped
		if err != nil {
			return nil //nolint:nilerr // it vanished, or is not ours to read
		}
		if strings.Contains(d.Name(), id) {
			left = append(left, what+" "+path)
			if d.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
	return left
}

// processesWith lists the processes of others with id in their arguments or
// in the path of their cgroup.
func processesWith(id string) []string {
	var left []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		cgroup, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if bytes.Contains(cmdline, []byte(id)) || bytes.Contains(cgroup, []byte(id)) {
			text := strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
			left = append(left, "process "+e.Name()+" "+text[:min(len(text), 200)])
		}
	}
	return left
}
