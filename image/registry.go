package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/faas-platform/faas"
)

const (
	// attempts bounds the tries of one request, and those in a row of one
	// download that bring no byte.
	attempts     = 4
	firstBackoff = 200 * time.Millisecond
	lastBackoff  = 5 * time.Second
	// stallTimeout ends a request whose other side says nothing.
	stallTimeout = 60 * time.Second
	maxRedirects = 5
)

// registry is an authenticated way to one repository.
type registry struct {
	repo      name.Repository
	transport http.RoundTripper
	client    *http.Client
}

// connect finds the credentials for a repository and authenticates.
func (s *Store) connect(ctx context.Context, repo name.Repository) (*registry, error) {
	auth, err := s.credentials(ctx, repo)
	if err != nil {
		return nil, err
	}
	base := s.opts.Transport
	if base == nil {
		base = http.DefaultTransport
	}
	r := &registry{repo: repo}
	err = retry(ctx, func() error {
		ctx, cancel := context.WithTimeout(ctx, stallTimeout)
		defer cancel()
		// The bearer transport renews its token by itself for as long as it is used.
		r.transport, err = transport.NewWithContext(ctx, repo.Registry, auth, base, []string{repo.Scope(transport.PullScope)})
		return err
	})
	if err != nil {
		return nil, err
	}
	r.client = &http.Client{Transport: r.transport, CheckRedirect: checkRedirect}
	return r, nil
}

// credentials asks the keychain, whose helper programs know no context: one
// that hangs is waited for no longer than stallTimeout, and then left to end
// with this process.
func (s *Store) credentials(ctx context.Context, repo name.Repository) (authn.Authenticator, error) {
	type answer struct {
		auth authn.Authenticator
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		auth, err := s.opts.Keychain.Resolve(repo)
		answered <- answer{auth, err}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, stallTimeout, errors.New("a credential helper does not answer"))
	defer cancel()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = context.Cause(ctx)
		if errors.Is(a.err, context.Canceled) {
			return nil, a.err
		}
	}
	if a.err != nil {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Err: a.err,
			Detail: "the credentials for " + repo.RegistryStr() + " cannot be read",
			Remedy: "check the docker configuration and its credential helpers"}
	}
	if a.auth == nil {
		return authn.Anonymous, nil
	}
	return a.auth, nil
}

// checkRedirect bounds redirects, and refuses one from elsewhere to an address
// of this machine or its networks: a registry must not make the daemon read
// what only the daemon can reach.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errors.New("too many redirects")
	}
	from, to := via[0].URL.Hostname(), req.URL.Hostname()
	linkLocal := net.ParseIP(to).IsLinkLocalUnicast() // where clouds keep their metadata
	if from == to || isLocal(from) && !linkLocal || !isLocal(to) {
		return nil
	}
	return fmt.Errorf("the registry redirects to the local address %s", req.URL.Host)
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil &&
		(ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsUnspecified())
}

// resolve reads the manifest and the configuration of one platform's image.
func (r *registry) resolve(ctx context.Context, ref name.Reference, platform v1.Platform) (*resolved, error) {
	var desc *remote.Descriptor
	err := retry(ctx, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, stallTimeout)
		defer cancel()
		desc, err = remote.Get(ref, r.options(ctx)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	found := &resolved{digest: desc.Digest.String(), platform: platform.String()}
	manifest := desc.Manifest
	if desc.MediaType.IsIndex() {
		index, err := v1.ParseIndexManifest(bytes.NewReader(manifest))
		if err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "the image's index cannot be read: %w", err)
		}
		child, err := choose(index.Manifests, platform)
		if err != nil {
			return nil, err
		}
		found.indexDigest, found.digest = found.digest, child.Digest.String()
		if manifest, err = r.manifest(ctx, child); err != nil {
			return nil, err
		}
	} else if !desc.MediaType.IsImage() {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the registry has no image there but %q", desc.MediaType)
	}
	return found, r.configure(ctx, found, manifest, platform)
}

func (r *registry) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(r.transport)}
}

