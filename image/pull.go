package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/faas-platform/faas"
)

// parallelLayers is how many layers of one image are downloaded and unpacked
// at the same time.
const parallelLayers = 3

// Pull makes ref available, downloading what the store lacks, and returns it.
// Concurrent pulls of one image, in this process or others, happen once: the
// others wait. A pull that is cancelled or killed leaves what it downloaded;
// the next one goes on from there. Pull of faas.HostImage builds the skeleton.
//
// It fails with KindInvalidArgument for a bad reference or an image that is
// not for the platform or breaks the limits' rules, KindNotFound and
// KindPermissionDenied as the registry says, KindPayloadTooLarge beyond the
// limits, KindUnavailable when the registry cannot be reached or sends what
// does not match its digests, and KindDeadlineExceeded.
func (s *Store) Pull(ctx context.Context, ref string, opts PullOptions) (*Image, error) {
	if ref == faas.HostImage {
		return s.hostInfo(ctx)
	}
	started := time.Now()
	platform := s.platform
	if opts.Platform != "" {
		var err error
		if platform, err = parsePlatform(opts.Platform); err != nil {
			return nil, err
		}
	}
	parsed, err := s.parseReference(ref)
	if err != nil {
		return nil, err
	}
	switch opts.Policy {
	case "", PullMissing, PullNever:
		if img, err := s.present(ref, platform, time.Time{}); img != nil || err != nil {
			return img, err
		}
		if opts.Policy == PullNever {
			return nil, notFound(ref)
		}
	case PullAlways:
	default:
		return nil, faas.InvalidField("policy", "%q is not a pull policy", opts.Policy)
	}
	ctx, cancel := s.operation(ctx)
	defer cancel()
	p := &puller{s: s, ref: parsed, platform: platform, report: newReporter(opts.Progress)}
	return p.once(ctx, ref, opts.Policy, started)
}

