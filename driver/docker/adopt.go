package docker

import (
	"context"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// Adopt implements driver.Pooled. Limits of cpu, memory and processes can
// change; the project and the labels are the record's from now on (those of
// the container stay what they were, which the engine does not let change).
func (d *Driver) Adopt(ctx context.Context, made driver.Sandbox, spec faas.Spec) error {
	const op = "adopt docker sandbox"
	s, ok := made.(*sandbox)
	if !ok || s.d != d {
		return &faas.Error{Kind: faas.KindInvalidArgument, Op: op, Detail: "the sandbox is not one of this driver"}
	}
	spec.ID = s.id
	if err := checkSpec(spec); err != nil {
		return err
	}
	have := s.snapshotRecord()
	if what := fixedDifference(have, spec); what != "" {
		return &faas.Error{Kind: faas.KindFailedPrecondition, Op: op, Detail: "sandbox " + s.id + " was made with another " + what}
	}
	if !sameLimits(have.Spec.Resources, spec.Resources) {
		res := limits(spec.Resources)
		err := d.engine.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
			_, err := api.ContainerUpdate(ctx, s.container(), client.ContainerUpdateOptions{Resources: &res})
			return err
		})
		if err != nil {
			return opError(op, "sandbox "+s.id, limitError(err))
		}
	}
	return s.update(func(rec *record) { rec.Spec = spec })
}

// fixedDifference names what of a spec a sandbox cannot take on any more.
func fixedDifference(have record, want faas.Spec) string {
	switch {
	case have.Spec.Image != want.Image:
		return "image"
	case have.Spec.ReadOnly != want.ReadOnly:
		return "kind of root file system"
	case have.Spec.Network.Mode != want.Network.Mode || len(have.Spec.Network.Allow)+len(want.Network.Allow) > 0:
		return "network"
	case have.DiskLimit && have.Spec.Resources.DiskMB != want.Resources.DiskMB:
		return "disk limit"
	}
	return ""
}

// sameLimits says whether the engine would limit both alike.
func sameLimits(a, b faas.Resources) bool {
	x, y := limits(a), limits(b)
	return x.NanoCPUs == y.NanoCPUs && x.Memory == y.Memory && a.PIDs == b.PIDs
}
