//go:build unix

package agent

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// asidePrefix begins the names of files that are being written.
const asidePrefix = ".faas-write-"

// fileError makes the error of an operation on a path.
func fileError(field, path string, err error) error {
	var known *faas.Error
	if errors.As(err, &known) {
		return err
	}
	kind, remedy := faas.KindInternal, ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind = faas.KindNotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		kind = faas.KindPermissionDenied
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY):
		kind = faas.KindConflict
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		kind, remedy = faas.KindResourceExhausted, "make room, or raise the sandbox's disk limit"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EXDEV):
		kind = faas.KindInvalidArgument
	}
	e := &faas.Error{Kind: kind, Detail: path + ": " + reason(err), Remedy: remedy}
	if kind == faas.KindInvalidArgument {
		e.Field = field
	}
	return e
}

// reason is the innermost text of an error, without the machine's own paths.
func reason(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

func describe(name string, path string, st fs.FileInfo) guest.FileInfo {
	out := guest.FileInfo{Name: name, Size: st.Size(), Mode: st.Mode(), ModTime: st.ModTime()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		out.UID, out.GID = int(sys.Uid), int(sys.Gid)
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		out.Target, _ = os.Readlink(path) //nolint:errcheck // it may be gone by now
	}
	return out
}

func statFile(path, asked string) (guest.FileInfo, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return guest.FileInfo{}, fileError("path", asked, err)
	}
	return describe(asked, path, st), nil
}

func (r *request) list(path, asked string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fileError("path", asked, err)
	}
	out := make([]guest.FileInfo, 0, len(entries))
	for _, e := range entries {
		full := filepath.Join(path, e.Name())
		if st, err := os.Lstat(full); err == nil {
			out = append(out, describe(strings.ToValidUTF8(e.Name(), "\uFFFD"), full, st))
		}
	}
	return lines(r, out)
}

// diskFile keeps the number of threads that wait for a disk bounded.
type diskFile struct {
	agent *Agent
	file  *os.File
}

func (d diskFile) Read(p []byte) (int, error) {
	d.agent.disk <- struct{}{}
	defer func() { <-d.agent.disk }()
	return d.file.Read(p)
}

func (d diskFile) Write(p []byte) (int, error) {
	d.agent.disk <- struct{}{}
	defer func() { <-d.agent.disk }()
	return d.file.Write(p)
}

func (r *request) readFile(path string, args wire.FileArgs) error {
	// Opening a FIFO or a device must not wait for its other end.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fileError("path", args.Path, err)
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return fileError("path", args.Path, err)
	}
	if st.IsDir() {
		return faas.InvalidField("path", "%s is a directory", args.Path)
	}
	if args.Offset < 0 {
		return faas.InvalidField("offset", "it is negative")
	}
	if args.Offset > 0 {
		if _, err := f.Seek(args.Offset, io.SeekStart); err != nil {
			return fileError("offset", args.Path, err)
		}
	}
	if err := r.reply(describe(args.Path, path, st)); err != nil {
		return err
	}
	var src io.Reader = diskFile{r.agent, f}
	if args.Length >= 0 {
		src = io.LimitReader(src, args.Length)
	}
	if _, err := r.out.ReadFrom(src); err != nil {
		return fileError("path", args.Path, err)
	}
	return r.out.CloseWrite()
}

// writeFile writes a file from the request's body.
func (r *request) writeFile(path string, args wire.FileArgs) (any, error) {
	who, err := r.agent.lookupUser(args.User)
	if err != nil {
		return nil, err
	}
	if args.Parents {
		if err := r.agent.makeDirs(filepath.Dir(path), 0o755, who); err != nil {
			return nil, fileError("path", filepath.Dir(args.Path), err)
		}
	}
	if r.agent.cfg.Root == "" {
		// A symbolic link is written through, not replaced.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
	}
	old, err := os.Stat(path)
	switch {
	case err == nil && old.IsDir():
		return nil, faas.InvalidField("path", "%s is a directory", args.Path)
	case err == nil && !old.Mode().IsRegular():
		args.Append = true // a device or FIFO is written to, never replaced
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fileError("path", args.Path, err)
	case err != nil:
		old = nil
	}
	w := &fileWrite{request: r, path: path, args: args, who: who, old: old}
	if args.Append {
		err = w.inPlace()
	} else {
		err = w.aside()
	}
	if err != nil {
		return nil, fileError("path", args.Path, err)
	}
	return statFile(path, args.Path)
}

