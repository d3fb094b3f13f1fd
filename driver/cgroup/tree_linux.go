package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// subtree is the name of the directory that holds this platform's groups.
const subtree = "faas"

// Tree is where groups are made on this machine.
type Tree struct {
	// dirs maps each usable controller to its faas/ directory. In version 2
	// all of them name the same one.
	dirs map[Controller]string
	// unified is true when dirs is one version 2 directory.
	unified bool
	// every is the faas/ directory of every mounted hierarchy, also of those
	// whose controllers are not used here: other programs make groups there.
	every []string
	// missing says why a controller cannot be used.
	missing map[Controller]string
}

// Open finds the tree and makes its faas/ directories. It fails when no
// controller at all can be used; the error says why.
func Open() (*Tree, error) {
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own, err := readMembership("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	return open(mounts, own, os.Geteuid() == 0)
}

// hierarchy is one mounted control group file system.
type hierarchy struct {
	mountPoint  string
	controllers []Controller // version 1 only
	unified     bool
}

func open(mounts []hierarchy, own map[string]string, root bool) (*Tree, error) {
	t := &Tree{dirs: map[Controller]string{}, missing: map[Controller]string{}}
	for _, h := range mounts {
		t.every = append(t.every, filepath.Join(h.mountPoint, subtree))
		if !h.unified {
			t.openLegacy(h, root)
		}
	}
	if len(t.dirs) > 0 {
		return t, nil
	}
	if why := t.reasons(); why != "" {
		return nil, errors.New(why)
	}
	for _, h := range mounts {
		if h.unified {
			return t, t.openUnified(h, own[""], root)
		}
	}
	return nil, errors.New("no control group file system is mounted")
}

// openLegacy adds the controllers of one version 1 hierarchy.
func (t *Tree) openLegacy(h hierarchy, root bool) {
	for _, c := range h.controllers {
		if !slices.Contains([]Controller{CPU, Memory, PIDs, Freezer, Accounting}, c) {
			continue
		}
		if !root {
			t.missing[c] = "version 1 control groups cannot be delegated safely to a plain user"
			continue
		}
		dir := filepath.Join(h.mountPoint, subtree)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.missing[c] = err.Error()
			continue
		}
		t.dirs[c] = dir
	}
}

// openUnified makes faas/ in a version 2 hierarchy and hands it the
// controllers that the parent has.
func (t *Tree) openUnified(h hierarchy, own string, root bool) error {
	parent := h.mountPoint
	if !root {
		var err error
		if parent, err = highestDelegated(h.mountPoint, own); err != nil {
			return err
		}
	}
	have, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read the controllers of %s: %w", parent, err)
	}
	dir := filepath.Join(parent, subtree)
	t.every = []string{dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	available := strings.Fields(string(have))
	for _, c := range []Controller{CPU, Memory, PIDs} {
		if !slices.Contains(available, string(c)) {
			t.missing[c] = fmt.Sprintf("controller %s is not available in %s", c, parent)
			continue
		}
		if err := enable(parent, c); err != nil {
			t.missing[c] = err.Error()
			continue
		}
		if err := enable(dir, c); err != nil {
			t.missing[c] = err.Error()
			continue
		}
		t.dirs[c] = dir
	}
	t.dirs[Freezer], t.dirs[Accounting] = dir, dir
	t.unified = true
	return nil
}

// enable hands a controller of dir to its children, unless they have it.
func enable(dir string, c Controller) error {
	path := filepath.Join(dir, "cgroup.subtree_control")
	have, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(string(have)), string(c)) {
		return nil
	}
	if err := os.WriteFile(path, []byte("+"+string(c)), 0); err != nil {
		return fmt.Errorf("enable controller %s below %s: %w", c, dir, err)
	}
	return nil
}

// highestDelegated returns the group nearest to the top of which the user may
// make children and into which they may move processes.
func highestDelegated(mountPoint, own string) (string, error) {
	best := ""
	for dir := filepath.Join(mountPoint, own); strings.HasPrefix(dir, mountPoint); dir = filepath.Dir(dir) {
		if !writable(filepath.Join(dir, "cgroup.procs")) || !writable(filepath.Join(dir, "cgroup.subtree_control")) {
			if best != "" {
				break
			}
			continue
		}
		best = dir
	}
	if best == "" {
		return "", fmt.Errorf("no control group at or above %s was delegated to this user", own)
	}
	return best, nil
}

func writable(path string) bool {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// Has says whether the controller can be used, and when not, why.
func (t *Tree) Has(c Controller) (bool, string) {
	if _, ok := t.dirs[c]; ok {
		return true, ""
	}
	if why, ok := t.missing[c]; ok {
		return false, why
	}
	return false, fmt.Sprintf("controller %s is not mounted", c)
}

// Describe names the version and the place of the tree.
func (t *Tree) Describe() string {
	if t.unified {
		return "control groups version 2 at " + t.dirs[Freezer]
	}
	for _, c := range []Controller{Memory, CPU, PIDs} {
		if d, ok := t.dirs[c]; ok {
			return "control groups version 1 at " + filepath.Dir(filepath.Dir(d)) + "/*/" + subtree
		}
	}
	return "control groups version 1"
}

// Names lists the groups of the tree, from any of its hierarchies.
func (t *Tree) Names() ([]string, error) {
	var names []string
	for _, dir := range t.every {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// directories returns each distinct directory of the tree once.
func (t *Tree) directories() []string {
	var out []string
	for _, c := range []Controller{Memory, PIDs, CPU, Accounting, Freezer} {
		if d, ok := t.dirs[c]; ok && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

func (t *Tree) reasons() string {
	var all []string
	for _, c := range []Controller{CPU, Memory, PIDs} {
		if why, ok := t.missing[c]; ok && !slices.Contains(all, why) {
			all = append(all, why)
		}
	}
	return strings.Join(all, "; ")
}

// HybridMounts returns where version 2 is mounted on a machine that has
// version 1 too; none on others.
func HybridMounts() ([]string, error) {
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	legacy := false
	for _, h := range mounts {
		if h.unified {
			points = append(points, h.mountPoint)
		} else {
			legacy = true
		}
	}
	if !legacy {
		return nil, nil
	}
	return points, nil
}

// readMounts lists the control group hierarchies of a mountinfo file.
func readMounts(path string) ([]hierarchy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []hierarchy
	// A hierarchy may be mounted again, in the root of a container that is
	// being made for one: the first is the machine's.
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		front, back, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(front), strings.Fields(back)
		if !ok || len(left) < 5 || len(right) < 3 || !strings.HasPrefix(right[0], "cgroup") {
			continue
		}
		device := left[2]
		if seen[device] {
			continue
		}
		seen[device] = true
		switch right[0] {
		case "cgroup2":
			out = append(out, hierarchy{mountPoint: left[4], unified: true})
		case "cgroup":
			h := hierarchy{mountPoint: left[4]}
			for option := range strings.SplitSeq(right[2], ",") {
				h.controllers = append(h.controllers, Controller(option))
			}
			out = append(out, h)
		}
	}
	return out, lines.Err()
}

// readMembership maps each controller list of a /proc/PID/cgroup file ("" for
// version 2) to the group that the process is in.
func readMembership(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	own := map[string]string{}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 {
			own[parts[1]] = parts[2]
		}
	}
	return own, nil
}
