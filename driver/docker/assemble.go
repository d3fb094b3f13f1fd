package docker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// assembled returns the id of an image of the engine that has the layers,
// topmost first, on top of the image base. It is made once; as long as the
// layers lie where they are it serves every restore.
func (d *Driver) assembled(ctx context.Context, project, base string, layers []string) (string, error) {
	print, err := fingerprint(ctx, layers)
	if err != nil {
		return "", err
	}
	// The project is part of the name: no tenant can make an image that
	// another one's restore finds.
	sum := sha256.Sum256([]byte(project + "\x00" + base + "\x00" + print))
	token := hex.EncodeToString(sum[:12])
	select {
	case <-d.assembly:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { d.assembly <- struct{}{} }()
	img, err := d.inspectImage(ctx, d.stateName(token))
	if err == nil && img.Labels[LabelInstallation] == d.installation && img.Labels[LabelDigest] == token {
		return img.Digest, nil
	}
	if err != nil && !errors.Is(err, faas.ErrNotFound) {
		return "", err
	}
	if err := d.writeState(token, stateRecord{Owner: d.owner.token, Image: true, Layer: layers[0]}); err != nil {
		return "", err
	}
	if err := d.assemble(ctx, token, base, layers); err != nil {
		return "", err
	}
	img, err = d.inspectImage(ctx, d.stateName(token))
	return img.Digest, err
}

// archived is one layer of an image that is being assembled.
type archived struct {
	diffID string
	name   string   // in the archive
	tar    *os.File // a file without a name; nil: the engine has the layer
	size   int64
}

// assemble gives the engine an image of base and the layers. The engine's own
// store knows base's layers and needs only the new ones; an engine that keeps
// images in containerd wants all of them again.
func (d *Driver) assemble(ctx context.Context, token, base string, layers []string) error {
	var info client.ImageInspectResult
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		info, err = api.ImageInspect(ctx, base)
		return err
	})
	if err != nil {
		return err
	}
	var list []archived
	defer func() {
		for _, l := range list {
			if l.tar != nil {
				_ = l.tar.Close()
			}
		}
	}()
	for _, id := range info.RootFS.Layers {
		list = append(list, archived{diffID: id, name: strings.TrimPrefix(id, "sha256:") + "/layer.tar"})
	}
	for _, dir := range slices.Backward(layers) {
		l, err := d.archive(ctx, dir)
		if err != nil {
			return err
		}
		list = append(list, l)
	}
	err = d.load(ctx, token, info.InspectResponse, list)
	if err == nil || ctx.Err() != nil || errors.Is(err, faas.ErrUnavailable) {
		return err
	}
	if fetchErr := d.fetchLayers(ctx, base, list); fetchErr != nil {
		return errors.Join(err, fetchErr)
	}
	return d.load(ctx, token, info.InspectResponse, list)
}

// temporary makes a file that goes away with its descriptor.
func (d *Driver) temporary() (*os.File, error) {
	f, err := os.CreateTemp(d.opts.Dir, ".layer-*")
	if err != nil {
		return nil, layerFileError(err)
	}
	if runtime.GOOS != "windows" { // where open files cannot be removed, no layer is ever written
		if err := os.Remove(f.Name()); err != nil {
			return nil, layerFileError(errors.Join(err, f.Close()))
		}
	}
	return f, nil
}

func layerFileError(err error) error {
	return &faas.Error{Kind: faas.KindInternal, Op: "write a layer's archive", Err: err}
}

// archive packs one layer directory.
func (d *Driver) archive(ctx context.Context, dir string) (archived, error) {
	f, err := d.temporary()
	if err != nil {
		return archived{}, err
	}
	sum := sha256.New()
	l := archived{tar: f}
	err = packLayer(ctx, dir, io.MultiWriter(f, sum))
	if err == nil {
		l.size, err = f.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		return l, errors.Join(err, f.Close())
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	l.diffID, l.name = "sha256:"+digest, digest+"/layer.tar"
	return l, nil
}

// load gives the engine an archive of an image's configuration and layers.
func (d *Driver) load(ctx context.Context, token string, base image.InspectResponse, layers []archived) error {
	config, err := d.imageConfig(token, base, layers)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() { // ends with the call, which closes the reader
		defer close(written)
		w.CloseWithError(writeArchive(w, d.stateName(token), config, layers)) //nolint:errcheck // never fails
	}()
	err = d.engine.call(ctx, stateTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
		if err != nil {
			return err
		}
		defer res.Close()
		answer, err := io.ReadAll(io.LimitReader(res, 64<<10))
		if err == nil && bytes.Contains(answer, []byte(`"errorDetail"`)) {
			err = &faas.Error{Kind: faas.KindInternal, Detail: fmt.Sprintf("the engine does not take the snapshot's image: %s", bytes.TrimSpace(answer))}
		}
		return err
	})
	r.Close() //nolint:errcheck // never fails
	<-written
	return err
}

