package launch

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// stage is a directory that every machine has and that building needs nothing
// of. A tmpfs on it, in this mount namespace only, holds the mount points that
// are needed on the way; it goes away with the old root.
const stage = "/etc"

// build makes the new root with all its mounts and enters it.
func build(cfg *Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("stage", stage, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k,mode=0700"); err != nil {
		return fmt.Errorf("mount a staging tmpfs: %w", err)
	}
	unix.Umask(0)
	root := stage + "/root"
	if err := mountRoot(cfg.Root, root); err != nil {
		return err
	}
	for _, m := range cfg.Mounts {
		if err := mount(root, m); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
		}
	}
	if err := enter(root); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return finish(cfg)
}

// finish sets what is inside once the root is entered.
func finish(cfg *Config) error {
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("set the host name to %q: %w", cfg.Hostname, err)
	}
	if err := LoopbackUp(); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	for name, value := range cfg.Sysctls {
		err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0)
		if err != nil && !os.IsNotExist(err) { // a kernel without it needs no setting
			return fmt.Errorf("set %s to %s: %w", name, value, err)
		}
	}
	for _, f := range cfg.Files {
		if err := os.WriteFile(f.Path, f.Content, os.FileMode(f.Mode)); err != nil {
			return err
		}
	}
	unix.Umask(0o022)
	return nil
}

// mountRoot mounts the overlay at target, which it makes.
func mountRoot(r Root, target string) error {
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	lower, err := attach(r.Lower)
	if err != nil {
		return err
	}
	options := "lowerdir=" + lower
	if !r.Privileged {
		options = "userxattr," + options
	}
	flags := uintptr(unix.MS_NODEV)
	if r.Writable == nil {
		return overlay(target, flags|unix.MS_RDONLY, options)
	}
	upper, work, err := r.Writable.prepare()
	if err != nil {
		return fmt.Errorf("prepare the writable layer: %w", err)
	}
	if err := overlay(target, flags, options+",upperdir="+upper+",workdir="+work); err != nil {
		return err
	}
	return r.Writable.keep(target)
}

func overlay(target string, flags uintptr, options string) error {
	if err := unix.Mount("overlay", target, "overlay", flags, options); err != nil {
		return fmt.Errorf("mount the overlay (%s): %w", options, err)
	}
	return nil
}

// prepare attaches or mounts the layer and returns its two directories.
func (w *Writable) prepare() (upper, work string, err error) {
	dir := stage + "/rw"
	if w.FD != 0 {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", "", err
		}
		return fdPath(w.UpperFD), fdPath(w.WorkFD), moveMount(w.FD, dir)
	}
	if w.Dir != "" {
		return w.Dir + "/upper", w.Dir + "/work", nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", "", err
	}
	if err := unix.Mount("rw", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, w.Tmpfs); err != nil {
		return "", "", err
	}
	upper, work = dir+"/upper", dir+"/work"
	if err := os.Mkdir(upper, 0o755); err != nil {
		return "", "", err
	}
	return upper, work, os.Mkdir(work, 0o700)
}

// keep moves the layer's mount to where the host finds it again.
func (w *Writable) keep(root string) error {
	if w.Keep == "" || w.Dir != "" {
		return nil
	}
	target, err := openInside(root, w.Keep)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	if err := unix.Mount(stage+"/rw", fdPath(target), "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("keep the writable layer at %s: %w", w.Keep, err)
	}
	return nil
}

// attach gives every directory a place in this mount namespace (an overlay
// takes no others) and returns them as a lowerdir option.
func attach(dirs []Dir) (string, error) {
	paths := make([]string, 0, len(dirs))
	for _, d := range dirs {
		if d.FD == 0 {
			// By descriptor, so that many layers fit into the one page that
			// the kernel takes, and no character of a path means anything.
			fd, err := unix.Open(d.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return "", fmt.Errorf("open the layer %s: %w", d.Path, err)
			}
			paths = append(paths, fdPath(fd))
			continue
		}
		place := stage + "/" + strconv.Itoa(d.FD)
		if err := os.Mkdir(place, 0o755); err != nil {
			return "", err
		}
		if err := moveMount(d.FD, place); err != nil {
			return "", err
		}
		paths = append(paths, fdPath(d.FD))
	}
	return strings.Join(paths, ":"), nil
}

func moveMount(fd int, target string) error {
	err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
	if err != nil {
		return fmt.Errorf("attach a mount of the host: %w", err)
	}
	return nil
}

func mount(root string, m Mount) error {
	fd, err := openInside(root, m.Target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	target := fdPath(fd)
	switch {
	case m.Type == "bind":
		return bind(root, m, target)
	case len(m.Lower) > 0:
		lower, err := attach(m.Lower)
		if err != nil {
			return err
		}
		options := "lowerdir=" + lower
		if m.Data != "" {
			options = m.Data + "," + options
		}
		return unix.Mount(m.Type, target, m.Type, uintptr(m.Flags), options)
	}
	return unix.Mount(m.Type, target, m.Type, uintptr(m.Flags), m.Data)
}

// bind attaches a directory or file of the host and then restricts it: flags
// of a bind mount take a second call, on the mount that the first one made.
func bind(root string, m Mount, target string) error {
	if m.From.FD != 0 {
		if err := moveMount(m.From.FD, target); err != nil {
			return err
		}
	} else if err := unix.Mount(m.From.Path, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if m.Flags == 0 {
		return nil
	}
	fd, err := openInside(root, m.Target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Mount("", fdPath(fd), "", unix.MS_BIND|unix.MS_REMOUNT|uintptr(m.Flags), "")
}

// openInside opens a path below the new root without ever leaving it, whatever
// symbolic links the image holds.
func openInside(root, path string) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// enter makes root the root and lets go of the old one with all its mounts.
func enter(root string) error {
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	// The old root now lies on top of the new one at the same place.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// LoopbackUp brings the loopback interface of the thread's network namespace up.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
