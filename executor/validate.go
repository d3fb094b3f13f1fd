package executor

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/network"
)

// Bounds of a request. What the kernel bounds anyway has the kernel's bound.
const (
	MaxArguments     = 4096
	MaxArgumentBytes = 128<<10 - 1 // of one argument or environment entry, as in Linux
	MaxCommandBytes  = 1 << 20     // of all arguments together
	MaxEnv           = 1024        // variables
	MaxEnvBytes      = 512 << 10   // of all of them together
	MaxPath          = 4095
	MaxFiles         = 1024
	MaxFileBytes     = 64 << 20 // of all files together
	MinMemoryMB      = 16
	MaxMemoryMB      = 1 << 24
	MinCPUCores      = 0.01
	MaxCPUCores      = 1024
	MaxDiskMB        = 1 << 26
	MinPIDs          = 8
	MaxPIDs          = 1 << 22
	MaxOutputLimit   = 256 << 20
	MaxLabels        = 64
	maxLabelKey      = 128
	maxLabelValue    = 1024
	maxImage         = 512
	maxUser          = 64
)

// DefaultOutputLimit is what a Result keeps of each stream when a request
// does not say.
const DefaultOutputLimit = 10 << 20

func (d Defaults) withDefaults() Defaults {
	if d.Image == "" {
		d.Image = faas.HostImage
	}
	if d.Timeout <= 0 {
		d.Timeout = 5 * time.Minute
	}
	d.Resources = fillResources(d.Resources, faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 256, PIDs: 256})
	return d
}

// fillResources takes from defaults what r leaves at zero.
func fillResources(r, defaults faas.Resources) faas.Resources {
	if r.CPUCores == 0 {
		r.CPUCores = defaults.CPUCores
	}
	if r.MemoryMB == 0 {
		r.MemoryMB = defaults.MemoryMB
	}
	if r.DiskMB == 0 {
		r.DiskMB = defaults.DiskMB
	}
	if r.PIDs == 0 {
		r.PIDs = defaults.PIDs
	}
	return r
}

// complete checks a request and fills in the defaults. The error names the
// field as the HTTP API does.
func (d Defaults) complete(req faas.Request) (faas.Request, error) {
	for _, check := range []func(*faas.Request) error{
		checkIdentity, checkCommand, checkEnv, checkPlace, checkFiles, checkResources,
		checkNetwork, checkStreams, checkMode, checkLabels,
	} {
		if err := check(&req); err != nil {
			return req, err
		}
	}
	if req.Image == "" {
		req.Image = d.Image
	}
	if req.Timeout == 0 {
		req.Timeout = d.Timeout
	}
	req.Resources = fillResources(req.Resources, d.Resources)
	return req, nil
}

func checkIdentity(req *faas.Request) error {
	if req.Project == "" {
		req.Project = faas.DefaultProject
	}
	if !faas.ValidProject(req.Project) {
		return faas.InvalidField("project", "%q is not a project name: up to 63 lower-case letters, digits and hyphens", clip(req.Project))
	}
	if req.ID == "" {
		req.ID = faas.NewID(faas.PrefixExecution)
	}
	if !faas.ValidID(faas.PrefixExecution, req.ID) {
		return faas.InvalidField("id", "%q is not an execution id", clip(req.ID))
	}
	return nil
}

func checkCommand(req *faas.Request) error {
	if len(req.Command) == 0 || req.Command[0] == "" {
		return faas.InvalidField("command", "is empty: give a program and its arguments")
	}
	if len(req.Command) > MaxArguments {
		return faas.InvalidField("command", "%d arguments, at most %d are allowed", len(req.Command), MaxArguments)
	}
	total := 0
	for i, arg := range req.Command {
		if strings.IndexByte(arg, 0) >= 0 {
			return faas.InvalidField("command", "argument %d holds a NUL byte", i)
		}
		if len(arg) > MaxArgumentBytes {
			return faas.InvalidField("command", "argument %d has %d bytes, at most %d are allowed: pass it as a file or on standard input", i, len(arg), MaxArgumentBytes)
		}
		total += len(arg) + 1
	}
	if total > MaxCommandBytes {
		return faas.InvalidField("command", "%d bytes, at most %d are allowed: pass data as a file or on standard input", total, MaxCommandBytes)
	}
	return nil
}

