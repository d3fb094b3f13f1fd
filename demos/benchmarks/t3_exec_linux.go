package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	execRounds   = 60
	execPerRound = 10
	// execAboveSpawn is what T3 allows on top of the spawn of the program, in ms.
	execAboveSpawn = 2
)

// execResident takes T3: commands in an instance that runs.
func execResident(ctx context.Context, b *bench) ([]Figure, error) {
	d, err := b.gateway(ctx, "t3", 0)
	if err != nil {
		return nil, err
	}
	figures, err := measureExec(ctx, b, d)
	return figures, errors.Join(err, d.stop())
}

func measureExec(ctx context.Context, b *bench, d *daemon) (figures []Figure, err error) {
	var made struct {
		ID string `json:"id"`
	}
	err = d.ask(ctx, http.MethodPost, "/api/v1/instances", map[string]any{"runtime": faas.RuntimeNative}, &made)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, d.ask(context.WithoutCancel(ctx), http.MethodDelete, "/api/v1/instances/"+made.ID, nil, nil))
	}()
	body, err := json.Marshal(map[string]any{"command": []string{"true"}})
	if err != nil {
		return nil, err
	}
	path := "/api/v1/instances/" + made.ID + "/exec"
	ours := contender{name: "faas", perRound: execPerRound, once: timed(func(ctx context.Context) error {
		var answer api.ExecuteResponse
		if err := d.call(ctx, http.MethodPost, path, body, &answer); err != nil {
			return err
		}
		if answer.ExitCode != 0 {
			return fmt.Errorf("exit code %d", answer.ExitCode)
		}
		return nil
	})}
	const spawn = "spawn of /bin/true"
	all, err := interleave(ctx, execRounds, 30*time.Second, []contender{
		ours, {name: spawn, perRound: execPerRound, once: command(spawn, filepath.Join(b.rootfs, "bin/busybox"), "true").once},
	})
	if err != nil {
		return nil, err
	}
	f := Figure{
		ID: "T3", Name: "exec of `true` in a running instance over HTTP", Unit: "ms", Better: LowerIsBetter,
		Value: all["faas"].P50, P50: all["faas"].P50, P99: all["faas"].P99, Runs: all["faas"].Runs,
		Target: target(all[spawn].P50 + execAboveSpawn), Concurrency: 1, State: "warm",
		Clock: "from before the request is written to after the whole answer is read, keep-alive connection, by the client; spawn: from before the program is started to its end; the target is spawn, in this run, and 2 ms",
	}
	f.withPeers(all, "faas")
	return []Figure{f}, nil
}

// ask is call with a body to encode, for any success.
func (d *daemon) ask(ctx context.Context, method, path string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return d.call(ctx, method, path, encoded, into)
}
