package docker

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// checkpointName is what the engine calls the checkpoint in the memory part of
// a state.
const checkpointName = "faas"

const criuRemedy = "save its files only, or let the engine's CRIU save more: /etc/criu/runc.conf on its machine, with the lines " +
	"tcp-close, file-locks, link-remap and ghost-limit 1G; see docs/platforms.md"

// canCheckpoint says why memory cannot be saved and restored with this engine,
// as far as it shows without trying.
func (d *Driver) canCheckpoint(direct bool, shared sharing) error {
	switch {
	case !shared.checkpoints:
		return faas.Unavailable(checkpointsOff, checkpointsRemedy)
	case !direct || !shared.files:
		return faas.Unavailable(memoryElsewhere, besideRemedy)
	case !shared.cgroupns:
		return faas.Unavailable("without control group namespaces a restored container would see the control groups of the whole machine",
			"use Linux 4.6 and an engine 20.10, or newer")
	}
	return canRestoreMemory(shared.dataRoot)
}

// checkpoint has the engine save memory and processes of the container, which
// is paused and stays so.
func (s *sandbox) checkpoint(ctx context.Context, memory string) error {
	err := s.d.engine.call(ctx, checkpointTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.CheckpointCreate(ctx, s.container(), client.CheckpointCreateOptions{
			CheckpointID: checkpointName, CheckpointDir: memory,
		})
		return err
	})
	return explainCRIU(err)
}

// criuLogPath finds where CRIU's log is in what the engine says.
var criuLogPath = regexp.MustCompile(`(?:log file: |path= ?)(/[^\s:]+)`)

// explainCRIU adds to an engine's error what CRIU says in its log, where this
// process can read it.
func explainCRIU(err error) error {
	var e *faas.Error
	if !errors.As(err, &e) || e.Kind == faas.KindUnavailable || e.Kind == faas.KindNotFound {
		return err
	}
	c := *e
	if m := criuLogPath.FindStringSubmatch(c.Detail); m == nil {
		return err
	} else if said := criuLog(m[1]); said != "" {
		c.Detail = fmt.Sprintf("the engine's CRIU says %q", said)
		c.Err = err
	}
	if c.Remedy == "" {
		c.Remedy = criuRemedy
	}
	return &c
}