func checkEnv(req *faas.Request) error {
	if len(req.Env) > MaxEnv {
		return faas.InvalidField("env_vars", "%d variables, at most %d are allowed", len(req.Env), MaxEnv)
	}
	total := 0
	for name, value := range req.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			return faas.InvalidField("env_vars", "%q is not a variable name: not empty, without = and NUL", clip(name))
		}
		if strings.IndexByte(value, 0) >= 0 {
			return faas.InvalidField("env_vars", "the value of %s holds a NUL byte", clip(name))
		}
		size := len(name) + len(value) + 2
		if size > MaxArgumentBytes {
			return faas.InvalidField("env_vars", "%s has %d bytes, at most %d are allowed", clip(name), size, MaxArgumentBytes)
		}
		total += size
	}
	if total > MaxEnvBytes {
		return faas.InvalidField("env_vars", "%d bytes, at most %d are allowed", total, MaxEnvBytes)
	}
	return nil
}

func checkPlace(req *faas.Request) error {
	switch {
	case req.WorkingDir == "":
	case !path.IsAbs(req.WorkingDir):
		return faas.InvalidField("working_dir", "%q is not an absolute path", clip(req.WorkingDir))
	case !validPath(req.WorkingDir):
		return faas.InvalidField("working_dir", "longer than %d bytes or with a NUL byte", MaxPath)
	default:
		req.WorkingDir = path.Clean(req.WorkingDir)
	}
	if len(req.User) > maxUser || strings.ContainsAny(req.User, "\x00\n/") {
		return faas.InvalidField("user", "%q is not a user name or uid[:gid]", clip(req.User))
	}
	if len(req.Image) > maxImage || strings.HasPrefix(req.Image, "-") ||
		strings.ContainsFunc(req.Image, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return faas.InvalidField("image", "%q is not an image reference", clip(req.Image))
	}
	if req.Timeout < 0 || req.Timeout > faas.MaxTimeout {
		return faas.InvalidField("timeout_ms", "%v is not between 0 and %v", req.Timeout, faas.MaxTimeout)
	}
	return nil
}

func validPath(p string) bool {
	return len(p) <= MaxPath && strings.IndexByte(p, 0) < 0
}

func checkFiles(req *faas.Request) error {
	if len(req.Files) > MaxFiles {
		return faas.InvalidField("files", "%d files, at most %d are allowed", len(req.Files), MaxFiles)
	}
	total := 0
	seen := make(map[string]string, len(req.Files))
	for name, content := range req.Files {
		if name == "" || strings.HasSuffix(name, "/") || !validPath(name) {
			return faas.InvalidField("files", "%q is not the path of a file", clip(name))
		}
		// The image may have a working directory of its own: as long as it is
		// not known, relative names are compared with each other only.
		clean := path.Clean(name)
		if path.IsAbs(name) || req.WorkingDir != "" {
			clean = absolute(req.WorkingDir, name)
		}
		if clean == "/" || clean == "." || clean == ".." || strings.HasSuffix(clean, "/..") {
			return faas.InvalidField("files", "%q is not the path of a file", clip(name))
		}
		if other, twice := seen[clean]; twice {
			return faas.InvalidField("files", "%q and %q are the same file", clip(name), clip(other))
		}
		seen[clean] = name
		total += len(content)
	}
	if total > MaxFileBytes {
		return faas.InvalidField("files", "%d bytes, at most %d are allowed", total, MaxFileBytes)
	}
	return nil
}

// absolute is where a file named in a request lies.
func absolute(dir, name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join("/", dir, name)
}

func checkResources(req *faas.Request) error {
	r := req.Resources
	switch {
	case r.CPUCores != 0 && !(r.CPUCores >= MinCPUCores && r.CPUCores <= MaxCPUCores): // also refuses NaN
		return faas.InvalidField("cpu_cores", "%v is not between %v and %d", r.CPUCores, MinCPUCores, MaxCPUCores)
	case r.MemoryMB != 0 && (r.MemoryMB < MinMemoryMB || r.MemoryMB > MaxMemoryMB):
		return faas.InvalidField("memory_mb", "%d is not between %d and %d", r.MemoryMB, MinMemoryMB, MaxMemoryMB)
	case r.DiskMB < 0 || r.DiskMB > MaxDiskMB:
		return faas.InvalidField("disk_mb", "%d is not between 1 and %d", r.DiskMB, MaxDiskMB)
	case r.PIDs != 0 && (r.PIDs < MinPIDs || r.PIDs > MaxPIDs):
		return faas.InvalidField("pids", "%d is not between %d and %d", r.PIDs, MinPIDs, MaxPIDs)
	}
	return nil
}

