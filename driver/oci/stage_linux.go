package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/driver/pidfd"
)

// stageDir is where a stage's mounts are, on its thread only. Restored
// processes walk there as users of their own, which a sandbox's directory on
// the host does not let them.
const stageDir = "/run/stage"

// featureCache is a tmpfs that CRIU finds on /run: it keeps what it learnt of
// the kernel in a file there, and trusts that file on a tmpfs only. Learning
// it anew takes some 25 ms of every operation.
type featureCache struct {
	mu    sync.Mutex
	mount *os.File
}

// get returns the tmpfs, which is mounted nowhere.
func (f *featureCache) get() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mount == nil {
		fd, err := detachedMount("tmpfs", map[string]string{"size": "1m", "mode": "0711"})
		if err != nil {
			return nil, err
		}
		if err := unix.Mkdirat(fd, filepath.Base(stageDir), 0o711); err != nil {
			return nil, errors.Join(err, unix.Close(fd))
		}
		f.mount = os.NewFile(uintptr(fd), "CRIU's feature cache")
	}
	return f.mount, nil
}

func (f *featureCache) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mount == nil {
		return nil
	}
	err := f.mount.Close()
	f.mount = nil
	return err
}

// onStage runs f on a thread with a mount namespace of its own, in which CRIU
// finds its feature cache. Whatever f mounts, and the thread's control groups,
// end with the thread: a crash leaves nothing.
func (n *Native) onStage(f func() error) error {
	cache, err := n.criuCache.get()
	if err != nil {
		return fmt.Errorf("mount CRIU's feature cache: %w", err)
	}
	defer runtime.KeepAlive(cache)
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make the mounts private: %w", err)
		}
		tree, err := unix.OpenTree(int(cache.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("attach CRIU's feature cache: %w", err)
		}
		defer unix.Close(tree)
		if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/run", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach CRIU's feature cache: %w", err)
		}
		return f()
	})
}

// stageMounts mounts what a restored sandbox finds as external: its root, its
// writable layer and every mount that CRIU does not make itself. It runs on a
// stage's thread.
type stageMounts struct {
	root     string
	external []string // CRIU's --external
	places   map[string]string
}

// externalKey names a mount between dump and restore.
func externalKey(target string) string { return "faas" + strings.ReplaceAll(target, "/", "-") }

// external says whether CRIU leaves a mount of the configuration to us. It
// makes proc and devpts itself; of a tmpfs it would save the files by starting
// tar, which takes longer than all the rest.
func external(m specs.Mount) bool { return m.Type != "proc" && m.Type != "devpts" }

func newStage() (*stageMounts, error) {
	if err := unix.Mount("stage", stageDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=0711"); err != nil {
		return nil, fmt.Errorf("mount a staging tmpfs: %w", err)
	}
	return &stageMounts{places: map[string]string{}}, nil
}

func (s *stageMounts) place(name string) (string, error) {
	path := filepath.Join(stageDir, name)
	return path, os.Mkdir(path, 0o755)
}

func (s *stageMounts) mountRoot(layers []string, l layer, readOnly bool) error {
	var err error
	if s.root, err = s.place("root"); err != nil {
		return err
	}
	lower, err := lowerOption(layers)
	if err != nil {
		return err
	}
	defer lower.close()
	options := "userxattr,lowerdir=" + lower.option
	flags := uintptr(unix.MS_NODEV)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if l != nil {
		rw, err := s.place("rw")
		if err != nil {
			return err
		}
		if err := l.mountAt(rw); err != nil {
			return fmt.Errorf("mount the writable layer: %w", err)
		}
		options += ",upperdir=" + rw + "/upper,workdir=" + rw + "/work"
		s.add(keptLayer, rw)
	}
	if err := unix.Mount("overlay", s.root, "overlay", flags, options); err != nil {
		return fmt.Errorf("mount the root overlay (%s): %w", options, err)
	}
	return nil
}

func (s *stageMounts) add(target, path string) {
	s.external = append(s.external, "mnt["+externalKey(target)+"]:"+path)
	s.places[target] = path
}

// lowerDirs are directories opened so that their names fit into the one page
// that the mount call takes.
type lowerDirs struct {
	option string
	files  []*os.File
}

func (l *lowerDirs) close() {
	for _, f := range l.files {
		f.Close() //nolint:errcheck // opened by path only
	}
}

func lowerOption(layers []string) (*lowerDirs, error) {
	l := &lowerDirs{}
	var names []string
	for _, path := range layers {
		f, err := openPath(path)
		if err != nil {
			l.close()
			return nil, err
		}
		l.files = append(l.files, f)
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	l.option = strings.Join(names, ":")
	return l, nil
}

// mountExternal mounts one mount of the configuration.
func (s *stageMounts) mountExternal(i int, m specs.Mount) error {
	path, err := s.place(fmt.Sprintf("m%d", i))
	if err != nil {
		return err
	}
	flags, data := mountOptions(m.Options)
	if m.Type != "bind" {
		err = unix.Mount(m.Type, path, m.Type, uintptr(flags), strings.Join(data, ","))
	} else if err = unix.Mount(m.Source, path, "", unix.MS_BIND, ""); err == nil && flags&^unix.MS_BIND != 0 {
		err = unix.Mount("", path, "", uintptr(flags)|unix.MS_BIND|unix.MS_REMOUNT, "")
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Destination, err)
	}
	s.add(m.Destination, path)
	return nil
}

// upperOf opens the directory of a running sandbox's changes. The way leads
// through the sandbox's own root, so symbolic links are refused and what is
// found must be the file system that was mounted there.
func (s *sandbox) upperOf() (string, func() error, error) {
	base := fmt.Sprintf("/proc/%d", s.process.ID.PID)
	root, err := openPath(base + "/root")
	if err != nil {
		return "", nil, err
	}
	defer root.Close()
	if !s.process.ID.Alive() {
		return "", nil, pidfd.ErrGone
	}
	fd, err := unix.Openat2(int(root.Fd()), "."+keptLayer+"/upper", &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return "", nil, fmt.Errorf("open the writable layer: %w", err)
	}
	upper := os.NewFile(uintptr(fd), "upper")
	if err := isMountedAt(base+"/mountinfo", keptLayer, fd); err != nil {
		return "", nil, errors.Join(err, upper.Close())
	}
	return fmt.Sprintf("/proc/self/fd/%d/.", fd), upper.Close, nil
}

// isMountedAt says whether an open file lies on the mount of a mount point.
func isMountedAt(mountinfo, point string, fd int) error {
	b, err := os.ReadFile(mountinfo)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	device := fmt.Sprintf("%d:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[4] == point && fields[2] == device {
			return nil
		}
	}
	return fmt.Errorf("%s inside is not the writable layer", point)
}
