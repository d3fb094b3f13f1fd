package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/faas-platform/faas"
)

const (
	layoutFile     = "oci-layout"
	dockerManifest = "manifest.json"
	// maxIndexDepth is how many indexes may lead to an image.
	maxIndexDepth = 4
)

// Annotations that name the images of a layout.
const (
	annotationRef        = "org.opencontainers.image.ref.name"
	annotationContainerd = "io.containerd.image.name"
)

// layout imports the image of an OCI layout.
func (im *importer) layout(root *os.Root) (*Image, error) {
	data, err := readSmall(root, "index.json", maxManifestBytes)
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(data))
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the layout's index.json cannot be read: %w", err)
	}
	desc, err := im.pick(index.Manifests)
	if err != nil {
		return nil, err
	}
	ref, err := im.name(desc.Annotations[annotationContainerd], desc.Annotations[annotationRef])
	if err != nil {
		return nil, err
	}
	found := &resolved{platform: im.s.platform.String()}
	manifest, err := im.descend(root, desc, found)
	if err != nil {
		return nil, err
	}
	config, err := readBlobFile(root, manifest.Config.Digest, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	if err := im.configure(found, config); err != nil {
		return nil, err
	}
	if err := found.setLayers(manifest.Layers); err != nil {
		return nil, err
	}
	return im.layers(found, ref, func(l resolvedLayer) (io.ReadCloser, error) {
		return openFile(root, blobFile(l.digest))
	})
}

// pick chooses among the images of a layout: the only one, the one of the
// name that was asked for, or the one for the platform.
func (im *importer) pick(manifests []v1.Descriptor) (v1.Descriptor, error) {
	if len(manifests) == 1 {
		return manifests[0], nil
	}
	var names []string
	for _, m := range manifests {
		for _, name := range []string{m.Annotations[annotationContainerd], m.Annotations[annotationRef]} {
			if name != "" && name == im.asked {
				return m, nil
			}
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 1 {
		return v1.Descriptor{}, severalImages(names)
	}
	return choose(manifests, im.s.platform)
}

func severalImages(names []string) error {
	return &faas.Error{Kind: faas.KindInvalidArgument, Field: "name",
		Detail: "the archive holds several images",
		Remedy: "give the name of one: " + strings.Join(names, ", ")}
}

// descend follows indexes down to the manifest of one image.
func (im *importer) descend(root *os.Root, desc v1.Descriptor, found *resolved) (*v1.Manifest, error) {
	for range maxIndexDepth {
		data, err := readBlobFile(root, desc.Digest, maxManifestBytes)
		if err != nil {
			return nil, err
		}
		if !desc.MediaType.IsIndex() {
			found.digest = desc.Digest.String()
			manifest, err := v1.ParseManifest(bytes.NewReader(data))
			if err != nil {
				return nil, faas.Errorf(faas.KindInvalidArgument, "the image's manifest cannot be read: %w", err)
			}
			return manifest, nil
		}
		index, err := v1.ParseIndexManifest(bytes.NewReader(data))
		if err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "the image's index cannot be read: %w", err)
		}
		if found.indexDigest == "" {
			found.indexDigest = desc.Digest.String()
		}
		if desc, err = choose(index.Manifests, im.s.platform); err != nil {
			return nil, err
		}
	}
	return nil, faas.Errorf(faas.KindInvalidArgument, "more than %d indexes lead to the image", maxIndexDepth)
}

func (im *importer) configure(found *resolved, data []byte) (err error) {
	if found.config, err = v1.ParseConfigFile(bytes.NewReader(data)); err != nil {
		return faas.Errorf(faas.KindInvalidArgument, "the image's configuration cannot be read: %w", err)
	}
	return checkPlatform(found.config, im.s.platform)
}

// savedImage is one element of the manifest that docker save writes.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerSave imports the image of an archive by docker save. It has no
// manifest of its own: the digest of its configuration, which docker calls the
// image's id, identifies it.
func (im *importer) dockerSave(root *os.Root) (*Image, error) {
	data, err := readSmall(root, dockerManifest, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	var saved []savedImage
	if err := json.Unmarshal(data, &saved); err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the archive's manifest.json cannot be read: %w", err)
	}
	one, err := im.pickSaved(saved)
	if err != nil {
		return nil, err
	}
	ref, err := im.name(one.RepoTags...)
	if err != nil {
		return nil, err
	}
	config, err := readSmall(root, one.Config, maxConfigBytes)
	if err != nil {
		return nil, err
	}
	digest := fmt.Sprintf("%x", sha256.Sum256(config))
	if named := strings.TrimSuffix(path.Base(one.Config), ".json"); len(named) == 64 && named != digest {
		return nil, mismatch("the configuration", named, digest)
	}
	found := &resolved{digest: "sha256:" + digest, platform: im.s.platform.String()}
	if err := im.configure(found, config); err != nil {
		return nil, err
	}
	ids := found.config.RootFS.DiffIDs
	if len(ids) != len(one.Layers) {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the archive has %d layers and its configuration %d", len(one.Layers), len(ids))
	}
	files := map[string]string{}
	for i, id := range ids {
		found.layers = append(found.layers, resolvedLayer{diffID: id.String()})
		files[id.String()] = one.Layers[i]
	}
	return im.layers(found, ref, func(l resolvedLayer) (io.ReadCloser, error) { return openFile(root, files[l.diffID]) })
}

func (im *importer) pickSaved(saved []savedImage) (savedImage, error) {
	if len(saved) == 1 {
		return saved[0], nil
	}
	var names []string
	for _, one := range saved {
		if im.asked != "" && slices.Contains(one.RepoTags, im.asked) {
			return one, nil
		}
		names = append(names, one.RepoTags...)
	}
	return savedImage{}, severalImages(names)
}

func blobFile(digest string) string {
	return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:")
}

func openFile(root *os.Root, name string) (*os.File, error) {
	info, err := root.Stat(name) // first: opening a pipe would wait for its other end
	if err == nil && !info.Mode().IsRegular() {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%q in the archive is not a file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "the archive lacks %q: %w", name, err)
	}
	return f, nil
}

func readSmall(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := openFile(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, storeError("read", name, err)
	}
	if int64(len(data)) > limit {
		return nil, tooLarge("%q in the archive is larger than %d bytes", name, limit)
	}
	return data, nil
}

func readBlobFile(root *os.Root, digest v1.Hash, limit int64) ([]byte, error) {
	if !validDigest(digest.String()) {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%q is not a sha256 digest", digest)
	}
	data, err := readSmall(root, blobFile(digest.String()), limit)
	if err != nil {
		return nil, err
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != digest.String() {
		return nil, mismatch("a part of the image", digest.String(), got)
	}
	return data, nil
}
