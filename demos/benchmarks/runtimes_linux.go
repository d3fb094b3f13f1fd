package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/docker"
	"github.com/faas-platform/faas/driver/oci"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/image"
)

const runtimeRounds = 12

// steps are the parts of a sandbox's life that are clocked one by one.
type steps struct{ create, exec, destroy []time.Duration }

// everyRuntime takes what each runtime of this machine needs to create a
// sandbox, run a command in it and destroy it, beside the bare technology.
func everyRuntime(ctx context.Context, b *bench) (figures []Figure, err error) {
	opened, notes, err := b.openRuntimes(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, o := range opened {
			err = errors.Join(err, o.driver.Close())
		}
	}()
	peers, missing, closePeers, err := b.peers(ctx, filepath.Join(b.dir, "runtimes-peers"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closePeers()) }()
	notes = append(notes, missing...)
	if _, err := exec.LookPath("runsc"); err == nil {
		peer, err := b.runscRun()
		if err != nil {
			return nil, err
		}
		peers = append(peers, peer)
	} else {
		notes = append(notes, "no runsc on this machine")
	}
	parts := map[faas.Runtime]*steps{}
	contenders := peers
	for i := range contenders {
		contenders[i].everyRounds = 1
	}
	for _, o := range opened {
		parts[o.driver.Name()] = &steps{}
		contenders = append(contenders, contender{name: string(o.driver.Name()), once: func(ctx context.Context) (time.Duration, error) {
			return o.life(ctx, parts[o.driver.Name()])
		}})
	}
	all, err := interleave(ctx, runtimeRounds, 45*time.Second, contenders)
	if err != nil {
		return nil, err
	}
	for _, o := range opened {
		// The first is the uncounted one.
		p := parts[o.driver.Name()]
		p.create, p.exec, p.destroy = p.create[1:], p.exec[1:], p.destroy[1:]
		figures = append(figures, runtimeFigures(o.driver.Name(), p, all)...)
	}
	if len(figures) > 0 {
		figures[0].Notes = notes
	}
	return figures, nil
}

// openedRuntime is a driver and what it calls the common root file system.
type openedRuntime struct {
	driver driver.Driver
	image  string
	noDisk bool // it cannot limit the writable layer here
}

// openRuntimes opens the drivers that are available here, and says why others
// are not.
func (b *bench) openRuntimes(ctx context.Context) (opened []openedRuntime, notes []string, err error) {
	dir := filepath.Join(b.dir, "rt") // short: paths of sockets are below it
	shift, err := oci.IDShift()
	if err != nil {
		return nil, nil, err
	}
	store, err := image.Open(filepath.Join(dir, "images"), image.Options{UIDShift: shift, GIDShift: shift})
	if err != nil {
		return nil, nil, err
	}
	if _, err := store.ImportPath(ctx, b.rootfsTar, imageName); err != nil {
		return nil, nil, err
	}
	native, err := oci.NewNative(oci.Options{Dir: filepath.Join(dir, "n"), Images: store})
	if err != nil {
		return nil, nil, err
	}
	gvisor, errGVisor := oci.NewGVisor(oci.GVisorOptions{Dir: filepath.Join(dir, "g"), Images: store})
	engine, errDocker := docker.New(docker.Options{Dir: filepath.Join(dir, "d")})
	if err := errors.Join(errGVisor, errDocker); err != nil {
		return nil, nil, errors.Join(err, native.Close())
	}
	for _, o := range []openedRuntime{{driver: native, image: imageName}, {driver: gvisor, image: imageName}, {driver: engine, image: dockerImage}} {
		c := o.driver.Probe(ctx)
		if !c.Available {
			notes = append(notes, fmt.Sprintf("%s: %s", o.driver.Name(), c.Reason))
			err = errors.Join(err, o.driver.Close())
			continue
		}
		o.noDisk = !c.Has(faas.FeatureLimitDisk)
		opened = append(opened, o)
	}
	return opened, notes, err
}

// life clocks one sandbox from its creation to its end, and its parts.
func (o openedRuntime) life(ctx context.Context, into *steps) (time.Duration, error) {
	wanted := spec()
	wanted.Image = o.image
	if o.noDisk {
		wanted.Resources.DiskMB = 0
	}
	start := time.Now()
	made, err := o.driver.Create(ctx, wanted)
	if err != nil {
		return 0, err
	}
	created := time.Now()
	channel := made.Channel()
	client := guest.NewClient(made.Dial, guest.Options{Secret: channel.Secret, Multiplex: channel.Multiplex})
	exit, err := client.Run(ctx, guest.Command{Args: []string{"true"}}, nil, io.Discard, io.Discard)
	executed := time.Now()
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("true ended with %d", exit.Code)
	}
	err = errors.Join(err, client.Close(), made.Destroy(ctx))
	end := time.Now()
	into.create = append(into.create, created.Sub(start))
	into.exec = append(into.exec, executed.Sub(created))
	into.destroy = append(into.destroy, end.Sub(executed))
	return end.Sub(start), err
}

// runtimeFigures are four rows: the whole with its peers, and its parts.
func runtimeFigures(runtime faas.Runtime, parts *steps, all map[string]Distribution) []Figure {
	row := func(part, clock string, d Distribution) Figure {
		return Figure{
			ID: string(runtime) + "." + part, Name: fmt.Sprintf("%s: %s, cold", runtime, part), Unit: "ms", Better: LowerIsBetter,
			Value: d.P50, P50: d.P50, P99: d.P99, Runs: d.Runs, Concurrency: 1, State: "cold", Clock: clock,
		}
	}
	whole := row("whole", "from before Create to the return of Destroy, with `true` run between; peers: from before the program is started to its end", all[string(runtime)])
	whole.withPeers(all, string(runtime))
	return []Figure{
		whole,
		row("create", "the call of Create, which returns when the agent has answered", summarise(parts.create)),
		row("exec", "`true` through the guest client, the first command of the sandbox", summarise(parts.exec)),
		row("destroy", "the call of Destroy", summarise(parts.destroy)),
	}
}

// runscRun is `runsc run` with the options that the gvisor driver gives it.
func (b *bench) runscRun() (contender, error) {
	dir, err := bundle(filepath.Join(b.dir, "runsc-bundle"), &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Env: []string{"PATH=/bin"}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}},
		Root:    &specs.Root{Path: b.rootfs},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
		}},
	})
	if err != nil {
		return contender{}, err
	}
	count := 0
	return contender{name: "runsc run", once: timed(func(ctx context.Context) error {
		count++
		return runProgram(ctx, []string{
			"runsc", "--root", filepath.Join(b.dir, "runsc"), "--platform", "systrap", "--network", "none", "--ignore-cgroups",
			"--overlay2", "root:memory", "run", "--bundle", dir, fmt.Sprintf("bench-%d", count),
		})
	})}, nil
}
