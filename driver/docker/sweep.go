package docker

import (
	"context"
	"errors"
	"slices"
	"sort"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/binary"
)

const opSweep = "sweep docker sandboxes"

// Sweep implements driver.Driver. What a living process owns it leaves alone,
// this one's included.
func (d *Driver) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	found, err := d.ours(ctx)
	if err != nil {
		return nil, opError(opSweep, "", err)
	}
	left, carriers, err := d.leftovers(found)
	if err != nil {
		return nil, opError(opSweep, "", err)
	}
	var removed []string
	var errs []error
	for id, rec := range left {
		if keep(id) {
			continue
		}
		err := d.awaitCreation(ctx, id, &rec)
		if err == nil {
			err = d.removeSandbox(ctx, id, rec)
		}
		if err != nil {
			errs = append(errs, opError(opSweep, "sandbox "+id, err))
			continue
		}
		removed = append(removed, id)
	}
	for _, id := range carriers {
		if err := d.engine.remove(ctx, id); err != nil && !removalUnderWay(err) {
			errs = append(errs, opError(opSweep, "container "+id, err))
		}
	}
	errs = append(errs, d.sweepNetworks(ctx), d.sweepStates(ctx), d.sweepStale(ctx), d.sweepUnfinished())
	d.owner.forgetDead()
	sort.Strings(removed)
	return removed, errors.Join(errs...)
}

// creationLag is how long an engine gets to take up a request whose caller has
// died.
const creationLag = time.Second

// awaitCreation gives an engine that was making the sandbox's container when
// its caller died the time to finish: as long as it needs once it has taken up
// the request, which shows in the container's name being taken. A request that
// it takes up later still, the next Sweep finds by its label.
func (d *Driver) awaitCreation(ctx context.Context, id string, rec *record) error {
	if rec.Container != "" || time.Since(rec.CreatedAt) > changeTimeout {
		return nil
	}
	if err := d.findCreated(ctx, id, rec, creationLag); err != nil || rec.Container != "" {
		return err
	}
	underWay, err := d.takeName(ctx, id, rec)
	if err != nil || !underWay {
		return err
	}
	return d.findCreated(ctx, id, rec, changeTimeout)
}

// takeName makes a container of the sandbox's name, for the sweep to remove,
// or finds that the name is taken by one that is being made.
func (d *Driver) takeName(ctx context.Context, id string, rec *record) (underWay bool, err error) {
	img, err := d.imageFor(ctx, rec.Spec.Image)
	if err != nil {
		return false, nil //nolint:nilerr // without its image no container can be made
	}
	cfg := &container.Config{Image: img.id, Entrypoint: []string{agentPath}, Labels: d.labels(roleSandbox, id, rec.Spec.Project)}
	err = d.engine.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerCreate(ctx, client.ContainerCreateOptions{
			Config: cfg, HostConfig: &container.HostConfig{NetworkMode: "none"}, Name: d.containerName(id)})
		rec.Container = res.ID
		return err
	})
	if errors.Is(err, faas.ErrConflict) {
		return true, nil
	}
	return false, err
}

// findCreated waits until the sandbox's container shows, at most for the time
// given; none is no error.
func (d *Driver) findCreated(ctx context.Context, id string, rec *record, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := d.engine.inspect(ctx, d.containerName(id))
		switch {
		case err == nil:
			rec.Container = info.ID
			return nil
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, faas.ErrNotFound):
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// ours lists the containers of this installation.
func (d *Driver) ours(ctx context.Context) ([]container.Summary, error) {
	var res client.ContainerListResult
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: d.ourFilter()})
		return err
	})
	return res.Items, err
}

// ourFilter selects what carries this installation's label.
func (d *Driver) ourFilter() client.Filters {
	return make(client.Filters).Add("label", LabelInstallation+"="+d.installation)
}

// leftovers picks what no living process owns: sandboxes, by their record or
// their container, and containers of probes. A record exists from before the
// container until after it, and names the process that answers for the sandbox
// now; a container without one, in a list made before, is a leftover of a
// creation that outlived its caller.
func (d *Driver) leftovers(found []container.Summary) (map[string]record, []string, error) {
	sandboxes := map[string]record{}
	labelled := map[string]string{}
	var carriers []string
	for _, c := range found {
		owner, id := c.Labels[LabelOwner], c.Labels[LabelSandbox]
		switch {
		case c.Labels[LabelRole] == roleSandbox && validName(id):
			sandboxes[id], labelled[id] = record{Container: c.ID}, owner
		case c.Labels[LabelRole] == roleProbe && !d.owner.alive(owner):
			carriers = append(carriers, c.ID)
		}
	}
	ids, err := d.recorded()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		rec, err := d.readRecord(id)
		if isNotExist(err) {
			continue
		}
		if err != nil {
			d.log.Warn("a sandbox's record cannot be read", "sandbox", id, "error", err)
			rec = record{Owner: labelled[id]}
		}
		if rec.Container == "" {
			rec.Container = sandboxes[id].Container
		}
		sandboxes[id] = rec
	}
	for id, rec := range sandboxes {
		if rec.Owner != "" && d.owner.alive(rec.Owner) {
			delete(sandboxes, id)
		}
	}
	return sandboxes, carriers, nil
}

