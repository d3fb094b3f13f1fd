package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/binary"
)

const (
	// agentDir is where the agent's volume is mounted in every container. It
	// lies outside what images and commands use.
	agentDir = "/.faas"
	// agentPath is the agent inside.
	agentPath = agentDir + "/faas-agent"
	// runDir is the agent's own directory inside: a small tmpfs.
	runDir = "/run/faas"
	// agentSocket is where the agent listens.
	agentSocket = runDir + "/agent.sock"
)

// baseName is the image from which the driver makes the containers that it
// needs for itself: a few empty directories.
func (d *Driver) baseName() string { return "faas/base:" + d.installation }

// baseTar returns the content of that image.
func baseTar() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{".faas/", "dev/", "etc/", "marker/", "proc/", "run/", "sys/", "tmp/", "usr/", "var/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	passwd := []byte("root:x:0:0:root:/:/bin/sh\n")
	if err := w.WriteHeader(&tar.Header{Name: "etc/passwd", Mode: 0o644, Size: int64(len(passwd))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(passwd); err != nil {
		return nil, err
	}
	err := w.Close()
	return buf.Bytes(), err
}

// ensureBase returns the id of the base image, importing it when the engine
// lacks it.
func (d *Driver) ensureBase(ctx context.Context) (string, error) {
	img, err := d.inspectImage(ctx, d.baseName())
	if err == nil && img.Labels[LabelInstallation] == d.installation {
		return img.Digest, nil
	}
	if err != nil && !errors.Is(err, faas.ErrNotFound) {
		return "", err
	}
	content, err := baseTar()
	if err != nil {
		return "", &faas.Error{Kind: faas.KindInternal, Op: "make base image", Err: err}
	}
	if err := d.importImage(ctx, d.baseName(), bytes.NewReader(content), nil); err != nil {
		return "", err
	}
	img, err = d.inspectImage(ctx, d.baseName())
	return img.Digest, err
}

// importImage makes an image of a tar archive. It carries our labels.
func (d *Driver) importImage(ctx context.Context, name string, content io.Reader, labels map[string]string) error {
	changes := []string{
		"LABEL " + LabelInstallation + "=" + d.installation,
		"LABEL " + LabelRole + "=" + roleSkeleton,
	}
	for k, v := range labels {
		changes = append(changes, "LABEL "+k+"="+v)
	}
	return d.engine.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ImageImport(ctx, client.ImageImportSource{Source: content, SourceName: "-"}, name,
			client.ImageImportOptions{Changes: changes, Message: "skeleton of the sandbox platform"})
		if err != nil {
			return err
		}
		defer res.Close()
		answer, err := io.ReadAll(io.LimitReader(res, 64<<10))
		if err == nil && bytes.Contains(answer, []byte(`"errorDetail"`)) {
			err = fmt.Errorf("import of %s: %s", name, bytes.TrimSpace(answer))
		}
		return err
	})
}

// agentVolume returns the name of the volume that holds the agent for the
// engine's architecture, and its digest, filling the volume first when it is
// not there. The agent travels through the API, so the engine may be anywhere.
func (d *Driver) agentVolume(ctx context.Context) (name, digest string, err error) {
	conn, err := d.engine.connect(ctx, false)
	if err != nil {
		return "", "", err
	}
	conn.mu.Lock() // one filling at a time; every call below is bounded
	defer conn.mu.Unlock()
	if conn.agent.name != "" {
		return conn.agent.name, conn.agent.digest, nil
	}
	agent, err := binary.Bytes(conn.version.Arch)
	if err != nil {
		return "", "", err
	}
	digest = binary.Digest(agent)
	name = d.agentVolumeName(digest)
	full, err := d.volumeFilled(ctx, name, digest)
	if err == nil && !full {
		err = d.fillAgentVolume(ctx, name, digest, agent)
	}
	if err != nil {
		return "", "", opError("install guest agent in docker engine", "", err)
	}
	conn.agent.name, conn.agent.digest = name, digest
	return name, digest, nil
}

// agentVolumeName is the name of the volume with the agent of a digest.
func (d *Driver) agentVolumeName(digest string) string {
	return "faas-" + d.installation + "-agent-" + digest[:16]
}

