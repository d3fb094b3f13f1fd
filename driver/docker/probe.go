package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// probeTimeout bounds a whole probe: connecting, and one sandbox made, tried,
// saved, restored and removed.
const probeTimeout = 30 * time.Second

// Probe implements driver.Driver: it makes a sandbox of the agent alone, looks
// at it from inside and removes it. In the engine it leaves the volume with
// the agent and the images that sandboxes are made of, labelled, for the next.
func (d *Driver) Probe(ctx context.Context) faas.Capabilities {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	caps := faas.Capabilities{Runtime: faas.RuntimeDocker, ProbedAt: began.UTC()}
	answers, err := d.probe(ctx, &caps)
	if err != nil {
		caps.Available = false
		caps.Reason, caps.Remedy = reasonOf(err)
		answers = nil
	}
	for _, f := range faas.Features() {
		c, ok := answers[f]
		if !ok {
			c = faas.Capability{Reason: caps.Reason, Remedy: caps.Remedy}
		}
		c.Feature = f
		caps.Features = append(caps.Features, c)
	}
	caps.ProbeMS = float64(time.Since(began).Microseconds()) / 1000
	return caps
}

// answers holds what a probe found, by feature.
type answers map[faas.Feature]faas.Capability

func (a answers) yes(f faas.Feature, format string, args ...any) {
	a[f] = faas.Capability{Available: true, Detail: fmt.Sprintf(format, args...)}
}

func (a answers) no(f faas.Feature, reason, remedy string) {
	a[f] = faas.Capability{Reason: reason, Remedy: remedy}
}

// reasonOf splits an error into why and what to do.
func reasonOf(err error) (reason, remedy string) {
	var e *faas.Error
	known := errors.As(err, &e)
	if kind := faas.KindOf(err); kind == faas.KindDeadlineExceeded || !known && errors.Is(err, context.Canceled) {
		return "the docker engine did not make and remove a sandbox in time", "see whether `docker run --rm` works and how long it takes"
	}
	if !known {
		return err.Error(), ""
	}
	c := *e
	c.Remedy = ""
	return c.Error(), deepRemedy(err)
}

// deepRemedy is the first remedy along a chain of errors.
func deepRemedy(err error) string {
	for err != nil {
		var e *faas.Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Remedy != "" {
			return e.Remedy
		}
		err = e.Err
	}
	return ""
}

// probe fills what is known of the engine and returns what a sandbox showed.
func (d *Driver) probe(ctx context.Context, caps *faas.Capabilities) (answers, error) {
	conn, err := d.engine.connect(ctx, true)
	if err != nil {
		return nil, err
	}
	caps.Version = conn.version.Version
	var info system.Info
	err = conn.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.Info(ctx, client.InfoOptions{})
		info = res.Info
		return err
	})
	if err != nil {
		return nil, err
	}
	shared, err := d.sharedWith(ctx)
	if err != nil {
		return nil, err
	}
	a := answers{}
	route, err := d.trySandbox(ctx, a, info, shared)
	if err != nil {
		return nil, err
	}
	d.judgeImages(ctx, a, shared)
	caps.Available = true
	caps.Detail = fmt.Sprintf("Docker Engine %s at %s (from %s), API %s, %s/%s, storage %s; %s",
		conn.version.Version, conn.ep.host, conn.ep.source, conn.api.ClientVersion(), info.OSType, info.Architecture, info.Driver, route)
	return a, nil
}

// trySandbox makes a sandbox of the base image and tries out what it offers.
func (d *Driver) trySandbox(ctx context.Context, a answers, info system.Info, shared sharing) (route string, err error) {
	base, err := d.ensureBase(ctx)
	if err != nil {
		return "", err
	}
	spec := faas.Spec{
		ID: "probe-" + randomHex(8), Project: faas.DefaultProject, Image: base,
		Resources: faas.Resources{CPUCores: 0.5, MemoryMB: 64, PIDs: 64, DiskMB: 32},
	}
	made, err := d.Create(ctx, spec)
	if err != nil {
		return "", err
	}
	s := made.(*sandbox) //nolint:forcetypeassert // Create makes no other
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		err = errors.Join(err, s.Destroy(undo))
	}()
	in := &inspection{s: s, client: s.insideClient(), a: a, spec: spec}
	in.execution(ctx)
	in.isolation(ctx, info)
	in.limits(ctx, info, shared)
	in.lifecycle(ctx)
	in.networks(ctx)
	in.snapshots(ctx, shared)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if s.Channel().Multiplex {
		return "the agent is reached through the engine, all streams over one connection", nil
	}
	return "the agent is reached on this machine, past the engine", nil
}

// judgeImages answers for the kinds of images.
func (d *Driver) judgeImages(ctx context.Context, a answers, shared sharing) {
	a.yes(faas.FeatureOCIImage, "from the engine's own store; missing ones are pulled")
	if !shared.files {
		a.no(faas.FeatureHostImage, shared.filesReason, hostImageRemedy)
		return
	}
	if _, err := d.resolveHost(ctx); err != nil {
		reason, remedy := reasonOf(err)
		a.no(faas.FeatureHostImage, reason, remedy)
		return
	}
	a.yes(faas.FeatureHostImage, "this machine's /usr bound read-only over a small image")
}

// hasSecurity says whether the engine names a security option.
func hasSecurity(info system.Info, name string) bool {
	return slices.ContainsFunc(info.SecurityOptions, func(opt string) bool {
		return strings.HasPrefix(opt, "name="+name)
	})
}
