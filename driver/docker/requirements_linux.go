package docker

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// requirements lists what a machine must have to restore the memory.
func (s *sandbox) requirements(tool string) (driver.Requirements, error) {
	rec := s.snapshotRecord()
	r := driver.Requirements{Architecture: runtime.GOARCH, Tool: tool, Agent: rec.Agent}
	var err error
	if r.Kernel, err = kernelRelease(); err != nil {
		return r, err
	}
	if r.CPUFeatures, err = cpuFeatures(); err != nil || rec.Spec.Image != faas.HostImage {
		return r, err
	}
	r.MappedFiles, err = s.mappedFiles()
	return r, err
}

// checkRequirements refuses what cannot be restored here, with the reason.
func checkRequirements(r driver.Requirements) error {
	refuse := func(format string, args ...any) error {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: opRestore, Detail: fmt.Sprintf(format, args...),
			Remedy: "restore its files only, or on a machine like the one where it was taken"}
	}
	if r.Architecture != runtime.GOARCH {
		return refuse("the snapshot is of a machine with %s, this one has %s", r.Architecture, runtime.GOARCH)
	}
	kernel, err := kernelRelease()
	if err != nil {
		return err
	}
	if kernel != r.Kernel {
		return refuse("the snapshot was taken under Linux %s, this machine runs %s", r.Kernel, kernel)
	}
	have, err := cpuFeatures()
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(r.CPUFeatures), func(f string) bool { return slices.Contains(have, f) })
	if len(missing) > 0 {
		return refuse("this machine's CPU lacks what programs in the snapshot may use: %s", strings.Join(missing, ", "))
	}
	for _, file := range slices.Sorted(maps.Keys(r.MappedFiles)) {
		if now, err := fileIdentity(file); err != nil || now != r.MappedFiles[file] {
			return refuse("%s, which a program in the snapshot has mapped, has changed since or is gone", file)
		}
	}
	return nil
}

func kernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("ask for the kernel's release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// cpuFeatures lists what the processor offers to programs, as the kernel names
// it.
func cpuFeatures() ([]string, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"flags", "Features"} {
		for line := range strings.Lines(string(b)) {
			key, list, _ := strings.Cut(line, ":")
			if strings.TrimSpace(key) == name {
				features := strings.Fields(list)
				slices.Sort(features)
				return slices.Compact(features), nil
			}
		}
	}
	return nil, errors.New("/proc/cpuinfo names no features")
}

// mappedFiles lists this machine's own files that processes have mapped: those
// of the host image, which an update of the machine changes under a snapshot.
func (s *sandbox) mappedFiles() (map[string]string, error) {
	list, err := s.others()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, in := range list {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", in.pid))
		if err != nil {
			continue // it has just ended
		}
		for line := range strings.Lines(string(b)) {
			_, file, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "/")
			file = path.Clean("/" + file)
			if !ok || found[file] != "" || !strings.HasPrefix(file, "/usr/") || strings.HasSuffix(file, " (deleted)") {
				continue
			}
			if found[file], err = fileIdentity(file); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// fileIdentity tells one version of a file from another: the build id of a
// program or library, size and time of anything else.
func fileIdentity(file string) (string, error) {
	info, err := os.Stat(filepath.Clean(file))
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("%d bytes of %d", info.Size(), info.ModTime().UnixNano())
	f, err := elf.Open(file)
	if err != nil {
		return id, nil //nolint:nilerr // no program
	}
	defer f.Close()
	if note := f.Section(".note.gnu.build-id"); note != nil {
		if b, err := note.Data(); err == nil && len(b) > 16 {
			return "build id " + hex.EncodeToString(b[16:]), nil
		}
	}
	return id, nil
}
