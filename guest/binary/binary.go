// Package binary carries the guest agent's executables for the platforms that
// sandboxes run on, so that one faas binary is enough on a machine.
//
// The files are built by `make agent` (every target that needs them does so)
// and are not kept in version control. An agent is installed under the digest
// of its content and never overwritten: a snapshot maps the agent that was
// running when it was taken, and must find those very bytes again.
package binary

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/faas-platform/faas"
)

//go:embed all:files
var files embed.FS

// Bytes returns the agent's executable for a Linux architecture in Go's
// spelling (amd64, arm64); the empty string means this machine's.
func Bytes(arch string) ([]byte, error) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	b, err := files.ReadFile("files/faas-agent-linux-" + arch)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &faas.Error{
			Kind: faas.KindCapabilityUnavailable, Op: "load guest agent",
			Detail: "this build carries no guest agent for linux/" + arch,
			Remedy: "build with `make build`, which builds the agent first",
		}
	}
	return b, err
}

// AgentDigest returns Digest(Bytes(arch)). Where the build noted it beside the
// executable nothing is read and hashed, which every start would wait for.
func AgentDigest(arch string) (string, error) {
	if arch == "" {
		arch = runtime.GOARCH
	}
	noted, err := files.ReadFile("files/faas-agent-linux-" + arch + ".sha256")
	if digest := strings.TrimSpace(string(noted)); err == nil && len(digest) == hex.EncodedLen(sha256.Size) {
		return digest, nil
	}
	b, err := Bytes(arch)
	if err != nil {
		return "", err
	}
	return Digest(b), nil
}

// size returns len(Bytes("")) without reading them.
func size() (int64, error) {
	info, err := fs.Stat(files, "files/faas-agent-linux-"+runtime.GOARCH)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Digest returns the sha256 of an executable in hexadecimal.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Install puts this machine's agent below dir, named by its digest, and
// returns its path. It is safe to call from several processes at once.
func Install(dir string) (path, digest string, err error) {
	if digest, err = AgentDigest(""); err != nil {
		return "", "", err
	}
	path = filepath.Join(dir, digest, "faas-agent")
	if st, err := os.Stat(path); err == nil {
		if want, err := size(); err == nil && st.Size() == want {
			return path, digest, nil
		}
	}
	b, err := Bytes("")
	if err != nil {
		return "", "", err
	}
	if Digest(b) != digest {
		return "", "", &faas.Error{Kind: faas.KindInternal, Op: "install guest agent",
			Detail: "the digest that this build notes is not that of its agent", Remedy: "build again with `make build`"}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", "", fmt.Errorf("install guest agent: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".agent-*")
	if err != nil {
		return "", "", fmt.Errorf("install guest agent: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(0o755), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", "", fmt.Errorf("install guest agent: %w", err)
	}
	return path, digest, nil
}
