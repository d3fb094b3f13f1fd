package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest/launch"
)

// builtin starts sandboxes with nothing but the agent's executable.
type builtin struct{ spawner *spawner }

// maxStatus bounds what is read of a failed start, in bytes.
const maxStatus = 4096

func (builtin) name() string { return LauncherBuiltin }

func (builtin) remove(context.Context, string, string) error { return nil }

func (b builtin) start(ctx context.Context, p *plan) (*pidfd.Handle, error) {
	files := &inherited{}
	defer files.closeOwn()
	cfg, err := p.launchConfig(files)
	if err != nil {
		return nil, err
	}
	child, err := b.spawner.launch(p, files)
	if err != nil {
		return nil, err
	}
	defer child.close()
	files.closeOwn()
	if err := child.run(ctx, p, cfg); err != nil {
		return nil, errors.Join(err, child.abandon())
	}
	return child.handle, nil
}

// child is a process between its clone and its agent.
type child struct {
	pid    int
	handle *pidfd.Handle
	config *os.File // written
	status *os.File // read
}

func (c *child) close() {
	c.config.Close()
	c.status.Close()
}

// cloneFlags are those of the configuration's namespaces. That of the control
// groups is entered later, when the process is in its own.
var cloneFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.UserNamespace: unix.CLONE_NEWUSER, specs.MountNamespace: unix.CLONE_NEWNS,
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.IPCNamespace: unix.CLONE_NEWIPC, specs.UTSNamespace: unix.CLONE_NEWUTS,
}

// buildCapabilities are what building takes of a process whose ids are mapped
// only after it was executed, and which therefore is not root yet then.
var buildCapabilities = []uintptr{
	capChown, capDACOverride, capFowner, capFsetid, capKill, capSetgid, capSetuid, capSetpcap,
	capNetBindService, capNetAdmin, capSysChroot, capSysPtrace, capSysAdmin, capSysResource, capSetfcap,
}

// launch clones the agent's executable into new namespaces. It waits for its
// configuration then, and ends when this process does before sending one.
func (s *spawner) launch(p *plan, files *inherited) (*child, error) {
	agent, err := openPath(p.agent.Agent)
	if err != nil {
		return nil, fmt.Errorf("open the agent: %w", err)
	}
	executable := files.give(agent)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	configRead, configWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer configRead.Close()
	statusRead, statusWrite, err := os.Pipe()
	if err != nil {
		configWrite.Close()
		return nil, err
	}
	defer statusWrite.Close()
	c := &child{config: configWrite, status: statusRead}
	request := p.request()
	request.Path, request.Args = "/proc/self/fd/"+strconv.Itoa(executable), []string{"faas-agent", launch.Command}
	request.Env = []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0"}
	pid, fd, err := s.spawn(request, append([]*os.File{null, null, null, configRead, statusWrite}, files.files...))
	if err != nil {
		c.close()
		return nil, fmt.Errorf("clone into new namespaces: %w", err)
	}
	c.pid = pid
	id, err := pidfd.Identify(pid)
	if err != nil {
		c.close()
		return nil, errors.Join(err, unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0), unix.Close(fd))
	}
	if c.handle, err = pidfd.NewHandle(fd, id); err != nil {
		c.close()
		return nil, err // it ends with its configuration's pipe
	}
	return c, nil
}

// request says what the process is to be.
func (p *plan) request() *launch.SpawnRequest {
	r := &launch.SpawnRequest{}
	for _, ns := range p.config.Linux.Namespaces {
		r.Cloneflags |= cloneFlags[ns.Type]
	}
	if p.ids.programs {
		// newuidmap writes the map once the process is there. Until then it is
		// nobody, and execve would take its capabilities if they were not
		// ambient.
		r.AmbientCaps = buildCapabilities
		return r
	}
	r.Mapped, r.SetGroups = true, !p.ids.single()
	r.UIDs, r.GIDs = idRanges(p.ids.uids), idRanges(p.ids.gids)
	return r
}

func idRanges(ids []specs.LinuxIDMapping) []launch.IDRange {
	out := make([]launch.IDRange, 0, len(ids))
	for _, m := range ids {
		out = append(out, launch.IDRange{Inside: int(m.ContainerID), Outside: int(m.HostID), Size: int(m.Size)})
	}
	return out
}

