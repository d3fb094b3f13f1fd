package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest/binary"
)

// Where a sandbox has what the platform puts into it.
const (
	platformDir = "/.faas" // the host's, not writable inside
	agentPath   = platformDir + "/faas-agent"
	keptLayer   = platformDir + "/rw"  // mount of the writable layer
	memoryDir   = platformDir + "/mem" // mount of the memory that it shares with other restores; empty in one that was not restored
	socketPath  = "/run/faas/agent.sock"
	secretPath  = "/run/faas/secret" // the agent reads and removes it
)

// layerPrefix starts the name of an agent's layer. It changes with what such a
// layer holds besides the agent: one that exists is never touched.
const layerPrefix = "layer-2-"

// devices are the nodes of /dev, by minor number: all of major 1, but tty of 5.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// deviceLinks are the symbolic links of /dev.
var deviceLinks = map[string]string{
	"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
	"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
}

// agentLayer is the topmost lower layer of every sandbox. It holds the agent,
// so that the agent's file is one of the sandbox's root like any other and is
// found again by a checkpoint, and the directories that are mounted over, so
// that no symbolic link of an image decides where a mount goes.
type agentLayer struct {
	Dir    string // of the layer
	Agent  string // the agent's executable on the host
	Digest string
}

// installAgent makes the layer for the embedded agent, once per agent and
// shift. What is there already is not touched: running sandboxes map it.
func installAgent(dir string, shift int) (agentLayer, error) {
	path, digest, err := binary.Install(dir)
	if err != nil {
		return agentLayer{}, err
	}
	layer := agentLayer{
		Dir:   filepath.Join(dir, digest, layerPrefix+strconv.Itoa(shift)),
		Agent: path, Digest: digest,
	}
	if _, err := os.Stat(layer.Dir); err == nil {
		return layer, nil
	}
	tmp, err := os.MkdirTemp(filepath.Join(dir, digest), ".layer-*")
	if err != nil {
		return agentLayer{}, err
	}
	if err := fillAgentLayer(tmp, path, shift); err != nil {
		return agentLayer{}, errors.Join(fmt.Errorf("make the agent's layer: %w", err), os.RemoveAll(tmp))
	}
	err = os.Rename(tmp, layer.Dir)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return agentLayer{}, errors.Join(fmt.Errorf("make the agent's layer: %w", err), os.RemoveAll(tmp))
	}
	return layer, ignoreMissing(os.RemoveAll(tmp))
}

func fillAgentLayer(dir, agent string, shift int) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, d := range []string{"proc", "sys", "dev", "dev/pts", "dev/shm", "run", "run/faas"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	// Plain users cannot make device nodes: they get the machine's own, each
	// bound over an empty file. Root's /dev is mounted over all of this.
	for _, d := range devices {
		if err := os.WriteFile(filepath.Join(dir, "dev", d.name), nil, 0o644); err != nil {
			return err
		}
	}
	if err := makeDeviceLinks(filepath.Join(dir, "dev")); err != nil {
		return err
	}
	if err := shiftOwner(dir, shift); err != nil {
		return err
	}
	// What follows stays the host's: the sandbox's root may not change it.
	platform := filepath.Join(dir, platformDir)
	for _, d := range []string{keptLayer, memoryDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	return placeAgent(agent, filepath.Join(platform, filepath.Base(agentPath)))
}

// placeAgent links the agent into the layer, so that all sandboxes share one
// file in memory, or copies it where the file system has no hard links.
func placeAgent(agent, path string) error {
	if err := os.Link(agent, path); err == nil {
		return nil
	}
	b, err := os.ReadFile(agent)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o755) //nolint:gosec // an executable
}

func makeDeviceLinks(dir string) error {
	for name, target := range deviceLinks {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func shiftOwner(dir string, shift int) error {
	if shift == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, shift, shift)
	})
}

// installDevices makes root's /dev, which all sandboxes share read-only: one
// mount in place of one per node.
func installDevices(dir string) (string, error) {
	path := filepath.Join(dir, "dev")
	if _, err := os.Stat(path); err == nil {
		return path, checkDevices(path)
	}
	tmp, err := os.MkdirTemp(dir, ".dev-*")
	if err != nil {
		return "", err
	}
	if err := fillDevices(tmp); err != nil {
		return "", errors.Join(fmt.Errorf("make device nodes: %w", err), os.RemoveAll(tmp))
	}
	err = os.Rename(tmp, path)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return "", errors.Join(err, os.RemoveAll(tmp))
	}
	return path, errors.Join(ignoreMissing(os.RemoveAll(tmp)), checkDevices(path))
}

func fillDevices(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // /dev is for all
		return err
	}
	for _, d := range devices {
		node := filepath.Join(dir, d.name)
		if err := unix.Mknod(node, unix.S_IFCHR, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return err
		}
		if err := unix.Chmod(node, 0o666); err != nil {
			return err
		}
	}
	for _, sub := range []string{"pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	return makeDeviceLinks(dir)
}

// checkDevices sees that the nodes can be opened: a data directory may lie on
// a file system that is mounted nodev.
func checkDevices(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "null"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("device nodes below %s do not work (is the file system mounted nodev?): %w", dir, err)
	}
	return f.Close()
}