// imageConfig is that of base with the layers and our labels.
func (d *Driver) imageConfig(token string, base image.InspectResponse, layers []archived) ([]byte, error) {
	config := map[string]any{}
	if base.Config != nil {
		b, err := json.Marshal(base.Config)
		if err == nil {
			err = json.Unmarshal(b, &config)
		}
		if err != nil {
			return nil, &faas.Error{Kind: faas.KindInternal, Op: "describe a snapshot's image", Err: err}
		}
	}
	labels := map[string]string{LabelInstallation: d.installation, LabelRole: roleState, LabelDigest: token}
	if base.Config != nil {
		for k, v := range base.Config.Labels {
			if _, ours := labels[k]; !ours {
				labels[k] = v
			}
		}
	}
	config["Labels"] = labels
	ids := make([]string, 0, len(layers))
	for _, l := range layers {
		ids = append(ids, l.diffID)
	}
	return json.Marshal(map[string]any{
		"architecture": base.Architecture, "variant": base.Variant, "os": base.Os,
		"created": time.Unix(0, 0).UTC(), "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": ids},
	})
}

// writeArchive writes what `docker load` reads. Layers without a file are
// named only.
func writeArchive(w io.Writer, name string, config []byte, layers []archived) error {
	out := tar.NewWriter(w)
	add := func(name string, size int64, content io.Reader) error {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err := io.Copy(out, content)
		return err
	}
	names, done := make([]string, 0, len(layers)), map[string]bool{}
	for _, l := range layers {
		names = append(names, l.name)
		if l.tar == nil || done[l.name] {
			continue
		}
		done[l.name] = true
		if err := add(l.name, l.size, io.NewSectionReader(l.tar, 0, l.size)); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(config)
	file := hex.EncodeToString(sum[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": file, "RepoTags": []string{name}, "Layers": names}})
	if err != nil {
		return err
	}
	if err := add(file, int64(len(config)), bytes.NewReader(config)); err != nil {
		return err
	}
	if err := add("manifest.json", int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
		return err
	}
	return out.Close()
}

// fetchLayers gets the files of those layers of an image that the list has
// none of.
func (d *Driver) fetchLayers(ctx context.Context, ref string, list []archived) error {
	missing := map[string][]int{}
	for i, l := range list {
		if l.tar == nil {
			missing[l.diffID] = append(missing[l.diffID], i)
		}
	}
	return d.eachLayer(ctx, ref, func(diffID string, f *os.File, size int64) (keep, more bool) {
		for n, i := range missing[diffID] {
			if n == 0 {
				list[i].tar = f
			}
			list[i].size = size
		}
		keep = len(missing[diffID]) > 0
		delete(missing, diffID)
		return keep, len(missing) > 0
	})
}

// exportLayer writes the topmost layer of an image into the empty directory
// dir and returns its fingerprint.
func (d *Driver) exportLayer(ctx context.Context, id, dir string) (string, error) {
	var info client.ImageInspectResult
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		info, err = api.ImageInspect(ctx, id)
		return err
	})
	if err != nil {
		return "", err
	}
	if len(info.RootFS.Layers) == 0 {
		return "", &faas.Error{Kind: faas.KindInternal, Detail: "the engine committed an image without layers"}
	}
	want := info.RootFS.Layers[len(info.RootFS.Layers)-1]
	var top *os.File
	err = d.eachLayer(ctx, id, func(diffID string, f *os.File, _ int64) (keep, more bool) {
		if diffID != want {
			return false, true
		}
		top = f
		return true, false
	})
	if top != nil {
		defer top.Close()
	}
	switch {
	case err != nil:
		return "", err
	case top == nil:
		return "", &faas.Error{Kind: faas.KindInternal, Detail: fmt.Sprintf("the engine's archive of a committed image lacks its layer %.19s", want)}
	}
	if _, err := top.Seek(0, io.SeekStart); err != nil {
		return "", layerFileError(err)
	}
	if err := unpackLayer(ctx, dir, top); err != nil {
		return "", err
	}
	return fingerprint(ctx, []string{dir})
}

// eachLayer has the engine send an image and hands its layers on, uncompressed,
// with their digests: visit says whether it keeps the file, which it then
// closes, and whether it wants more.
func (d *Driver) eachLayer(ctx context.Context, ref string, visit func(diffID string, f *os.File, size int64) (keep, more bool)) error {
	return d.engine.call(ctx, stateTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ImageSave(ctx, []string{ref})
		if err != nil {
			return err
		}
		defer res.Close()
		in := tar.NewReader(res)
		for {
			hdr, err := in.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if hdr.Typeflag != tar.TypeReg || path.Base(hdr.Name) != "layer.tar" && !strings.HasPrefix(hdr.Name, "blobs/") {
				continue
			}
			f, err := d.temporary()
			if err != nil {
				return err
			}
			diffID, size, err := spool(f, in)
			if err != nil {
				return errors.Join(layerFileError(err), f.Close())
			}
			keep, more := visit(diffID, f, size)
			if !keep {
				_ = f.Close()
			}
			if !more {
				return nil
			}
		}
	})
}

// spool writes a layer into a file, unpacked when it is packed.
func spool(f *os.File, r io.Reader) (diffID string, size int64, err error) {
	var head [2]byte
	n, err := io.ReadFull(r, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", 0, err
	}
	r = io.MultiReader(bytes.NewReader(head[:n]), r)
	if head == [2]byte{0x1f, 0x8b} {
		packed, err := gzip.NewReader(r)
		if err != nil {
			return "", 0, err
		}
		defer packed.Close()
		r = packed
	}
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, sum), r)
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), size, err
}