// run brings the process to its agent.
func (c *child) run(ctx context.Context, p *plan, cfg *launch.Config) error {
	stop := context.AfterFunc(ctx, func() {
		past := time.Unix(1, 0)
		c.config.SetWriteDeadline(past) //nolint:errcheck // the calls below tell
		c.status.SetReadDeadline(past)  //nolint:errcheck
	})
	defer stop()
	err := p.placed(c.handle)
	if err == nil && p.ids.programs {
		err = writeMaps(ctx, c.pid, p.ids)
	}
	if err == nil {
		err = send(c.config, cfg)
	}
	if err == nil {
		err = p.confined(c.pid)
	}
	if err == nil {
		err = p.connected(ctx, c.pid)
	}
	if err == nil {
		_, err = c.config.Write([]byte{launch.Go})
	}
	if err == nil || errors.Is(err, syscall.EPIPE) {
		err = c.outcome(err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// outcome reads how the start went. A broken pipe before means that the
// process ended, and why is in the status.
func (c *child) outcome(before error) error {
	b, err := io.ReadAll(io.LimitReader(c.status, maxStatus))
	switch {
	case len(b) > 0:
		return errors.New(strings.ToValidUTF8(string(b), "?"))
	case err != nil:
		return fmt.Errorf("read the outcome of the start: %w", err)
	case before != nil:
		return fmt.Errorf("the process ended early: %w", before)
	}
	return nil
}

// abandon ends a process that did not become an agent.
func (c *child) abandon() error {
	return errors.Join(c.handle.Kill(), c.handle.Wait(), c.handle.Close())
}

// reap takes the exit status of a child of this process that has ended, or
// is about to.
func reap(p *os.Process) error {
	_, err := p.Wait()
	if errors.Is(err, syscall.ECHILD) {
		return nil
	}
	return err
}

func send(w io.Writer, cfg *launch.Config) error {
	b := cfg.Encode()
	if len(b) > launch.MaxConfig {
		return fmt.Errorf("the configuration takes %d bytes, %d at most", len(b), launch.MaxConfig)
	}
	var message bytes.Buffer
	message.WriteString(strconv.Itoa(len(b)) + "\n")
	message.Write(b)
	_, err := w.Write(message.Bytes())
	return err
}

// writeMaps has the setuid programs write the maps of a plain user's sandbox.
func writeMaps(ctx context.Context, pid int, ids idMap) error {
	for _, m := range []struct {
		program string
		ids     []specs.LinuxIDMapping
	}{{"newuidmap", ids.uids}, {"newgidmap", ids.gids}} {
		args := append([]string{strconv.Itoa(pid)}, arguments(m.ids)...)
		out, err := exec.CommandContext(ctx, m.program, args...).CombinedOutput() //nolint:gosec // the user's own tools
		if err != nil {
			return fmt.Errorf("%s: %w: %s", m.program, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// launchConfig translates the OCI configuration and hands over the host's
// directories: root's as descriptors of detached mounts, since the process is
// nobody on the host and could not walk to them; a plain user's by path.
func (p *plan) launchConfig(files *inherited) (*launch.Config, error) {
	cfg := &launch.Config{
		Hostname: p.config.Hostname, Sysctls: p.config.Linux.Sysctl,
		Capabilities: AgentCapabilities, Filter: p.filter,
		CgroupNamespace: slices.ContainsFunc(p.config.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
			return ns.Type == specs.CgroupNamespace
		}),
		Listen: socketPath, Env: p.config.Process.Env,
		Args:  append(slices.Clone(p.config.Process.Args), "--listen", "fd:"+strconv.Itoa(launch.ListenFD)),
		Files: []launch.File{{Path: secretPath, Content: p.secret, Mode: 0o400}},
	}
	for _, l := range p.lowerLayers() {
		d, err := hostDir(l, files)
		if err != nil {
			return nil, err
		}
		cfg.Root.Lower = append(cfg.Root.Lower, d)
	}
	if p.layer != nil {
		cfg.Root.Writable = p.layer.attach(files)
	}
	for _, m := range p.config.Mounts {
		made, err := launchMount(m, files)
		if err != nil {
			return nil, err
		}
		cfg.Mounts = append(cfg.Mounts, made)
	}
	for _, l := range p.config.Process.Rlimits {
		cfg.Limits = append(cfg.Limits, launch.Limit{Resource: rlimitNumbers[l.Type], Soft: l.Soft, Hard: l.Hard})
	}
	return cfg, nil
}

// lowerLayers lists the layers below the writable one, topmost first.
func (p *plan) lowerLayers() []string {
	return slices.Concat(p.above, []string{p.agent.Dir}, p.layers)
}

func launchMount(m specs.Mount, files *inherited) (launch.Mount, error) {
	flags, data := mountOptions(m.Options)
	out := launch.Mount{Target: m.Destination, Type: m.Type}
	if m.Type == "bind" {
		from, err := hostDir(m.Source, files)
		out.From, out.Flags = from, flags&^unix.MS_BIND
		return out, err
	}
	out.Flags = flags
	var rest []string
	for _, o := range data {
		lower, ok := strings.CutPrefix(o, "lowerdir=")
		if !ok {
			rest = append(rest, o)
			continue
		}
		for path := range strings.SplitSeq(lower, ":") {
			d, err := hostDir(path, files)
			if err != nil {
				return out, err
			}
			out.Lower = append(out.Lower, d)
		}
	}
	out.Data = strings.Join(rest, ",")
	return out, nil
}

// hostDir describes a directory or file of the host for the process.
func hostDir(path string, files *inherited) (launch.Dir, error) {
	if os.Geteuid() != 0 {
		return launch.Dir{Path: path}, nil
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return launch.Dir{}, fmt.Errorf("open the tree %s: %w", path, err)
	}
	return launch.Dir{FD: files.give(os.NewFile(uintptr(fd), path))}, nil
}

func openPath(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}
