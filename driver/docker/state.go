package docker

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// stateData is the driver's own part of a saved state.
type stateData struct {
	Token string `json:"token"` // of its record; see stateRecord
	// Image is the committed image that holds the files, Layer the fingerprint
	// of the layer that was written of it as well. Without an image the layers
	// hold all, without a fingerprint the image does.
	Image string `json:"image,omitempty"`
	Layer string `json:"layer,omitempty"`

	// What a state with memory needs besides.
	Base     string `json:"base,omitempty"`    // id of the image that the sandbox was made of
	Secret   []byte `json:"secret,omitempty"`  // of the agent's channel at the time
	Stopped  []int  `json:"stopped,omitempty"` // ids inside of processes that were stopped before
	ReadOnly bool   `json:"read_only,omitempty"`
}

// stateRecord is what the driver keeps below Dir/states of what it has made for
// one state: an image in the engine, or an agent that must stay. It is written
// before the thing exists and removed after it.
type stateRecord struct {
	Owner string `json:"owner"`           // token of the driver process that made it
	Image bool   `json:"image,omitempty"` // the engine has one, or may
	Agent string `json:"agent,omitempty"` // digest of the agent that the state maps
	// Layer is the topmost layer of an image that was assembled of layers: the
	// image is of no use without it. Empty for a saved state.
	Layer string `json:"layer,omitempty"`
}

func (d *Driver) statesDir() string             { return filepath.Join(d.opts.Dir, "states") }
func (d *Driver) statePath(token string) string { return filepath.Join(d.statesDir(), token+".json") }

// stateName is the name in the engine of what a record stands for.
func (d *Driver) stateName(token string) string { return "faas/state:" + d.installation + "-" + token }

func (d *Driver) writeState(token string, rec stateRecord) error {
	b, err := json.Marshal(rec)
	if err == nil {
		err = os.MkdirAll(d.statesDir(), 0o700)
	}
	if err == nil {
		err = writeFile(d.unfinished(), d.statePath(token), b)
	}
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "record docker snapshot", Detail: "state " + token, Err: err}
	}
	return nil
}

func (d *Driver) readState(token string) (stateRecord, error) {
	var rec stateRecord
	b, err := readSmall(d.statePath(token), maxRecordSize)
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	return rec, err
}

// states reads all records. One that cannot be read is left out and stays.
func (d *Driver) states() (map[string]stateRecord, error) {
	entries, err := os.ReadDir(d.statesDir())
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInternal, Op: "list docker snapshots", Err: err}
	}
	list := map[string]stateRecord{}
	for _, e := range entries {
		token, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !validName(token) {
			continue
		}
		rec, err := d.readState(token)
		if err != nil {
			if !isNotExist(err) {
				d.log.Warn("a snapshot's record cannot be read", "state", token, "error", err)
			}
			continue
		}
		list[token] = rec
	}
	return list, nil
}

// dropState removes what a record stands for, and then the record. What
// containers use stays with its record for a later call.
func (d *Driver) dropState(ctx context.Context, token string, rec stateRecord) error {
	if rec.Image {
		err := d.engine.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
			_, err := api.ImageRemove(ctx, d.stateName(token), client.ImageRemoveOptions{PruneChildren: true})
			return err
		})
		if errors.Is(err, faas.ErrConflict) {
			return nil
		}
		if err != nil && !errors.Is(err, faas.ErrNotFound) {
			return err
		}
	}
	if err := os.Remove(d.statePath(token)); err != nil && !isNotExist(err) {
		return &faas.Error{Kind: faas.KindInternal, Op: "forget docker snapshot", Detail: "state " + token, Err: err}
	}
	return nil
}

var _ driver.Forgetter = (*Driver)(nil)

// Forget implements driver.Forgetter.
func (d *Driver) Forget(ctx context.Context, data json.RawMessage) error {
	const op = "forget docker snapshot"
	var errs []error
	if state, err := parseState(data); err == nil && validName(state.Token) {
		rec, err := d.readState(state.Token)
		switch {
		case err == nil:
			// Should a sandbox use it still, nobody is named as its owner.
			rec.Owner = ""
			errs = append(errs, d.writeState(state.Token, rec), d.dropState(ctx, state.Token, rec))
		case !isNotExist(err):
			errs = append(errs, err)
		}
	}
	errs = append(errs, d.sweepStates(ctx))
	if err := errors.Join(errs...); err != nil {
		return opError(op, "", err)
	}
	return nil
}

// ForgetOthers implements driver.Forgetter.
func (d *Driver) ForgetOthers(ctx context.Context, named []json.RawMessage) error {
	const op = "forget docker snapshots"
	var keep []string
	for _, data := range named {
		if state, err := parseState(data); err == nil {
			keep = append(keep, state.Token)
		}
	}
	states, err := d.states()
	if err != nil {
		return opError(op, "", err)
	}
	errs := []error{d.sweepStates(ctx)}
	for token, rec := range states {
		if rec.Layer != "" || slices.Contains(keep, token) || rec.Owner != "" && d.owner.alive(rec.Owner) {
			continue
		}
		errs = append(errs, d.dropState(ctx, token, rec))
	}
	if err := errors.Join(errs...); err != nil {
		return opError(op, "", err)
	}
	return nil
}

// sweepStates removes assembled images whose layers are gone, and saved states
// that Forget was told of while sandboxes used them.
func (d *Driver) sweepStates(ctx context.Context) error {
	states, err := d.states()
	if err != nil {
		return err
	}
	var errs []error
	for token, rec := range states {
		if rec.Layer != "" {
			if _, err := os.Lstat(rec.Layer); !isNotExist(err) {
				continue
			}
		} else if rec.Owner != "" {
			continue
		}
		errs = append(errs, d.dropState(ctx, token, rec))
	}
	return errors.Join(errs...)
}

// mappedAgents are the digests of the agents that saved states have mapped.
func (d *Driver) mappedAgents() ([]string, error) {
	states, err := d.states()
	var list []string
	for _, rec := range states {
		if rec.Agent != "" {
			list = append(list, rec.Agent)
		}
	}
	return list, err
}

// parseState reads the driver's part of a state. That of a state which others
// made of its layers alone is empty.
func parseState(data json.RawMessage) (stateData, error) {
	var state stateData
	if len(data) == 0 || string(data) == "null" {
		return state, nil
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return state, faas.Errorf(faas.KindFailedPrecondition, "the snapshot was not made by this runtime: %w", err)
	}
	return state, nil
}

var _ driver.Elsewhere = (*Driver)(nil)

// InLayers implements driver.Elsewhere.
func (*Driver) InLayers(data json.RawMessage) error {
	state, err := parseState(data)
	if err == nil && state.Image != "" && state.Layer == "" {
		return faas.Unavailable("its files are in the engine only, since this process could not write them as a layer when it was taken",
			"run the gateway as root, and take the snapshot again")
	}
	return err
}

// stateTimeout bounds what moves whole states to and from the engine.
const stateTimeout = 5 * time.Minute
