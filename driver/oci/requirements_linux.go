package oci

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
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// requirements lists what a machine must have to restore the sandbox's memory.
func (s *sandbox) requirements() (driver.Requirements, error) {
	n := s.driver
	r := driver.Requirements{
		Architecture: runtime.GOARCH, Kernel: kernelRelease(), Tool: "criu " + n.criuVersion, Agent: s.record.Agent,
	}
	var err error
	if r.CPUFeatures, err = cpuFeatures(); err != nil {
		return r, err
	}
	r.MappedFiles, err = s.mappedHostFiles()
	return r, err
}

// refuse says why a state cannot be restored on this machine.
func refuse(format string, args ...any) error {
	return &faas.Error{Kind: faas.KindFailedPrecondition, Op: "restore", Detail: fmt.Sprintf(format, args...),
		Remedy: "restore its files only, or on a machine like the one where it was taken"}
}

// checkRequirements refuses what cannot be restored here, with the reason.
func (n *Native) checkRequirements(r driver.Requirements) error {
	if have := kernelRelease(); r.Kernel != have {
		return refuse("the snapshot was taken under Linux %s, this machine runs %s: programs have the old kernel's vDSO mapped", r.Kernel, have)
	}
	if olderTool(n.criuVersion, strings.TrimPrefix(r.Tool, "criu ")) {
		return refuse("the snapshot was written by %s, this machine has CRIU %s: an older one may not read it", r.Tool, n.criuVersion)
	}
	return checkMachine(r)
}

// olderTool says whether a version, numbers with dots between them, is older
// than another.
func olderTool(have, wrote string) bool {
	parse := func(text string) (list []int) {
		for part := range strings.SplitSeq(text, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return nil
			}
			list = append(list, n)
		}
		return list
	}
	return slices.Compare(parse(have), parse(wrote)) < 0
}

// checkMachine compares the processor and the files that are the machine's own.
func checkMachine(r driver.Requirements) error {
	if r.Architecture != runtime.GOARCH {
		return refuse("the snapshot is of a machine with %s, this one has %s", r.Architecture, runtime.GOARCH)
	}
	have, err := cpuFeatures()
	if err != nil {
		return err
	}
	var missing []string
	for _, f := range r.CPUFeatures {
		if !slices.Contains(have, f) {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		return refuse("this machine's CPU lacks what programs in the snapshot may use: %s", strings.Join(missing, ", "))
	}
	for _, file := range slices.Sorted(maps.Keys(r.MappedFiles)) {
		now, err := fileIdentity(file)
		if err != nil || now != r.MappedFiles[file] {
			return refuse("%s, which a program in the snapshot has mapped, has changed since or is gone", file)
		}
	}
	return nil
}

// cpuFeatures lists the processor's features that user programs may have found
// and use, as the kernel names them.
func cpuFeatures() ([]string, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		name, list, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); ok && (name == "flags" || name == "Features") {
			features := strings.Fields(list)
			slices.Sort(features)
			return slices.Compact(features), nil
		}
	}
	return nil, errors.New("/proc/cpuinfo names no features")
}

// mappedHostFiles lists the machine's own files that processes of the sandbox
// have mapped: they come from the host image, and an update of the machine
// changes them under a snapshot.
func (s *sandbox) mappedHostFiles() (map[string]string, error) {
	list := map[string]string{}
	if s.spec().Image != faas.HostImage {
		return list, nil
	}
	var targets []string
	for _, m := range s.record.Mounts {
		if m.Type == "overlay" || m.Type == "bind" && m.Destination != "/dev" && m.Destination != memoryDir {
			targets = append(targets, m.Destination)
		}
	}
	err := eachDescendant(s.process.ID.PID, func(pid int) error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
		if errors.Is(err, unix.ESRCH) || os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			_, file, ok := strings.Cut(line, "/")
			file = "/" + strings.TrimSuffix(file, "\n")
			if !ok || list[file] != "" || strings.HasSuffix(file, " (deleted)") || !below(file, targets) {
				continue
			}
			if list[file], err = fileIdentity(file); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func below(file string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return strings.HasPrefix(path.Clean(file), strings.TrimSuffix(d, "/")+"/")
	})
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
		return id, nil
	}
	defer f.Close()
	if note := f.Section(".note.gnu.build-id"); note != nil {
		if b, err := note.Data(); err == nil && len(b) > 16 {
			return "build id " + hex.EncodeToString(b[16:]), nil
		}
	}
	return id, nil
}
