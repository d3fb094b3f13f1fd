//go:build unix

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// Where programs inside find who they are, and what runs after a restore.
const (
	instanceFile = "/run/faas/instance.json"
	machineID    = "/etc/machine-id"
	resolvConf   = "/etc/resolv.conf"
	hooksDir     = "/etc/faas/on-restore.d"
)

const (
	hookTimeout  = 10 * time.Second // of one hook
	hooksTimeout = 30 * time.Second // of all
	hookOutput   = 4 << 10          // bytes kept of each
)

// configure applies a configuration in the order in which a restored program
// needs it: entropy and clock first, then who it is, then the network, then
// the generators in programs' memory, then the hooks, which see all of it. What the agent may not do is skipped and
// said.
func (a *Agent) configure(ctx context.Context, cfg guest.Configuration) (guest.Configured, error) {
	out := guest.Configured{Skipped: map[string]string{}}
	note := func(field string, err error) {
		if err != nil {
			out.Skipped[field] = reason(err)
		}
	}
	if len(cfg.Entropy) > 0 {
		note("entropy", addEntropy(cfg.Entropy))
	}
	if cfg.Clock != nil {
		note("clock", setClock(*cfg.Clock))
	}
	if cfg.Identity != nil {
		if err := a.setIdentity(*cfg.Identity, note); err != nil {
			return out, err
		}
	}
	a.mu.Lock()
	a.env = overlay(a.env, cfg.Env)
	a.secrets = overlay(a.secrets, cfg.Secrets)
	if len(cfg.Secret) > 0 {
		a.secret = slices.Clone(cfg.Secret)
	}
	a.mu.Unlock()
	if cfg.Network != nil {
		if cfg.Network.Interface != "" {
			note("network", configureNetwork(ctx, *cfg.Network))
		}
		if len(cfg.Network.DNS) > 0 {
			note("network.dns", a.setDNS(cfg.Network.DNS))
		}
	}
	if cfg.Reseed {
		var err error
		out.Reseeded, err = a.reseed(ctx)
		note("reseed", err)
	}
	if cfg.RunHooks {
		out.Hooks = a.runHooks(ctx)
	}
	if len(out.Skipped) == 0 {
		out.Skipped = nil
	}
	return out, nil
}

// overlay returns base with what over says; nothing when over is nil.
func overlay(base, over map[string]string) map[string]string {
	if over == nil {
		return base
	}
	out := maps.Clone(base)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, over)
	return out
}

// setIdentity makes the sandbox someone's.
func (a *Agent) setIdentity(id guest.Identity, note func(string, error)) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return faas.InvalidField("identity", "%v", err)
	}
	path := filepath.Join(a.cfg.Root, instanceFile)
	if err := a.replaceFile(path, append(b, '\n')); err != nil {
		return &faas.Error{Kind: faas.KindInternal, Detail: "write " + instanceFile, Err: errors.New(reason(err))}
	}
	if id.Hostname != "" {
		note("hostname", a.setHostname(id.Hostname))
	}
	if id.MachineID != "" {
		note("machine_id", a.writeInPlace(filepath.Join(a.cfg.Root, machineID), []byte(id.MachineID+"\n")))
	}
	a.mu.Lock()
	copied := a.identity.ID != "" && a.identity.ID != id.ID
	a.identity = id
	a.mu.Unlock()
	if copied {
		a.orphanDetached()
	}
	return nil
}

// replaceFile writes a small world-readable file in one step.
func (a *Agent) replaceFile(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, asidePrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // renamed when all went well
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeInPlace writes a file that may be a mount of its own.
func (a *Agent) writeInPlace(path string, content []byte) error {
	err := a.replaceFile(path, content)
	if err == nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func (a *Agent) setDNS(servers []string) error {
	var b []byte
	for _, s := range servers {
		b = append(b, "nameserver "+s+"\n"...)
	}
	return a.writeInPlace(filepath.Join(a.cfg.Root, resolvConf), b)
}

// runHooks runs every executable of the hooks' directory in order of names.
func (a *Agent) runHooks(ctx context.Context) []guest.HookResult {
	dir := filepath.Join(a.cfg.Root, hooksDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // none
	}
	ctx, cancel := context.WithTimeout(ctx, hooksTimeout)
	defer cancel()
	var out []guest.HookResult
	for _, name := range sortedNames(entries) {
		path := filepath.Join(dir, name)
		st, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (!st.Mode().IsRegular() || st.Mode()&0o111 == 0) {
			continue
		}
		out = append(out, a.runHook(ctx, path, filepath.Join(hooksDir, name)))
	}
	return out
}

func (a *Agent) runHook(ctx context.Context, path, shown string) guest.HookResult {
	c := &command{
		agent: a, id: faas.NewID(prefixCommand), stdin: wire.NewInbox(0),
		ready: make(chan struct{}), exited: make(chan struct{}),
	}
	c.args.Args = []string{path}
	result := guest.HookResult{Path: shown}
	p, err := a.spawner.start(c)
	if err != nil {
		result.Exit.Code, result.Output = 126, reason(err)
		return result
	}
	c.process = p
	var output limitedBuffer
	var copies sync.WaitGroup
	for _, f := range p.outputs {
		copies.Go(func() {
			io.Copy(&output, onlyReader{f}) //nolint:errcheck // its end, either way
			if f.linger.Load() > 0 {
				a.drain(f) // a daemon that the hook started goes on
			}
		})
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.timedOut = true
		c.mu.Unlock()
		c.abort()
	})
	result.Exit = p.wait()
	stop()
	c.mu.Lock()
	close(c.exited)
	result.Exit.TimedOut = c.timedOut
	c.mu.Unlock()
	p.exited(50 * time.Millisecond)
	copies.Wait()
	p.close()
	result.Output = output.String()
	return result
}

// limitedBuffer keeps the first bytes of what is written to it.
type limitedBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b = append(l.b, p[:min(len(p), hookOutput-len(l.b))]...)
	return len(p), nil
}

func (l *limitedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b)
}

// shutDown ends every process and then the agent. The answer goes out once
// the processes are gone.
func (a *Agent) shutDown(r *request) {
	a.killCommands()
	a.killOrphans()
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.shutdown:
	default:
		// Whoever waits for Done closes the agent, which would cut the answer
		// off: it is sent first.
		r.stream.Message(wire.FrameResult, wire.Answer{}) //nolint:errcheck // the host has gone then
		close(a.shutdown)
	}
}

// onClose runs f when the agent is closed, unless stop is called before.
func (a *Agent) onClose(f func()) (stop func()) {
	cancel := context.AfterFunc(a.ctx, f)
	return func() { cancel() }
}