// forgetAgent makes the next sandbox look again whether the volume is there:
// the engine's volumes may have been pruned.
func (d *Driver) forgetAgent(ctx context.Context) {
	if conn, err := d.engine.connect(ctx, false); err == nil {
		conn.mu.Lock()
		conn.agent.name = ""
		conn.mu.Unlock()
	}
}

// volumeFilled says whether the volume holds the whole agent. Its content is
// asked for, since a crash can leave a volume that is empty or half filled:
// the marker is the last entry of the archive.
func (d *Driver) volumeFilled(ctx context.Context, name, digest string) (bool, error) {
	var labels map[string]string
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
		labels = res.Volume.Labels
		return err
	})
	if errors.Is(err, faas.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if labels[LabelInstallation] != d.installation || labels[LabelDigest] != digest {
		return false, &faas.Error{Kind: faas.KindConflict, Detail: "the volume " + name + " exists and is not ours",
			Remedy: "remove it with `docker volume rm " + name + "`"}
	}
	filled := false
	err = d.withCarrier(ctx, name, func(id string) error {
		err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
			_, err := api.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: agentDir + "/" + digest})
			return err
		})
		filled = err == nil
		if errors.Is(err, faas.ErrNotFound) {
			return nil
		}
		return err
	})
	return filled, err
}

func (d *Driver) fillAgentVolume(ctx context.Context, name, digest string, agent []byte) error {
	err := d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: name, Labels: d.agentLabels(digest)})
		return err
	})
	if err != nil {
		return err
	}
	archive, err := agentTar(agent, digest)
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "pack guest agent", Err: err}
	}
	return d.withCarrier(ctx, name, func(id string) error {
		return d.engine.call(ctx, changeTimeout, func(ctx context.Context, api *client.Client) error {
			_, err := api.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: agentDir, Content: bytes.NewReader(archive)})
			return err
		})
	})
}

func (d *Driver) agentLabels(digest string) map[string]string {
	return map[string]string{LabelInstallation: d.installation, LabelRole: roleAgent, LabelDigest: digest}
}

// agentTar packs the agent and, after it, a marker that says it is whole.
func agentTar(agent []byte, digest string) ([]byte, error) {
	buf := bytes.NewBuffer(make([]byte, 0, len(agent)+4096))
	w := tar.NewWriter(buf)
	for _, f := range []struct {
		name string
		mode int64
		data []byte
	}{{"faas-agent", 0o755, agent}, {digest, 0o444, nil}} {
		hdr := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(hdr); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// withCarrier makes a container that has the volume mounted, never starts it,
// and removes it after fn.
func (d *Driver) withCarrier(ctx context.Context, volume string, fn func(id string) error) error {
	carried := mount.Mount{Type: mount.TypeVolume, Source: volume, Target: agentDir, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}
	return d.withContainer(ctx, &container.HostConfig{Mounts: []mount.Mount{carried}}, fn)
}

// withContainer makes a container of the base image, never starts it, and
// removes it after fn.
func (d *Driver) withContainer(ctx context.Context, host *container.HostConfig, fn func(id string) error) (err error) {
	base, err := d.ensureBase(ctx)
	if err != nil {
		return err
	}
	host.NetworkMode = "none"
	var id string
	err = d.engine.call(context.WithoutCancel(ctx), changeTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerCreate(ctx, client.ContainerCreateOptions{
			Config:     &container.Config{Image: base, Entrypoint: []string{agentPath}, Labels: d.labels(roleProbe, "", "")},
			HostConfig: host,
		})
		id = res.ID
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.engine.remove(context.WithoutCancel(ctx), id)) }()
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn(id)
}

// labels are what everything of ours carries.
func (d *Driver) labels(role, sandbox, project string) map[string]string {
	l := map[string]string{LabelInstallation: d.installation, LabelOwner: d.owner.token, LabelRole: role}
	if sandbox != "" {
		l[LabelSandbox], l[LabelProject] = sandbox, project
	}
	return l
}

// isOurs says whether a container is the sandbox of this id, made by this
// installation.
func (d *Driver) isOurs(cfg *container.Config, id string) bool {
	return cfg != nil && cfg.Labels[LabelInstallation] == d.installation && cfg.Labels[LabelSandbox] == id
}
