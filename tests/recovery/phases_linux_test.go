package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Phases of a sandbox's life, as they show from outside.
const (
	phaseStarting    = "starting"    // the daemon itself: it does not answer yet
	phaseCreating    = "creating"    // it has a directory, and Create has not returned
	phaseIdle        = "idle"        // it is ready and nobody's
	phaseConfiguring = "configuring" // it has an identity, and no command began in it
	phaseRunning     = "running"     // its command runs
	phaseDestroying  = "destroying"  // its command ended, or its processes did
)

func phases() []string {
	return []string{phaseStarting, phaseCreating, phaseIdle, phaseConfiguring, phaseRunning, phaseDestroying}
}

// process is one that existed, told from a later one of the same number.
type process struct {
	pid   int
	start string
}

// scene is what the daemon's work looked like at one moment.
type scene struct {
	phases    []string
	sandboxes []string // ids
	processes []process
}

// look reads the driver's records and the processes below the daemon. The
// daemon is stopped meanwhile; what runs in the sandboxes is not.
func (in *installation) look() scene {
	in.t.Helper()
	var s scene
	for _, dir := range in.sandboxDirs() {
		name := filepath.Base(dir)
		id := name[strings.LastIndex(name, ".")+1:]
		s.sandboxes = append(s.sandboxes, id)
		phase, init := in.phaseOf(dir)
		if !slices.Contains(s.phases, phase) {
			s.phases = append(s.phases, phase)
		}
		if init != 0 {
			s.add(init)
		}
	}
	s.add(below(in.cmd.Process.Pid)...)
	for _, p := range slices.Clone(s.processes) {
		s.add(below(p.pid)...)
	}
	return s
}

func (s *scene) add(pids ...int) {
	for _, pid := range pids {
		p := process{pid, startOf(pid)}
		if p.start != "" && !slices.Contains(s.processes, p) {
			s.processes = append(s.processes, p)
		}
	}
}

// sandboxDirs lists the directories of sandboxes, those half made and half
// removed included.
func (in *installation) sandboxDirs() []string {
	in.t.Helper()
	var all []string
	for _, state := range []string{"data", "runtime"} {
		err := filepath.WalkDir(filepath.Join(in.dir, state), func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return nil // it went meanwhile
			case err != nil:
				return err
			case d.IsDir() && filepath.Base(filepath.Dir(path)) == "sandboxes":
				all = append(all, path)
				return fs.SkipDir
			case d.IsDir() && (d.Name() == "layers" || d.Name() == "host"):
				return fs.SkipDir
			}
			return nil
		})
		if err != nil {
			in.t.Fatal(err)
		}
	}
	return all
}

// phaseOf tells the phase of the sandbox in a directory, and its PID 1.
func (in *installation) phaseOf(dir string) (phase string, init int) {
	in.t.Helper()
	switch name := filepath.Base(dir); {
	case strings.HasPrefix(name, ".new-"):
		return phaseCreating, 0
	case strings.HasPrefix(name, ".going-"):
		return phaseDestroying, 0
	}
	var record struct {
		Ready   bool `json:"ready"`
		Process struct {
			PID int `json:"pid"`
		} `json:"process"`
	}
	content, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return phaseDestroying, 0 // it is being removed
	}
	if err := json.Unmarshal(content, &record); err != nil {
		in.t.Fatalf("%s: %v", dir, err)
	}
	pid := record.Process.PID
	root := fmt.Sprintf("/proc/%d/root", pid)
	switch {
	case !record.Ready:
		return phaseCreating, pid
	case !alive(pid):
		return phaseDestroying, pid
	case !owned(root):
		return phaseIdle, pid
	case len(below(pid)) > 0:
		return phaseRunning, pid
	case exists(root + marker):
		return phaseDestroying, pid
	}
	return phaseConfiguring, pid
}

// owned says whether a sandbox has been given to a request: clients put a label
// on theirs, and programs inside read it where the agent wrote it.
func owned(root string) bool {
	identity, err := os.ReadFile(root + "/run/faas/instance.json")
	return err == nil && strings.Contains(string(identity), label)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// stat returns the fields of /proc/PID/stat from the state on, nil when the
// process is gone.
func stat(pid int) []string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	// The name before may hold anything, brackets included.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return nil
	}
	return fields
}

// startOf is when a process began, in clock ticks; "" when it is gone or a
// zombie.
func startOf(pid int) string {
	if f := stat(pid); f != nil && f[0] != "Z" && f[0] != "X" {
		return f[19]
	}
	return ""
}

func alive(pid int) bool { return startOf(pid) != "" }

// below lists the living descendants of a process.
func below(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		f := stat(child)
		if f == nil || f[0] == "Z" || f[0] == "X" {
			continue
		}
		if parent, err := strconv.Atoi(f[1]); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all
}
