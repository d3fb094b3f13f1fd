package image

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/faas-platform/faas"
)

// maxConfigBytes and maxManifestBytes bound what is read into memory.
const (
	maxConfigBytes   = 8 << 20
	maxManifestBytes = 8 << 20
)

// resolved is one image of one platform, its manifest and configuration read
// and its layers not yet at hand.
type resolved struct {
	digest      string
	indexDigest string
	platform    string
	config      *v1.ConfigFile
	layers      []resolvedLayer // bottom first
}

type resolvedLayer struct {
	diffID string
	digest string // of the packed layer; empty: not known
	size   int64  // packed, in bytes; 0: not known
}

// uniqueLayers lists each layer once: images often repeat the empty one.
func (r *resolved) uniqueLayers() []resolvedLayer {
	var unique []resolvedLayer
	for _, l := range r.layers {
		if !slices.ContainsFunc(unique, func(o resolvedLayer) bool { return o.diffID == l.diffID }) {
			unique = append(unique, l)
		}
	}
	return unique
}

// setLayers pairs the layers of a manifest with the diff ids of its
// configuration.
func (r *resolved) setLayers(packed []v1.Descriptor) error {
	ids := r.config.RootFS.DiffIDs
	if len(ids) != len(packed) {
		return faas.Errorf(faas.KindInvalidArgument,
			"the image's manifest has %d layers and its configuration %d: it is not a container image", len(packed), len(ids))
	}
	for i, l := range packed {
		if strings.Contains(string(l.MediaType), "encrypted") {
			return faas.Errorf(faas.KindInvalidArgument, "layer %s is encrypted", l.Digest)
		}
		r.layers = append(r.layers, resolvedLayer{diffID: ids[i].String(), digest: l.Digest.String(), size: l.Size})
	}
	return nil
}

// checkManifest refuses what the store cannot hold before anything is
// downloaded. Digests become file names: only sha256 ones in full pass.
func (s *Store) checkManifest(r *resolved) error {
	if len(r.layers) > s.limits.MaxLayers {
		return tooLarge("the image has %d layers, more than %d", len(r.layers), s.limits.MaxLayers)
	}
	for _, l := range r.layers {
		if !validDigest(l.diffID) || l.digest != "" && !validDigest(l.digest) {
			return faas.Errorf(faas.KindInvalidArgument, "layer %q of the image has no sha256 digest", l.diffID)
		}
		if l.size < 0 || l.size > s.limits.MaxBlobBytes {
			return tooLarge("layer %s has %d bytes, more than %d", short(l.diffID), l.size, s.limits.MaxBlobBytes)
		}
	}
	if len(r.layers) == 0 { // FROM scratch and nothing else: overlayfs needs one
		r.layers = []resolvedLayer{{diffID: emptyLayer}}
	}
	return nil
}

// emptyLayer is the diff id of a tar without entries.
const emptyLayer = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// emptyTar is that tar.
var emptyTar = [1024]byte{}

func validDigest(digest string) bool {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// choose finds the manifest for a platform in an index.
func choose(manifests []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	var offered []string
	for _, m := range manifests {
		if m.Platform == nil {
			if len(manifests) == 1 {
				return m, nil
			}
			continue
		}
		if matches(*m.Platform, want) {
			return m, nil
		}
		if m.Platform.OS != "unknown" { // attestations
			offered = append(offered, m.Platform.String())
		}
	}
	return v1.Descriptor{}, &faas.Error{Kind: faas.KindInvalidArgument, Field: "platform",
		Detail: fmt.Sprintf("the image is not there for %s", want.String()),
		Remedy: "it is there for " + orNone(offered)}
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "no platform by name"
	}
	return strings.Join(list, ", ")
}

// matches says whether an offer serves a wish. arm64 without a variant is v8.
func matches(offer, want v1.Platform) bool {
	if offer.OS != want.OS || offer.Architecture != want.Architecture {
		return false
	}
	return variant(offer) == variant(want) || want.Variant == "" || offer.Variant == ""
}

func variant(p v1.Platform) string {
	if p.Architecture == "arm64" && p.Variant == "" {
		return "v8"
	}
	return p.Variant
}

// checkPlatform refuses an image whose configuration is for another machine.
func checkPlatform(c *v1.ConfigFile, want v1.Platform) error {
	if c.OS == "" || c.Architecture == "" || c.OS == want.OS && c.Architecture == want.Architecture {
		return nil
	}
	return &faas.Error{Kind: faas.KindInvalidArgument, Field: "platform",
		Detail: fmt.Sprintf("the image is for %s/%s, not for %s", c.OS, c.Architecture, want.String())}
}
