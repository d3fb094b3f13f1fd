package layering

import (
	"slices"
	"strings"
	"testing"
)

// rule forbids imports. Paths are below the module ("" is the root package);
// one that ends in "/..." holds for everything below.
type rule struct {
	who    []string // the packages that the rule is for
	except []string // those of them that it is not for
	// Either never (what may not be imported) or only (what may be, of this
	// module; the standard library and other modules are not meant).
	never []string
	only  []string
	// deep holds the rule for indirect imports too.
	deep bool
	// tests holds the rule for the packages' tests too.
	tests bool
	why   string
}

// rules say who may import whom.
var rules = []rule{
	{
		who: []string{""}, only: []string{}, deep: true,
		why: "the root package is the domain: it imports the standard library only, so that embedding it costs nothing",
	},
	{
		who: []string{"guest", "guest/agent/...", "cmd/faas-agent"}, only: []string{"", "guest/...", "image/pack"}, deep: true,
		why: "the guest protocol is below everything that makes sandboxes",
	},
	{
		who: []string{"guest/agent/...", "cmd/faas-agent"}, never: []string{"net/http", "crypto/tls"}, deep: true,
		why: "the agent is resident in every sandbox: it stays small",
	},
	{
		who: []string{"driver"}, only: []string{""}, deep: true,
		why: "the driver contract is stated in the words of the domain",
	},
	{
		who: []string{"driver/..."}, except: []string{"driver"}, never: []string{"executor/...", "pool/...", "internal/gateway/...", "cmd/..."}, deep: true,
		why: "a driver isolates; modes, pools and front doors are above it",
	},
	{
		who: []string{"driver/oci/..."}, never: []string{"driver/docker/...", "driver/microvm/..."}, tests: true,
		why: "drivers never import each other; what two share belongs in guest, image, network or driver",
	},
	{
		who: []string{"driver/docker/..."}, never: []string{"driver/oci/...", "driver/microvm/..."}, tests: true,
		why: "drivers never import each other; what two share belongs in guest, image, network or driver",
	},
	{
		who: []string{"driver/microvm/..."}, never: []string{"driver/oci/...", "driver/docker/..."}, tests: true,
		why: "drivers never import each other; what two share belongs in guest, image, network or driver",
	},
	{
		who: []string{"image/...", "network/..."}, never: []string{"driver/...", "executor/...", "pool/...", "guest/...", "internal/gateway/..."}, deep: true,
		why: "images and networks are what drivers are built on",
	},
	{
		who: []string{"snapshot/..."}, never: []string{"driver/oci/...", "driver/docker/...", "driver/microvm/...", "executor/...", "pool/...", "internal/gateway/..."}, deep: true,
		why: "the snapshot store keeps what any driver made, and knows the contract only",
	},
	{
		who: []string{"pool/..."}, never: []string{"driver/oci/...", "driver/docker/...", "driver/microvm/...", "executor/...", "internal/gateway/..."}, deep: true,
		why: "the pool keeps sandboxes of any driver warm and is the executor's",
	},
	{
		who: []string{"executor/..."}, never: []string{"driver/oci/...", "driver/docker/...", "driver/microvm/..."}, deep: true,
		why: "the executor knows the driver contract, never a concrete driver",
	},
	{
		who: []string{"executor/..."}, never: []string{"net/http", "internal/gateway/..."},
		why: "the executor is a library that needs no front door",
	},
	{
		who: []string{"internal/gateway/...", "internal/sshd/..."}, never: []string{"driver/oci/...", "driver/docker/...", "driver/microvm/...", "pool/..."}, deep: true,
		why: "a front door decodes, authenticates and encodes; the executor does the rest",
	},
	{
		who: []string{"internal/auth", "internal/audit", "internal/usage", "internal/quota", "internal/ticket", "internal/idempotency", "internal/telemetry"}, only: []string{"", "internal/auth"}, deep: true,
		why: "who a caller is, what they may and what they did is stated in the words of the domain; front doors and records build on it",
	},
	{
		who: []string{"internal/sshd/..."}, never: []string{"net/http", "executor/...", "internal/gateway/...", "internal/meta/..."}, deep: true,
		why: "the SSH server says itself what it needs of instances and keys",
	},
	{
		who: []string{"internal/sshkey/..."}, only: []string{"", "internal/sshkey"}, deep: true,
		why: "both front doors use the keys, which know neither, nor where they are kept",
	},
	{
		who: []string{"client/..."}, only: []string{"", "api", "client/..."}, deep: true,
		why: "the client lives in other people's programs and carries the domain, the wire format and nothing else",
	},
	{
		who:   []string{"..."},
		never: []string{"cmd/..."},
		why:   "commands wire; nothing depends on them",
	},
	{
		who: []string{"..."}, except: []string{"cmd/faas", "driver/oci/...", "driver/docker/...", "driver/microvm/...", "demos/benchmarks/...", "demos/embed", "demos/forks"},
		never: []string{"driver/oci/...", "driver/docker/...", "driver/microvm/..."},
		why:   "only cmd/faas chooses concrete drivers; the benchmarks measure them one by one, and a program that embeds the executor chooses its own",
	},
	{
		who: []string{"..."}, except: []string{"driver/drivertest/...", "driver/conformance/...", "cmd/faas"}, never: []string{"testing"},
		why: "what is shipped carries no test framework",
	},
}

// matches says whether a path is meant by one of the patterns.
func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		below, all := strings.CutSuffix(pattern, "...")
		switch {
		case pattern == "...":
			return true
		case all:
			return path == strings.TrimSuffix(below, "/") || strings.HasPrefix(path, below)
		}
		return path == pattern
	})
}

// forbids returns why an import is wrong, "" when it is not.
func (r rule) forbids(importPath string) string {
	inside, ours := strings.CutPrefix(importPath, module)
	inside = strings.TrimPrefix(inside, "/")
	switch {
	case r.only != nil && ours && !matches(inside, r.only):
		return r.why
	case r.never == nil:
		return ""
	case ours && matches(inside, r.never), !ours && slices.Contains(r.never, importPath):
		return r.why
	}
	return ""
}

// imports returns what the rule looks at in a package.
func (r rule) imports(p listed) []string {
	all := p.Imports
	if r.deep {
		all = p.Deps
	}
	if r.tests {
		all = slices.Concat(all, p.TestImports, p.XTestImports)
	}
	return all
}

func TestImports(t *testing.T) {
	for _, platform := range platforms {
		t.Run(platform.os+"-"+platform.arch, func(t *testing.T) {
			for _, p := range list(t, platform.os, platform.arch) {
				for _, r := range rules {
					if !matches(p.path(), r.who) || matches(p.path(), r.except) {
						continue
					}
					for _, imported := range r.imports(p) {
						if why := r.forbids(imported); why != "" {
							t.Errorf("%s imports %s: %s", p.ImportPath, imported, why)
						}
					}
				}
			}
		})
	}
}

// The root package imports nothing but the standard library: what has a dot in
// the first element of its path is not of it.
func TestRootImportsStandardLibraryOnly(t *testing.T) {
	for _, p := range list(t, "linux", "amd64") {
		if p.path() != "" {
			continue
		}
		for _, imported := range p.Deps {
			first, _, _ := strings.Cut(imported, "/")
			if strings.Contains(first, ".") {
				t.Errorf("the root package needs %s", imported)
			}
		}
		return
	}
	t.Error("the module has no root package")
}
