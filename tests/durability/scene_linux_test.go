package durability

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func (in *installation) store(parts ...string) string {
	return filepath.Join(append([]string{in.disk, "snapshots"}, parts...)...)
}

// under says whether a phase is under way: by the requests in flight, or by
// what the daemon's own work leaves to be seen.
func (w *work) under(phase string) bool {
	matches := func(pattern string) []string {
		found, err := filepath.Glob(pattern)
		check(w.in.t, err)
		return found
	}
	switch phase {
	case phaseArchive:
		for _, lease := range matches(w.in.store("leases", "*", "own-*")) {
			id := filepath.Base(filepath.Dir(lease))
			if _, err := os.Stat(w.in.store("snapshots", id, "cold.json")); errors.Is(err, fs.ErrNotExist) {
				return true
			}
		}
		return false
	case phaseEvict:
		return len(matches(w.in.store("trash", "*-hot-*"))) > 0
	case phaseFetch:
		return len(matches(w.in.store("staging", "*", "thaw-*"))) > 0
	}
	return w.flying[phase].Load() > 0
}

// sandboxes lists the ids of the sandboxes that have a directory.
func (in *installation) sandboxes() []string {
	var ids []string
	for _, runtime := range []string{"native", "gvisor"} {
		for _, place := range []string{in.disk, filepath.Join(in.dir, "run")} {
			entries, err := os.ReadDir(filepath.Join(place, runtime, "sandboxes"))
			if err != nil {
				continue
			}
			for _, e := range entries {
				ids = append(ids, e.Name()[strings.LastIndex(e.Name(), ".")+1:])
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// helpers lists processes that run a program for this installation: of CRIU
// those below the daemon, of gVisor those that name its directory.
func (in *installation) helpers(program string) []int {
	entries, err := os.ReadDir("/proc")
	check(in.t, err)
	parents := map[int]int{}
	var list []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		parents[pid], _ = strconv.Atoi(fields[1]) //nolint:errcheck // the kernel's own
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(program)) {
			list = append(list, pid)
		}
	}
	return slices.DeleteFunc(list, func(pid int) bool {
		if program == "runsc" {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return err != nil || !bytes.Contains(line, []byte(in.dir))
		}
		for at, n := pid, 0; at > 1 && n < 100; at, n = parents[at], n+1 {
			if at == in.cmd.Process.Pid {
				return false
			}
		}
		return true
	})
}

// balloon fills the disk and returns what empties it again.
func (in *installation) balloon() (release func()) {
	in.t.Helper()
	f, err := os.Create(filepath.Join(in.disk, "balloon"))
	check(in.t, err)
	var size int64
	for step := int64(256 << 20); step >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, size, step)
		if err == nil {
			size += step
			continue
		}
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EINTR) {
			in.t.Fatal(err)
		}
		step /= 2
	}
	return func() {
		check(in.t, f.Close())
		check(in.t, os.Remove(f.Name()))
	}
}

// leavesNothing fails when anything of what was interrupted is left: what
// there is in the store, among processes, mounts and control groups must
// belong to a snapshot or an instance that there is.
func (w *work) leavesNothing(before []string) {
	in := w.in
	in.t.Helper()
	in.within(time.Minute, "what was interrupted is gone without trace", func() error {
		check(in.t, ignoreRefusal(in.call("POST", "/api/v1/snapshots/gc", nil, nil)))
		now := in.sandboxes()
		errs := []error{in.staged(), in.kept(now)}
		if left := in.helpers("criu"); len(left) > 0 {
			errs = append(errs, fmt.Errorf("CRIU runs: %v", left))
		}
		var gone []string
		for _, id := range before {
			if !slices.Contains(now, id) {
				gone = append(gone, id)
			}
		}
		instances, err := in.instances()
		if err == nil && len(now) != instances {
			err = fmt.Errorf("%d sandboxes for %d instances: %v", len(now), instances, now)
		}
		return errors.Join(append(errs, err, traces(gone))...)
	})
}

func ignoreRefusal(err error) error {
	var refused *refusal
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// instances counts the instances that have a sandbox.
func (in *installation) instances() (int, error) {
	var list struct {
		Instances []struct {
			Status string `json:"status"`
		} `json:"instances"`
	}
	if err := in.call("GET", "/api/v1/instances?limit=1000", nil, &list); err != nil {
		return 0, err
	}
	n := 0
	for _, x := range list.Instances {
		switch x.Status {
		case "running", "paused":
			n++
		case "stopped", "failed":
		default:
			return 0, fmt.Errorf("an instance is %s", x.Status)
		}
	}
	return n, nil
}

// staged looks for drafts and for what was taken out of sight.
func (in *installation) staged() error {
	var errs []error
	for _, pattern := range []string{in.store("staging", "*", "*"), in.store("trash", "*")} {
		left, err := filepath.Glob(pattern)
		errs = append(errs, err)
		if len(left) > 0 {
			errs = append(errs, fmt.Errorf("there is %v", left))
		}
	}
	owners, err := os.ReadDir(in.store("owners"))
	if err == nil && len(owners) != 1 {
		err = fmt.Errorf("%d processes own the store", len(owners))
	}
	return errors.Join(append(errs, err)...)
}

// kept looks for files of snapshots, and for leases, that nobody needs.
func (in *installation) kept(sandboxes []string) error {
	entries, err := os.ReadDir(in.store("snapshots"))
	if err != nil {
		return err
	}
	var errs []error
	needed, unseen := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		var m struct {
			Layers []string `json:"layers"`
			Hidden bool     `json:"hidden"`
		}
		b, err := os.ReadFile(in.store("snapshots", e.Name(), "manifest.json"))
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_, err = os.Stat(in.store("snapshots", e.Name(), "removed"))
		if removed := err == nil; removed || m.Hidden {
			unseen[e.Name()] = true
			continue
		}
		for _, layer := range m.Layers {
			needed[layer] = true
		}
	}
	leases, err := filepath.Glob(in.store("leases", "*", "*"))
	errs = append(errs, err)
	for _, lease := range leases {
		needed[filepath.Base(filepath.Dir(lease))] = true
		holder := filepath.Base(lease)
		if !slices.Contains(sandboxes, holder) && !strings.HasPrefix(holder, "own-") {
			errs = append(errs, fmt.Errorf("a lease of %s is left", holder))
		}
	}
	for id := range unseen {
		if !needed[id] {
			errs = append(errs, fmt.Errorf("%s is of no use to anybody", id))
		}
	}
	return errors.Join(errs...)
}

// traces looks for mounts, control groups and processes of sandboxes that are
// gone.
func traces(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	errs := []error{err}
	for _, id := range ids {
		if bytes.Contains(mounts, []byte(id)) {
			errs = append(errs, fmt.Errorf("sandbox %s has a mount", id))
		}
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	errs = append(errs, err)
	for _, file := range groups {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it ended
		}
		for _, id := range ids {
			if bytes.Contains(b, []byte(id)) {
				errs = append(errs, fmt.Errorf("process %s is of sandbox %s", filepath.Base(filepath.Dir(file)), id))
			}
		}
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // it went while we looked
		}
		for _, id := range ids {
			if strings.Contains(d.Name(), id) {
				errs = append(errs, fmt.Errorf("there is %s", path))
			}
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}
