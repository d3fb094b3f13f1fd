package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

const (
	watchMask = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE |
		unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	// maxWatches bounds the directories of one recursive watch.
	maxWatches = 8192
)

// watcher reports what changes below a path.
type watcher struct {
	*request
	fd        int
	file      *os.File
	base      string // where the watched path lies on this machine
	asked     string
	recursive bool
	paths     map[int32]string
}

func (r *request) watch(path string, args wire.FileArgs) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return &faas.Error{
			Kind: faas.KindResourceExhausted, Detail: "no further watch can be made",
			Remedy: "end other watches, or raise fs.inotify.max_user_instances", Err: err,
		}
	}
	w := &watcher{
		request: r, fd: fd, file: os.NewFile(uintptr(fd), "inotify"), base: path, asked: args.Path,
		recursive: args.Recursive, paths: map[int32]string{},
	}
	defer w.file.Close() //nolint:errcheck // read only
	if err := w.add(path); err != nil {
		return fileError("path", args.Path, err)
	}
	if w.recursive {
		if err := w.addBelow(path, false); err != nil {
			return fileError("path", args.Path, err)
		}
	}
	if err := r.reply(nil); err != nil {
		return err
	}
	stop := context.AfterFunc(r.ctx, func() { w.file.Close() }) //nolint:errcheck // ends the read
	defer stop()
	return w.run()
}

func (w *watcher) add(path string) error {
	if len(w.paths) >= maxWatches {
		return faas.Errorf(faas.KindResourceExhausted, "more than %d directories would be watched", maxWatches)
	}
	wd, err := unix.InotifyAddWatch(w.fd, path, watchMask)
	if err != nil {
		return err
	}
	w.paths[int32(wd)] = path
	return nil
}

// addBelow watches the directories below one. What was made in a new one
// before its watch is reported as created.
func (w *watcher) addBelow(dir string, report bool) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if path == dir {
			return nil
		}
		if err != nil {
			return nil // it has gone
		}
		if report {
			if err := w.send(path, guest.EventCreated); err != nil {
				return err
			}
		}
		if !e.IsDir() {
			return nil
		}
		err = w.add(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func (w *watcher) run() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return nil // closed
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			size := int(binary.NativeEndian.Uint32(b[12:]))
			if len(b) < unix.SizeofInotifyEvent+size {
				break
			}
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size]), "\x00")
			wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
			b = b[unix.SizeofInotifyEvent+size:]
			if err := w.event(wd, mask, name); err != nil {
				return err
			}
		}
	}
}

func (w *watcher) event(wd int32, mask uint32, name string) error {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		return w.send(w.base, guest.EventOverflow)
	}
	dir, known := w.paths[wd]
	if mask&unix.IN_IGNORED != 0 {
		delete(w.paths, wd)
		return nil
	}
	if !known {
		return nil
	}
	path := dir
	if name != "" {
		path = filepath.Join(dir, name)
	}
	isDir := mask&unix.IN_ISDIR != 0
	switch {
	case mask&unix.IN_CREATE != 0:
		return w.appeared(path, guest.EventCreated, isDir)
	case mask&unix.IN_MOVED_TO != 0:
		return w.appeared(path, guest.EventRenamed, isDir)
	case mask&(unix.IN_MODIFY|unix.IN_CLOSE_WRITE|unix.IN_ATTRIB) != 0:
		if isDir && name == "" && dir != w.base {
			return nil // its parent has reported it
		}
		return w.send(path, guest.EventModified)
	case mask&unix.IN_MOVED_FROM != 0:
		if isDir {
			w.forget(path)
		}
		return w.send(path, guest.EventRemoved)
	case mask&unix.IN_DELETE != 0:
		return w.send(path, guest.EventRemoved)
	case mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 && dir == w.base:
		return w.send(path, guest.EventRemoved)
	}
	return nil
}

func (w *watcher) appeared(path, event string, isDir bool) error {
	if err := w.send(path, event); err != nil {
		return err
	}
	if !isDir || !w.recursive {
		return nil
	}
	if err := w.add(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return w.send(w.base, guest.EventOverflow) // not all is watched any more
	}
	if err := w.addBelow(path, true); err != nil {
		return w.send(w.base, guest.EventOverflow)
	}
	return nil
}

// forget ends the watches of a directory that was moved: its new place, if it
// is watched, gets new ones.
func (w *watcher) forget(dir string) {
	for wd, path := range w.paths {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			unix.InotifyRmWatch(w.fd, uint32(wd)) //nolint:errcheck // it may have ended by itself
			delete(w.paths, wd)
		}
	}
}

func (w *watcher) send(path, event string) error {
	shown := w.asked
	if rest := strings.TrimPrefix(path, w.base); rest != "" {
		shown = filepath.Join(w.asked, rest)
	}
	line, err := json.Marshal(guest.FileEvent{Path: strings.ToValidUTF8(shown, "\uFFFD"), Event: event})
	if err != nil {
		return err
	}
	_, err = w.out.Write(append(line, '\n'))
	return err
}