func (r *registry) manifest(ctx context.Context, child v1.Descriptor) ([]byte, error) {
	if !child.MediaType.IsImage() {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the image's index leads to %q, not to an image", child.MediaType)
	}
	var desc *remote.Descriptor
	err := retry(ctx, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, stallTimeout)
		defer cancel()
		desc, err = remote.Get(r.repo.Digest(child.Digest.String()), r.options(ctx)...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return desc.Manifest, nil
}

// configure reads what a manifest points to but its layers.
func (r *registry) configure(ctx context.Context, found *resolved, manifest []byte, platform v1.Platform) error {
	m, err := v1.ParseManifest(bytes.NewReader(manifest))
	if err != nil {
		return faas.Errorf(faas.KindInvalidArgument, "the image's manifest cannot be read: %w", err)
	}
	if m.Config.Size > maxConfigBytes || !validDigest(m.Config.Digest.String()) {
		return tooLarge("the image's configuration is larger than %d bytes or has no sha256 digest", maxConfigBytes)
	}
	var data []byte
	err = retry(ctx, func() (err error) {
		data, err = r.readBlob(ctx, m.Config.Digest, m.Config.Size)
		return err
	})
	if err != nil {
		return err
	}
	if found.config, err = v1.ParseConfigFile(bytes.NewReader(data)); err != nil {
		return faas.Errorf(faas.KindInvalidArgument, "the image's configuration cannot be read: %w", err)
	}
	if err := checkPlatform(found.config, platform); err != nil {
		return err
	}
	return found.setLayers(m.Layers)
}

// readBlob reads a small blob into memory and verifies it.
func (r *registry) readBlob(ctx context.Context, digest v1.Hash, size int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stallTimeout)
	defer cancel()
	resp, err := r.get(ctx, digest.String(), "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, size+1))
	if err != nil {
		return nil, err
	}
	got, _, err := v1.SHA256(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if got != digest {
		return nil, damaged(digest.String(), got.String())
	}
	return data, nil
}

func damaged(want, got string) error {
	return &faas.Error{Kind: faas.KindUnavailable,
		Detail: fmt.Sprintf("the registry was asked for %s and sent %s", want, got),
		Remedy: "try again; if it stays, the registry's copy is damaged"}
}

// get asks for a blob. The caller closes the body and checks the status.
func (r *registry) get(ctx context.Context, digest, byteRange string) (*http.Response, error) {
	url := fmt.Sprintf("%s://%s/v2/%s/blobs/%s", r.repo.Scheme(), r.repo.RegistryStr(), r.repo.RepositoryStr(), digest)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	return r.client.Do(req)
}

// retry repeats an operation that failed for a passing reason, with growing
// pauses.
func retry(ctx context.Context, op func() error) error {
	for attempt := 1; ; attempt++ {
		err := op()
		if err == nil || attempt == attempts || !transient(ctx, err) {
			return err
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// pause waits before attempt+1.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(min(firstBackoff<<(attempt-1), lastBackoff))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// transient says whether an error may be gone on the next try. The end of the
// operation itself never is; that of one try is.
func transient(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var status *transport.Error
	if errors.As(err, &status) {
		return status.StatusCode == http.StatusRequestTimeout || status.StatusCode == http.StatusTooManyRequests ||
			status.StatusCode >= 500
	}
	var known *faas.Error
	if errors.As(err, &known) {
		return known.Kind == faas.KindUnavailable
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary || dns.IsTimeout
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// pullError puts a registry's answer into the platform's words.
func pullError(ref string, err error) error {
	op := "pull " + ref
	var known *faas.Error
	if errors.As(err, &known) {
		named := *known
		named.Op = op
		return &named
	}
	e := &faas.Error{Kind: faas.KindUnavailable, Op: op, Err: err, Detail: "the registry cannot be reached",
		Remedy: "check the reference and the network; in plain HTTP only loopback registries and those configured as insecure are spoken to"}
	var status *transport.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Detail, e.Remedy = faas.KindDeadlineExceeded, "the time for it is over", "pull again: what was downloaded is kept"
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", op, err)
	case errors.As(err, &status):
		explainStatus(e, status)
	}
	return e
}

// explainStatus says what an HTTP status of a registry means to the user.
func explainStatus(e *faas.Error, status *transport.Error) {
	host := "the registry"
	if status.Request != nil {
		host = status.Request.URL.Host
	}
	e.Detail, e.Remedy = fmt.Sprintf("%s answered with status %d", host, status.StatusCode), ""
	switch {
	case status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden:
		e.Kind, e.Detail = faas.KindPermissionDenied, host+" does not let these credentials read the image, or has no such image"
		e.Remedy = "log in with: docker login " + host
	case status.StatusCode == http.StatusNotFound:
		e.Kind, e.Detail = faas.KindNotFound, host+" has no such image"
	case status.StatusCode == http.StatusTooManyRequests:
		e.Kind, e.Detail = faas.KindResourceExhausted, host+" limits how often images are pulled"
		e.Remedy, e.RetryAfter = "try again later, or log in", time.Minute
	case status.StatusCode < 500:
		e.Kind = faas.KindFailedPrecondition
	}
}