// present returns the image when it is complete and was added after since.
func (s *Store) present(ref string, platform v1.Platform, since time.Time) (*Image, error) {
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	img, err := x.find(ref, platform.String())
	if errors.Is(err, faas.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if img.AddedAt.Before(since) || !s.complete(img) {
		return nil, nil
	}
	return s.describe(x, img, s.usage())
}

func (s *Store) complete(img *Image) bool {
	for _, l := range img.Layers {
		if !s.hasLayer(l.DiffID) {
			return false
		}
	}
	return true
}

// parseReference is normalize with the registries that plain HTTP is for.
func (s *Store) parseReference(ref string) (name.Reference, error) {
	parsed, err := normalize(ref)
	if err != nil {
		return nil, err
	}
	for _, host := range s.opts.Insecure {
		if parsed.Context().RegistryStr() == host {
			return name.ParseReference(ref, name.WeakValidation, name.Insecure)
		}
	}
	return parsed, nil
}

// puller is one pull.
type puller struct {
	s        *Store
	ref      name.Reference
	platform v1.Platform
	report   *reporter
	registry *registry
}

// once pulls while no one else pulls the same. Whoever waited for another's
// pull takes its result.
func (p *puller) once(ctx context.Context, ref string, policy Policy, started time.Time) (*Image, error) {
	key := sha256.Sum256([]byte(nameKey(p.ref.Name(), p.platform.String())))
	lock, err := lockPath(ctx, p.s.path(locksDir, fmt.Sprintf("pull-%x", key[:16])), false,
		func() { p.report.report("wait", 0, 0) })
	if err != nil {
		return nil, pullError(ref, err)
	}
	defer lock.removeAndUnlock() //nolint:errcheck // an empty file at worst
	since := started
	if policy != PullAlways {
		since = time.Time{}
	}
	if img, err := p.s.present(ref, p.platform, since); img != nil || err != nil {
		return img, err
	}
	img, err := p.pull(ctx)
	if err != nil {
		return nil, pullError(ref, err)
	}
	return img, nil
}

func (p *puller) pull(ctx context.Context) (*Image, error) {
	p.report.report("resolve", 0, 1)
	reg, err := p.s.connect(ctx, p.ref.Context())
	if err != nil {
		return nil, err
	}
	p.registry = reg
	found, err := reg.resolve(ctx, p.ref, p.platform)
	if err != nil {
		return nil, err
	}
	p.report.report("resolve", 1, 1)
	if err := p.s.checkManifest(found); err != nil {
		return nil, err
	}
	hold, err := p.s.holdLayers(ctx, found)
	if err != nil {
		return nil, err
	}
	defer hold.release() //nolint:errcheck // swept later
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelLayers)
	for _, l := range found.uniqueLayers() {
		group.Go(func() error { return p.layer(groupCtx, l) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return p.s.add(ctx, found, p.ref.Name(), SourcePull)
}

// layer downloads and unpacks one layer, unless the store has it.
func (p *puller) layer(ctx context.Context, l resolvedLayer) error {
	return p.s.ensureLayer(ctx, l, p.report, func(ctx context.Context) (io.ReadCloser, func(error), error) {
		blob, err := p.fetch(ctx, l)
		if err != nil {
			return nil, nil, err
		}
		f, err := os.Open(blob.path)
		if err != nil {
			blob.lock.unlock()
			return nil, nil, storeError("open", blob.path, err)
		}
		return f, blob.done, nil
	})
}

// ensureLayer unpacks a layer that the store lacks. open returns the packed
// layer, and what to call with the outcome. The caller has leased the layer's
// path.
func (s *Store) ensureLayer(ctx context.Context, l resolvedLayer, report *reporter,
	open func(context.Context) (io.ReadCloser, func(error), error)) error {
	if s.hasLayer(l.diffID) {
		return nil
	}
	lock, err := lockPath(ctx, s.path(locksDir, "layer-"+s.own.String()+"-"+strings.TrimPrefix(l.diffID, "sha256:")), false,
		func() { report.report("wait", 0, 0) })
	if err != nil {
		return storeError("lock", l.diffID, err)
	}
	defer lock.removeAndUnlock() //nolint:errcheck // an empty file at worst
	if s.hasLayer(l.diffID) {
		return nil
	}
	if l.diffID == emptyLayer {
		return s.unpackVerified(ctx, resolvedLayer{diffID: emptyLayer}, bytes.NewReader(emptyTar[:]), report)
	}
	packed, done, err := open(ctx)
	if err != nil {
		return err
	}
	err = s.unpackVerified(ctx, l, packed, report)
	if closeErr := packed.Close(); err == nil && closeErr != nil {
		err = storeError("read", l.diffID, closeErr)
	}
	done(err)
	return err
}

// unpackVerified unpacks a layer aside and places it when it is what the
// image's configuration says.
func (s *Store) unpackVerified(ctx context.Context, l resolvedLayer, packed io.Reader, report *reporter) (err error) {
	work, err := s.newWorkspace()
	if err != nil {
		return err
	}
	defer func() { err = joinCleanup(err, work.close()) }()
	dir := filepath.Join(work.dir, "layer")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return storeError("make", dir, err)
	}
	check := sha256.New()
	rec, err := s.unpack(ctx, filepath.Join(dir, layerFS), io.TeeReader(packed, check),
		report.step("unpack "+short(l.diffID), l.size))
	if err != nil {
		return onLayer(l.diffID, err)
	}
	if l.digest != "" {
		if _, err := io.Copy(check, packed); err != nil {
			return storeError("read", l.digest, err)
		}
		if got := fmt.Sprintf("sha256:%x", check.Sum(nil)); got != l.digest {
			return mismatch("the layer", l.digest, got)
		}
	}
	if rec.DiffID != l.diffID {
		return mismatch("the unpacked layer", l.diffID, rec.DiffID)
	}
	return s.place(dir, rec)
}

func mismatch(what, want, got string) error {
	return &faas.Error{Kind: faas.KindInvalidArgument,
		Detail: fmt.Sprintf("%s should have the digest %s and has %s", what, want, got),
		Remedy: "the image is damaged: build or push it again"}
}

// onLayer says which layer an error is about.
func onLayer(diffID string, err error) error {
	var known *faas.Error
	if !errors.As(err, &known) {
		return err
	}
	located := *known
	located.Detail = "layer " + short(diffID) + ": " + known.Detail
	return &located
}

// joinCleanup adds the error of a clean-up to that of the work, if any.
func joinCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return errors.Join(err, storeError("clean up", tmpDir, cleanup))
}

// holdLayers leases the layers of an image that is being added, present or
// not yet, so that no GC takes one before the image is in the index.
func (s *Store) holdLayers(ctx context.Context, found *resolved) (*lease, error) {
	lock, err := s.lockStore(ctx, true)
	if err != nil {
		return nil, err
	}
	defer lock.unlock()
	rec := leaseRecord{}
	for _, l := range found.layers {
		rec.Paths = append(rec.Paths, s.layerPath(l.diffID))
		if l.digest != "" {
			rec.Blobs = append(rec.Blobs, l.digest)
		}
	}
	hold, err := s.lease(rec, AcquireOptions{})
	if err != nil {
		return nil, err
	}
	return hold.lease, nil
}

// add enters an image, whose layers are there and held, into the index.
func (s *Store) add(ctx context.Context, found *resolved, ref, source string) (*Image, error) {
	img := &Image{
		Digest: found.digest, IndexDigest: found.indexDigest, Platform: found.platform,
		Config: imageConfig(found.config), Labels: found.config.Config.Labels,
		CreatedAt: found.config.Created.UTC(), AddedAt: now(), Source: source,
	}
	for _, l := range found.layers {
		info, err := s.layerInfo(l.diffID)
		if err != nil {
			return nil, storeError("read", l.diffID, err)
		}
		img.Layers = append(img.Layers, Layer{DiffID: l.diffID, SizeBytes: info.Bytes, Opaque: info.Opaque})
	}
	if err := s.updateIndex(ctx, func(x *index) error { x.put(img, ref); return nil }); err != nil {
		return nil, err
	}
	x, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	return s.describe(x, img, s.usage())
}

func imageConfig(c *v1.ConfigFile) Config {
	return Config{
		Env: c.Config.Env, WorkingDir: c.Config.WorkingDir, User: c.Config.User,
		Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd,
	}
}
