package microvm

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// kernel is what machines boot.
type kernel struct {
	Image   string // bzImage
	Release string
	modules string // directory of its modules
	config  map[string]string
}

// needed are the kernel's options that machines need, and the modules that
// have them where they are not built in.
var needed = []struct{ option, module string }{
	{"VIRTIO", "virtio"}, {"VIRTIO", "virtio_ring"}, {"VIRTIO_MMIO", "virtio_mmio"},
	{"VIRTIO_BLK", "virtio_blk"}, {"VIRTIO_CONSOLE", "virtio_console"}, {"VIRTIO_NET", "virtio_net"},
	{"HW_RANDOM_VIRTIO", "virtio_rng"}, {"EXT4_FS", "ext4"}, {"SQUASHFS", "squashfs"}, {"OVERLAY_FS", "overlay"},
	{"ACPI", ""}, {"SERIAL_8250_CONSOLE", ""}, {"DEVTMPFS", ""}, {"BLK_DEV_INITRD", ""}, {"CGROUP_PIDS", ""}, {"MEMCG", ""},
	{"SQUASHFS_XATTR", ""},
}

// findKernel looks at the kernel that was asked for, else at those that were
// installed into dir, else at the machine's own.
func findKernel(asked, dir string) (*kernel, error) {
	if asked != "" {
		return openKernel(asked)
	}
	var first error
	installed, _ := filepath.Glob(filepath.Join(dir, "*", "boot", "vmlinuz-*")) //nolint:errcheck // the pattern is ours
	slices.SortFunc(installed, newestFirst)
	for _, image := range append(installed, ownKernel()...) {
		k, err := openKernel(image)
		if err == nil {
			return k, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = faas.Unavailable("there is no kernel to boot", kernelRemedy)
	}
	return nil, first
}

func newestFirst(a, b string) int { return strings.Compare(filepath.Base(b), filepath.Base(a)) }

// ownKernel is the image of the kernel that runs, where it is there.
func ownKernel() []string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return nil
	}
	image := "/boot/vmlinuz-" + unix.ByteSliceToString(name.Release[:])
	if _, err := os.Stat(image); err != nil {
		return nil
	}
	return []string{image}
}

// openKernel looks at the kernel at ROOT/boot/vmlinuz-RELEASE, whose
// configuration is beside it and whose modules are below ROOT/lib/modules (or
// ROOT/usr/lib/modules), as distributions package it.
func openKernel(image string) (*kernel, error) {
	release, ok := strings.CutPrefix(filepath.Base(image), "vmlinuz-")
	if !ok {
		return nil, faas.InvalidField("microvm.kernel", "%s is not named vmlinuz-RELEASE, as kernels of distributions are, with config-RELEASE beside it", image)
	}
	k := &kernel{Image: image, Release: release}
	if f, err := os.Open(image); err != nil {
		return nil, faas.Unavailable("the kernel cannot be read: "+err.Error(), kernelRemedy)
	} else {
		f.Close() //nolint:errcheck // read only
	}
	root := filepath.Dir(filepath.Dir(image))
	for _, dir := range []string{"lib/modules", "usr/lib/modules"} {
		path := filepath.Join(root, dir, release)
		if _, err := os.Stat(path); err == nil {
			k.modules = path
			break
		}
	}
	var err error
	if k.config, err = readKernelConfig(filepath.Join(filepath.Dir(image), "config-"+release)); err != nil {
		return nil, faas.Unavailable("the kernel's configuration cannot be read: "+err.Error(), kernelRemedy)
	}
	if missing := k.missing(); len(missing) > 0 {
		return nil, faas.Unavailable("the kernel "+release+" lacks "+strings.Join(missing, ", "), kernelRemedy)
	}
	return k, nil
}

func readKernelConfig(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), "="); ok {
			out[strings.TrimPrefix(name, "CONFIG_")] = value
		}
	}
	return out, lines.Err()
}

// missing names the options that it was built without.
func (k *kernel) missing() []string {
	var out []string
	for _, n := range needed {
		have := k.config[n.option]
		if have != "y" && (have != "m" || n.module == "" || k.modules == "") && !slices.Contains(out, "CONFIG_"+n.option) {
			out = append(out, "CONFIG_"+n.option)
		}
	}
	return out
}

// module is one of the kernel's modules, uncompressed.
type module struct {
	name    string
	content []byte
}

// load reads the modules that machines need, each behind those that it needs.
func (k *kernel) load() ([]module, error) {
	if k.modules == "" {
		return nil, nil
	}
	files := map[string]string{}
	err := filepath.WalkDir(filepath.Join(k.modules, "kernel"), func(path string, entry fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok && err == nil && !entry.IsDir() {
			files[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	l := &moduleLoader{files: files, done: map[string]bool{}}
	for _, n := range needed {
		if n.module == "" || k.config[n.option] != "m" {
			continue
		}
		if err := l.add(n.module); err != nil {
			return nil, err
		}
	}
	return l.out, nil
}

// moduleName is how modules name each other, whatever their files are called.
func moduleName(file string) string { return strings.ReplaceAll(file, "-", "_") }

type moduleLoader struct {
	files map[string]string
	done  map[string]bool
	out   []module
}

func (l *moduleLoader) add(name string) error {
	if l.done[name] {
		return nil
	}
	l.done[name] = true
	path, ok := l.files[name]
	if !ok {
		return fmt.Errorf("the kernel's modules lack %s", name)
	}
	content, err := readModule(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	needs, err := dependencies(content)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, other := range needs {
		if err := l.add(moduleName(other)); err != nil {
			return err
		}
	}
	l.out = append(l.out, module{name: name, content: content})
	return nil
}

// dependencies reads what a module says that it needs.
func dependencies(content []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("it is no kernel module")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