// fileWrite is one file being written.
type fileWrite struct {
	*request
	path string
	args wire.FileArgs
	who  user
	old  fs.FileInfo // nil: there was none
}

func (w *fileWrite) mode() fs.FileMode {
	if w.args.Mode == 0 {
		return 0o644
	}
	return w.args.Mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

// copy takes the body. The client learns with the reply that it may send.
func (w *fileWrite) copy(f *os.File) error {
	if err := w.reply(nil); err != nil {
		return err
	}
	_, err := w.in.WriteTo(diskFile{w.agent, f})
	return err
}

func (w *fileWrite) inPlace() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, w.mode().Perm())
	if err != nil {
		return err
	}
	if w.old == nil {
		err = w.own(f)
	}
	if err == nil {
		err = w.copy(f)
	}
	return errors.Join(err, f.Close())
}

// aside writes a new file and puts it into the place of the old.
func (w *fileWrite) aside() error {
	f, err := os.CreateTemp(filepath.Dir(w.path), asidePrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is gone when all went well
	err = w.own(f)
	if err == nil {
		err = w.copy(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), w.path)
}

// own gives the new file its owner and mode: the old file's, where there was
// one, unless asked otherwise.
func (w *fileWrite) own(f *os.File) error {
	uid, gid, mode := w.who.uid, w.who.gid, w.mode()
	if w.old != nil {
		mode = w.old.Mode()
		if sys, ok := w.old.Sys().(*syscall.Stat_t); ok && w.args.User == "" {
			uid, gid = int(sys.Uid), int(sys.Gid)
		}
	}
	if uid != os.Geteuid() || gid != os.Getgid() {
		if err := f.Chown(uid, gid); err != nil && (w.args.User != "" || !errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	return f.Chmod(mode)
}

func (a *Agent) mkdir(path string, args wire.FileArgs) error {
	who, err := a.lookupUser(args.User)
	if err != nil {
		return err
	}
	mode := args.Mode & (fs.ModePerm | fs.ModeSetgid | fs.ModeSticky)
	if mode == 0 {
		mode = 0o755
	}
	return wrapFile(args.Path, a.makeDirs(path, mode, who))
}

func wrapFile(path string, err error) error {
	if err == nil {
		return nil
	}
	return fileError("path", path, err)
}

// makeDirs makes a directory and its missing parents, all owned by who.
func (a *Agent) makeDirs(path string, mode fs.FileMode, who user) error {
	st, err := os.Stat(path)
	if err == nil {
		if !st.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := filepath.Dir(path); parent != path {
		if err := a.makeDirs(parent, 0o755, who); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode.Perm()); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil // made by another at the same time
		}
		return err
	}
	if who.uid != os.Geteuid() || who.gid != os.Getgid() {
		if err := os.Lchown(path, who.uid, who.gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode) // whatever the umask is
}

func remove(path string, args wire.FileArgs) error {
	if path == "/" {
		return faas.InvalidField("path", "the root directory cannot be removed")
	}
	if _, err := os.Lstat(path); err != nil {
		return fileError("path", args.Path, err)
	}
	if args.Recursive {
		return wrapFile(args.Path, os.RemoveAll(path))
	}
	return wrapFile(args.Path, os.Remove(path))
}

func (a *Agent) rename(path string, args wire.FileArgs) error {
	to, err := a.path(args.To)
	if err != nil {
		return err
	}
	return wrapFile(args.Path, os.Rename(path, to))
}

// sortedNames lists a directory's names, so that archives repeat.
func sortedNames(entries []fs.DirEntry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names
}
