package executor

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// request is a valid request, changed.
func request(change func(*faas.Request)) faas.Request {
	req := faas.Request{Command: []string{"true"}}
	change(&req)
	return req
}

func TestInvalidRequests(t *testing.T) {
	manyEnv := map[string]string{}
	manyFiles := map[string][]byte{}
	manyLabels := map[string]string{}
	for i := range 2000 {
		manyEnv[fmt.Sprint(i)], manyLabels[fmt.Sprint(i)], manyFiles[fmt.Sprint(i)] = "", "", nil
	}
	tests := map[string]struct {
		field  string
		change func(*faas.Request)
	}{
		"no command":     {"command", func(r *faas.Request) { r.Command = nil }},
		"empty program":  {"command", func(r *faas.Request) { r.Command = []string{"", "x"} }},
		"NUL in command": {"command", func(r *faas.Request) { r.Command = []string{"a", "b\x00"} }},
		"long argument":  {"command", func(r *faas.Request) { r.Command = []string{"a", strings.Repeat("x", 128<<10)} }},
		"many arguments": {"command", func(r *faas.Request) { r.Command = make([]string, 5000); r.Command[0] = "a" }},
		"long command": {"command", func(r *faas.Request) {
			r.Command = strings.Split(strings.Repeat(strings.Repeat("x", 100<<10)+" ", 11), " ")
		}},
		"empty variable":      {"env_vars", func(r *faas.Request) { r.Env = map[string]string{"": "x"} }},
		"= in variable":       {"env_vars", func(r *faas.Request) { r.Env = map[string]string{"A=B": "x"} }},
		"NUL in value":        {"env_vars", func(r *faas.Request) { r.Env = map[string]string{"A": "\x00"} }},
		"long value":          {"env_vars", func(r *faas.Request) { r.Env = map[string]string{"A": strings.Repeat("x", 128<<10)} }},
		"many variables":      {"env_vars", func(r *faas.Request) { r.Env = manyEnv }},
		"relative directory":  {"working_dir", func(r *faas.Request) { r.WorkingDir = "tmp" }},
		"long directory":      {"working_dir", func(r *faas.Request) { r.WorkingDir = "/" + strings.Repeat("x", 5000) }},
		"user with a slash":   {"user", func(r *faas.Request) { r.User = "../etc" }},
		"file without a name": {"files", func(r *faas.Request) { r.Files = map[string][]byte{"": nil} }},
		"directory as file":   {"files", func(r *faas.Request) { r.Files = map[string][]byte{"a/": nil} }},
		"root as file":        {"files", func(r *faas.Request) { r.Files = map[string][]byte{"/..": nil} }},
		"dots as file":        {"files", func(r *faas.Request) { r.Files = map[string][]byte{"a/../..": nil} }},
		"same file twice":     {"files", func(r *faas.Request) { r.Files = map[string][]byte{"a": nil, "./a": nil} }},
		"same file, absolute": {"files", func(r *faas.Request) {
			r.WorkingDir = "/w"
			r.Files = map[string][]byte{"a": nil, "/w/a": nil}
		}},
		"many files":         {"files", func(r *faas.Request) { r.Files = manyFiles }},
		"large files":        {"files", func(r *faas.Request) { r.Files = map[string][]byte{"a": make([]byte, 65<<20)} }},
		"negative time-out":  {"timeout_ms", func(r *faas.Request) { r.Timeout = -1 }},
		"long time-out":      {"timeout_ms", func(r *faas.Request) { r.Timeout = 25 * time.Hour }},
		"little memory":      {"memory_mb", func(r *faas.Request) { r.Resources.MemoryMB = 1 }},
		"negative memory":    {"memory_mb", func(r *faas.Request) { r.Resources.MemoryMB = -1 }},
		"no number of cores": {"cpu_cores", func(r *faas.Request) { r.Resources.CPUCores = math.NaN() }},
		"infinite cores":     {"cpu_cores", func(r *faas.Request) { r.Resources.CPUCores = math.Inf(1) }},
		"negative cores":     {"cpu_cores", func(r *faas.Request) { r.Resources.CPUCores = -1 }},
		"negative disk":      {"disk_mb", func(r *faas.Request) { r.Resources.DiskMB = -1 }},
		"few processes":      {"pids", func(r *faas.Request) { r.Resources.PIDs = 1 }},
		"image with a space": {"image", func(r *faas.Request) { r.Image = "a b" }},
		"image as an option": {"image", func(r *faas.Request) { r.Image = "--privileged" }},
		"unknown runtime":    {"runtime", func(r *faas.Request) { r.Runtime = "vmware" }},
		"unknown mode":       {"mode", func(r *faas.Request) { r.Mode = "forever" }},
		"unknown network":    {"network.mode", func(r *faas.Request) { r.Network.Mode = "host" }},
		"allow without mode": {"network.allow", func(r *faas.Request) { r.Network.Allow = []string{"10.0.0.0/8"} }},
		"allow a name": {"network.allow[1]", func(r *faas.Request) {
			r.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{"10.0.0.1", strings.Repeat("example.org", 100)}}
		}},
		"allow IPv6": {"network.allow[0]", func(r *faas.Request) {
			r.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{"2001:db8::/32"}}
		}},
		"bad project":        {"project", func(r *faas.Request) { r.Project = "A/B" }},
		"bad id":             {"id", func(r *faas.Request) { r.ID = "exec-1" }},
		"negative output":    {"output_limit", func(r *faas.Request) { r.OutputLimit = -1 }},
		"cache key":          {"cache_key", func(r *faas.Request) { r.CacheKey = "x" }},
		"cache TTL":          {"cache_ttl_ms", func(r *faas.Request) { r.CacheTTL = 1 }},
		"many labels":        {"labels", func(r *faas.Request) { r.Labels = manyLabels }},
		"label without name": {"labels", func(r *faas.Request) { r.Labels = map[string]string{"": "x"} }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Defaults{}.withDefaults().complete(request(test.change))
			var e *faas.Error
			if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument || e.Field != test.field {
				t.Errorf("got %v, want field %s", err, test.field)
			}
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("an error of %d bytes repeats the request", len(err.Error()))
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	got, err := Defaults{Timeout: time.Minute, Resources: faas.Resources{MemoryMB: 100}}.withDefaults().complete(
		request(func(r *faas.Request) {
			r.Resources.PIDs = 9
			r.WorkingDir = "/a/../b/"
			r.TTY = &faas.TerminalSize{}
			r.Signals = make(chan syscall.Signal)
		}))
	if err != nil {
		t.Fatal(err)
	}
	want := faas.Resources{CPUCores: 1, MemoryMB: 100, DiskMB: 256, PIDs: 9}
	if got.Image != faas.HostImage || got.Runtime != faas.RuntimeAuto || got.Mode != faas.ModeEphemeral ||
		got.Project != faas.DefaultProject || got.Network.Mode != faas.NetworkNone || got.Timeout != time.Minute ||
		got.Resources != want || got.WorkingDir != "/b" || got.OutputLimit != DefaultOutputLimit ||
		*got.TTY != (faas.TerminalSize{Cols: 80, Rows: 24}) || !faas.ValidID(faas.PrefixExecution, got.ID) {
		t.Errorf("got %+v", got)
	}
}

func TestModesAreChecked(t *testing.T) {
	for field, change := range map[string]func(*faas.Request){
		"branch_from":  func(r *faas.Request) { r.Mode = faas.ModeBranched },
		"snapshot_id":  func(r *faas.Request) { r.SnapshotID = "snap-1" },
		"instance_id":  func(r *faas.Request) { r.InstanceID = "inst-1" },
		"cache_key":    func(r *faas.Request) { r.CacheKey = "k" },
		"cache_ttl_ms": func(r *faas.Request) { r.CacheTTL = time.Second },
		"entropy":      func(r *faas.Request) { r.Entropy = "some" },
	} {
		_, err := Defaults{}.withDefaults().complete(request(change))
		var e *faas.Error
		if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
