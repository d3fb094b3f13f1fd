package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

const (
	// pullSilence is how long a pull may go without a sign of progress.
	pullSilence = 3 * time.Minute
	// credentialTimeout bounds the credential helpers of the docker
	// configuration, which are programs.
	credentialTimeout = 15 * time.Second
	// maxProgress bounds the message about one layer, in bytes of its name.
	maxProgress = 200
)

// ResolveImage implements driver.Driver: the image comes from the engine's own
// store, pulled into it when it is missing. Image.Digest is the id under which
// that store knows the content.
func (d *Driver) ResolveImage(ctx context.Context, ref string, progress driver.ImageProgress) (driver.Image, error) {
	const op = "resolve docker image"
	if ref == faas.HostImage {
		return d.resolveHost(ctx)
	}
	if err := checkReference(ref); err != nil {
		return driver.Image{}, err
	}
	img, err := d.inspectImage(ctx, ref)
	if errors.Is(err, faas.ErrNotFound) {
		if err = d.pull(ctx, ref, progress); err == nil {
			img, err = d.inspectImage(ctx, ref)
		}
	}
	if err != nil {
		return driver.Image{}, opError(op, ref, err)
	}
	return img, nil
}

// checkReference refuses what is no reference before an engine sees it. An id
// of the store (sha256:…) is one too.
func checkReference(ref string) error {
	if _, err := reference.ParseAnyReference(ref); err != nil || len(ref) > 512 {
		return faas.InvalidField("image", "%.100q is no image reference", ref)
	}
	return nil
}

// inspectImage describes an image of the engine's store.
func (d *Driver) inspectImage(ctx context.Context, ref string) (driver.Image, error) {
	var res client.ImageInspectResult
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ImageInspect(ctx, ref)
		return err
	})
	if err != nil {
		return driver.Image{}, err
	}
	if res.Os != "" && res.Os != "linux" {
		return driver.Image{}, faas.InvalidField("image", "%s is an image for %s; sandboxes run Linux", ref, res.Os)
	}
	img := driver.Image{Ref: ref, Digest: res.ID}
	if c := res.Config; c != nil {
		img.Labels = c.Labels
		img.Config = driver.ImageConfig{
			Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		}
	}
	return img, nil
}

// pull fetches an image into the engine's store. It ends when ctx does, or
// when the engine reports nothing for pullSilence.
func (d *Driver) pull(ctx context.Context, ref string, progress driver.ImageProgress) error {
	auth, err := registryAuth(ctx, ref)
	if err != nil {
		return err
	}
	conn, err := d.engine.connect(ctx, false)
	if err != nil {
		return err
	}
	alive, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := time.AfterFunc(pullSilence, func() { stop(errPullSilent) })
	defer silence.Stop()
	explain := func(err error) error {
		if errors.Is(context.Cause(alive), errPullSilent) && ctx.Err() == nil {
			return errPullSilent
		}
		return pullError(ref, conn.explain(ctx, pullSilence, err))
	}
	stream, err := conn.api.ImagePull(alive, ref, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return explain(err)
	}
	defer stream.Close()
	for msg, err := range stream.JSONMessages(alive) {
		if err != nil {
			return explain(err)
		}
		if msg.Error != nil {
			return pullError(ref, &faas.Error{Kind: faas.KindUnavailable, Detail: "docker engine: " + msg.Error.Message})
		}
		silence.Reset(pullSilence)
		report(progress, msg)
	}
	if alive.Err() != nil {
		return explain(alive.Err())
	}
	return nil
}

// errPullSilent is the end of a pull that no longer moves.
var errPullSilent = &faas.Error{
	Kind: faas.KindUnavailable, Op: "pull docker image",
	Detail: fmt.Sprintf("the engine reported nothing for %s", pullSilence), Remedy: "try again: what was fetched is kept",
}

// report hands one message of the engine to the caller.
func report(progress driver.ImageProgress, msg jsonstream.Message) {
	if progress == nil || msg.Status == "" {
		return
	}
	step := msg.Status
	if msg.ID != "" {
		step = msg.ID + ": " + step
	}
	var done, total int64
	if msg.Progress != nil {
		done, total = max(msg.Progress.Current, 0), max(msg.Progress.Total, 0)
	}
	progress(step[:min(len(step), maxProgress)], done, total)
}

// pullError tells an image that does not exist from a registry that fails.
func pullError(ref string, err error) error {
	var e *faas.Error
	if !errors.As(err, &e) {
		return err
	}
	text := strings.ToLower(e.Detail)
	switch {
	case strings.Contains(text, "unauthorized"), strings.Contains(text, "denied"), strings.Contains(text, "no basic auth"):
		return &faas.Error{Kind: faas.KindPermissionDenied, Detail: "the registry refuses " + ref + ": " + e.Detail,
			Remedy: "check the name, and `docker login` as the user of this process", Err: e.Err}
	case e.Kind == faas.KindNotFound, strings.Contains(text, "manifest unknown"), strings.Contains(text, "not found"),
		strings.Contains(text, "name unknown"), strings.Contains(text, "no matching manifest"):
		return &faas.Error{Kind: faas.KindInvalidArgument, Field: "image", Detail: "there is no image " + ref + ": " + e.Detail, Err: e.Err}
	case e.Kind == faas.KindInternal:
		return &faas.Error{Kind: faas.KindUnavailable, Detail: "cannot pull " + ref + ": " + e.Detail,
			Remedy: "check that the engine reaches the registry", Err: e.Err}
	}
	return err
}

// registryAuth returns the credentials of the docker configuration for an
// image's registry in the form of the API; empty when there are none.
func registryAuth(ctx context.Context, ref string) (string, error) {
	parsed, err := name.ParseReference(ref, name.WeakValidation)
	if err != nil {
		return "", nil // an id of the store has no registry
	}
	ctx, cancel := context.WithTimeout(ctx, credentialTimeout)
	defer cancel()
	type answer struct {
		cfg *authn.AuthConfig
		err error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the credential helper
		a, err := authn.Resolve(ctx, authn.DefaultKeychain, parsed.Context().Registry)
		if err != nil {
			answers <- answer{err: err}
			return
		}
		cfg, err := authn.Authorization(ctx, a)
		answers <- answer{cfg, err}
	}()
	select {
	case got := <-answers:
		if got.err != nil {
			return "", &faas.Error{Kind: faas.KindFailedPrecondition, Op: "read registry credentials",
				Detail: "for " + parsed.Context().RegistryStr(), Remedy: "check the docker configuration and its credential helpers", Err: got.err}
		}
		return encodeAuth(got.cfg, parsed.Context().RegistryStr())
	case <-ctx.Done():
		return "", &faas.Error{Kind: faas.KindUnavailable, Op: "read registry credentials",
			Detail: "a credential helper did not answer within " + credentialTimeout.String()}
	}
}

func encodeAuth(cfg *authn.AuthConfig, server string) (string, error) {
	if cfg == nil || *cfg == (authn.AuthConfig{}) {
		return "", nil
	}
	return authconfig.Encode(registry.AuthConfig{
		Username: cfg.Username, Password: cfg.Password, Auth: cfg.Auth,
		IdentityToken: cfg.IdentityToken, RegistryToken: cfg.RegistryToken, ServerAddress: server,
	})
}