// Purge removes everything of this installation from the engine, running
// sandboxes, the agent's volumes and our images included, and the records: for
// uninstalling. Nothing of another installation or of the user's is touched.
func (d *Driver) Purge(ctx context.Context) error {
	const op = "purge docker installation"
	found, err := d.ours(ctx)
	if err != nil {
		return opError(op, "", err)
	}
	var errs []error
	for _, c := range found {
		errs = append(errs, d.engine.remove(ctx, c.ID))
	}
	ids, err := d.recorded()
	errs = append(errs, err)
	for _, id := range ids {
		rec, err := d.readRecord(id)
		if err == nil {
			err = d.disconnectNetwork(ctx, rec)
		}
		errs = append(errs, err, d.removeRecord(id))
	}
	conn, err := d.engine.connect(ctx, false)
	if err != nil {
		return errors.Join(append(errs, opError(op, "", err))...)
	}
	d.forgetAgent(ctx)
	errs = append(errs, d.purgeStates(ctx), d.removeVolumes(ctx, conn), d.removeImages(ctx, conn, d.ourFilter()))
	return errors.Join(errs...)
}

// purgeStates removes every saved state. An image goes after those that were
// made of it, so one round may not be enough.
func (d *Driver) purgeStates(ctx context.Context) error {
	for before := -1; ; {
		states, err := d.states()
		if err != nil || len(states) == 0 || len(states) == before {
			return err
		}
		before = len(states)
		var errs []error
		for token, rec := range states {
			errs = append(errs, d.dropState(ctx, token, rec))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
}

// sweepStale removes agents' volumes and skeletons of earlier builds that no
// container uses and no saved state has mapped any more.
func (d *Driver) sweepStale(ctx context.Context) error {
	conn, err := d.engine.connect(ctx, false)
	if err != nil {
		return err
	}
	var errs []error
	if agent, err := binary.Bytes(conn.version.Arch); err == nil { // else this build cannot say which is current
		mapped, err := d.mappedAgents()
		if errs = append(errs, err); err == nil {
			errs = append(errs, d.removeVolumes(ctx, conn, append(mapped, binary.Digest(agent))...))
		}
	}
	// An image whose name a newer one took is dangling.
	errs = append(errs, d.removeImages(ctx, conn, d.ourFilter().Add("dangling", "true")))
	return errors.Join(errs...)
}

// removeVolumes removes our volumes but those of the digests to keep, and
// those that containers use.
func (d *Driver) removeVolumes(ctx context.Context, conn *connection, keep ...string) error {
	var res client.VolumeListResult
	err := conn.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.VolumeList(ctx, client.VolumeListOptions{Filters: d.ourFilter()})
		return err
	})
	if err != nil {
		return opError(opSweep, "list volumes", err)
	}
	var errs []error
	for _, v := range res.Items {
		if v.Labels[LabelInstallation] != d.installation || slices.Contains(keep, v.Labels[LabelDigest]) {
			continue
		}
		err := conn.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
			_, err := api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{})
			return err
		})
		errs = append(errs, unlessUsed(err))
	}
	return errors.Join(errs...)
}

// removeImages removes those of our images that the filter selects and no
// container uses.
func (d *Driver) removeImages(ctx context.Context, conn *connection, filter client.Filters) error {
	var res client.ImageListResult
	err := conn.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ImageList(ctx, client.ImageListOptions{Filters: filter})
		return err
	})
	if err != nil {
		return opError(opSweep, "list images", err)
	}
	var errs []error
	for _, img := range res.Items {
		if img.Labels[LabelInstallation] != d.installation {
			continue
		}
		err := conn.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
			_, err := api.ImageRemove(ctx, img.ID, client.ImageRemoveOptions{})
			return err
		})
		errs = append(errs, unlessUsed(err))
	}
	return errors.Join(errs...)
}

// unlessUsed drops the refusal to remove what is in use, or went by itself.
func unlessUsed(err error) error {
	if errors.Is(err, faas.ErrConflict) || errors.Is(err, faas.ErrNotFound) {
		return nil
	}
	return err
}