func checkNetwork(req *faas.Request) error {
	if req.Network.Mode == "" && len(req.Network.Allow) == 0 {
		req.Network.Mode = faas.NetworkNone
	}
	return network.CheckPolicy(req.Network)
}

func checkStreams(req *faas.Request) error {
	switch {
	case req.OutputLimit < 0 || req.OutputLimit > MaxOutputLimit:
		return faas.InvalidField("output_limit", "%d is not between 0 and %d", req.OutputLimit, MaxOutputLimit)
	case req.OutputLimit == 0:
		req.OutputLimit = DefaultOutputLimit
	}
	if req.TTY != nil && (req.TTY.Cols == 0 || req.TTY.Rows == 0) {
		req.TTY = &faas.TerminalSize{Cols: 80, Rows: 24}
	}
	return nil
}

func checkMode(req *faas.Request) error {
	if req.Runtime == "" {
		req.Runtime = faas.RuntimeAuto
	}
	if req.Runtime != faas.RuntimeAuto && !slices.Contains(faas.Runtimes(), req.Runtime) {
		return faas.InvalidField("runtime", "%q is not one of auto, %s", clip(string(req.Runtime)), joinWords(faas.Runtimes()))
	}
	switch req.Mode {
	case "":
		req.Mode = faas.ModeEphemeral
	case faas.ModeEphemeral, faas.ModeCached, faas.ModeCheckpointed, faas.ModeBranched, faas.ModePersistent:
	default:
		return faas.InvalidField("mode", "%q is not one of ephemeral, cached, checkpointed, branched, persistent", clip(string(req.Mode)))
	}
	switch {
	case req.CacheKey != "" && req.Mode != faas.ModeCached:
		return faas.InvalidField("cache_key", "needs mode cached")
	case req.CacheTTL != 0 && req.Mode != faas.ModeCached:
		return faas.InvalidField("cache_ttl_ms", "needs mode cached")
	case req.CacheFailures && req.Mode != faas.ModeCached:
		return faas.InvalidField("cache_failures", "needs mode cached")
	case req.CacheTTL < 0:
		return faas.InvalidField("cache_ttl_ms", "is negative")
	case req.SnapshotID != "" && req.BranchFrom != "":
		return faas.InvalidField("branch_from", "an execution starts from snapshot_id or from branch_from, not both")
	case req.SnapshotID != "" && !faas.ValidID(faas.PrefixSnapshot, req.SnapshotID):
		return faas.InvalidField("snapshot_id", "%q is not a snapshot id", clip(req.SnapshotID))
	case req.Mode == faas.ModeBranched && req.BranchFrom == "" && req.SnapshotID == "":
		return faas.InvalidField("branch_from", "mode branched needs an execution, snapshot, branch or instance to continue from")
	case req.InstanceID != "" && req.Mode != faas.ModePersistent:
		return faas.InvalidField("instance_id", "needs mode persistent")
	}
	return checkEntropy(req)
}

func checkEntropy(req *faas.Request) error {
	switch req.Entropy {
	case "":
		req.Entropy = faas.EntropyReport
	case faas.EntropyReport, faas.EntropyStrict:
	default:
		return faas.InvalidField("entropy", "%q is not one of report, strict", clip(string(req.Entropy)))
	}
	return nil
}

func checkLabels(req *faas.Request) error {
	if len(req.Labels) > MaxLabels {
		return faas.InvalidField("labels", "%d labels, at most %d are allowed", len(req.Labels), MaxLabels)
	}
	for key, value := range req.Labels {
		if key == "" || len(key) > maxLabelKey || len(value) > maxLabelValue {
			return faas.InvalidField("labels", "%q: a key has 1 to %d bytes, a value at most %d", clip(key), maxLabelKey, maxLabelValue)
		}
	}
	return nil
}

// clip bounds what an error repeats of a request.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func joinWords[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}
