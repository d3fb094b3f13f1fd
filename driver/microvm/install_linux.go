package microvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// installTimeout bounds one program of the package manager.
const installTimeout = 10 * time.Minute

// KernelPackages names the packages of this machine's distribution that hold a
// kernel for machines: those that InstallKernel unpacks.
func KernelPackages(ctx context.Context) ([]string, error) {
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, faas.Unavailable("this machine has no "+program+", and packages of other distributions are not known here",
				"install a kernel of the distribution by hand and name it in the setting microvm.kernel")
		}
	}
	for _, meta := range []string{"linux-image-cloud-" + runtime.GOARCH, "linux-image-kvm", "linux-image-virtual", "linux-image-" + runtime.GOARCH} {
		out, err := output(ctx, "", "apt-cache", "depends", "--no-recommends", "--no-suggests", meta)
		if err != nil {
			continue // another distribution's name
		}
		if image := kernelPackage.FindStringSubmatch(out); image != nil {
			return withModules(ctx, image[1]), nil
		}
	}
	return nil, faas.Unavailable("the package manager knows no kernel here", "run apt-get update as root, and try again")
}

var kernelPackage = regexp.MustCompile(`Depends: (linux-image-[0-9]\S*)`)

// withModules adds the package of the modules, where it is one of its own.
func withModules(ctx context.Context, image string) []string {
	modules := strings.Replace(image, "linux-image-", "linux-modules-", 1)
	if _, err := output(ctx, "", "apt-cache", "show", modules); err == nil {
		return []string{image, modules}
	}
	return []string{image}
}

// InstallKernel downloads packages with the machine's package manager and
// unpacks them into a directory of their own below dir, the driver's. Nothing
// is installed into the system. It returns the kernel's path.
func InstallKernel(ctx context.Context, dir string, packages []string) (string, error) {
	if len(packages) == 0 {
		return "", faas.InvalidField("packages", "none are named")
	}
	kernels := filepath.Join(dir, kernelsDir)
	if err := os.MkdirAll(kernels, 0o711); err != nil { //nolint:gosec // machines read the kernel
		return "", err
	}
	tmp, err := os.MkdirTemp(kernels, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // it is gone when all went well
	args := append([]string{"download", "-qq", "-o", "APT::Sandbox::User=root"}, packages...)
	if said, err := output(ctx, tmp, "apt-get", args...); err != nil {
		return "", fmt.Errorf("apt-get download: %w: %s", err, said)
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(found) == 0 {
		return "", errors.Join(err, errors.New("apt-get downloaded nothing"))
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range found {
		if said, err := output(ctx, tmp, "dpkg-deb", "-x", deb, root); err != nil {
			return "", fmt.Errorf("dpkg-deb: %w: %s", err, said)
		}
	}
	return keepKernel(kernels, root, packages[0])
}

// keepKernel moves an unpacked kernel to its place, once it is one that
// machines can boot.
func keepKernel(kernels, root, name string) (string, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) == 0 {
		return "", errors.Join(err, errors.New("the packages hold no kernel"))
	}
	if _, err := openKernel(images[0]); err != nil {
		return "", err
	}
	if err := os.Chmod(root, 0o755); err != nil { //nolint:gosec // machines read it
		return "", err
	}
	place := filepath.Join(kernels, name)
	old := place + ".old"
	if err := os.RemoveAll(old); err != nil {
		return "", err
	}
	if err := os.Rename(place, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.Rename(root, place); err != nil {
		return "", err
	}
	return filepath.Join(place, "boot", filepath.Base(images[0])), os.RemoveAll(old)
}

// output runs a program and returns what it said, its beginning.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	const most = 16 << 10
	return strings.TrimSpace(string(out[:min(len(out), most)])), err
}
