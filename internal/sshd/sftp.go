package sshd

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

const (
	// maxOpenFiles bounds the files that one SFTP session has open.
	maxOpenFiles = 256
	// fileTimeout bounds one operation on a name.
	fileTimeout = time.Minute
)

// files serves SFTP (which scp speaks too) on the session's channel. The files
// are the instance's: nothing runs inside but its agent.
func (s *session) files() {
	code := 0
	err := s.guest(s.ctx, func(g *guest.Client) error {
		who, err := s.who(g)
		if err != nil {
			return err
		}
		t := &tree{ctx: s.ctx, guest: g, user: who.user, home: who.home}
		server := sftp.NewRequestServer(s.channel, sftp.Handlers{FileGet: t, FilePut: t, FileCmd: t, FileList: t}, sftp.WithStartDirectory(who.home))
		if err := server.Serve(); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			code = 1 // the client spoke something else
		}
		return nil
	})
	if err != nil {
		s.fail(err)
		return
	}
	s.exit(guest.Exit{Code: code})
}

// tree is an instance's files in the terms of pkg/sftp.
type tree struct {
	ctx   context.Context
	guest *guest.Client
	user  string // owner of what is made
	home  string
	open  atomic.Int32
}

// status is an error for an SFTP client: a code that it knows, and words.
type status struct {
	error
	code error
}

func (s status) Unwrap() error { return s.code }

// failure turns an error of the guest protocol into one that the SFTP
// server's table of codes knows.
func failure(name string, err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case errors.Is(err, faas.ErrNotFound):
		return &fs.PathError{Op: "find", Path: name, Err: fs.ErrNotExist}
	case errors.Is(err, faas.ErrPermissionDenied):
		return status{errors.New(explain(err)), sftp.ErrSSHFxPermissionDenied}
	case errors.Is(err, faas.ErrCapabilityUnavailable):
		return status{errors.New(explain(err)), sftp.ErrSSHFxOpUnsupported}
	case errors.Is(err, faas.ErrUnavailable), errors.Is(err, faas.ErrDeadlineExceeded):
		return status{errors.New(explain(err)), sftp.ErrSSHFxFailure}
	}
	return errors.New(explain(err))
}

func (t *tree) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.ctx, fileTimeout)
}

// Fileread implements sftp.FileReader.
func (t *tree) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	return t.openFile(r.Filepath, guest.OpenOptions{Read: true}, false)
}

// Filewrite implements sftp.FileWriter.
func (t *tree) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	return t.openFile(r.Filepath, t.writing(r), r.Pflags().Append)
}

// OpenFile implements sftp.OpenFileWriter.
func (t *tree) OpenFile(r *sftp.Request) (sftp.WriterAtReaderAt, error) {
	options := t.writing(r)
	options.Read = true
	return t.openFile(r.Filepath, options, r.Pflags().Append)
}

const (
	umask      = 0o022
	modeLength = 4 // bytes of attributes that hold a mode and nothing else
)

func (t *tree) writing(r *sftp.Request) guest.OpenOptions {
	flags := r.Pflags()
	options := guest.OpenOptions{
		Write: true, Create: flags.Creat, Exclusive: flags.Excl, Truncate: flags.Trunc, User: t.user, Mode: 0o644,
	}
	// pkg/sftp hands over the attributes of an open without their flags; a
	// mode alone is told by its length.
	if len(r.Attrs) == modeLength {
		mode := uint32(r.Attrs[0])<<24 | uint32(r.Attrs[1])<<16 | uint32(r.Attrs[2])<<8 | uint32(r.Attrs[3])
		options.Mode = fs.FileMode(mode) & fs.ModePerm &^ umask
	}
	return options
}

// openFile opens a file and counts it.
func (t *tree) openFile(name string, options guest.OpenOptions, appending bool) (*file, error) {
	if t.open.Add(1) > maxOpenFiles {
		t.open.Add(-1)
		return nil, errors.New("too many files are open")
	}
	f, err := t.guest.OpenFile(t.ctx, name, options)
	if err != nil {
		t.open.Add(-1)
		return nil, failure(name, err)
	}
	return &file{File: f, tree: t, name: name, appending: appending, end: f.Info.Size}, nil
}

// Filelist implements sftp.FileLister.
func (t *tree) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	ctx, cancel := t.limited()
	defer cancel()
	if r.Method == "List" {
		return t.openDirectory(ctx, r.Filepath)
	}
	info, err := statFollowing(ctx, t.guest, r.Filepath)
	if err == nil && info.Name != r.Filepath { // an intermediate link may hide behind the last
		info.Name = r.Filepath
	}
	return listing{info}, failure(r.Filepath, err)
}

// openDirectory lists a directory and counts it as an open file: its entries
// are kept until the client closes it.
func (t *tree) openDirectory(ctx context.Context, name string) (sftp.ListerAt, error) {
	if t.open.Add(1) > maxOpenFiles {
		t.open.Add(-1)
		return nil, errors.New("too many files are open")
	}
	entries, err := t.guest.List(ctx, name)
	if err != nil {
		t.open.Add(-1)
		return nil, failure(name, err)
	}
	return &directory{listing: entries, closed: sync.OnceFunc(func() { t.open.Add(-1) })}, nil
}

// directory is an open directory.
type directory struct {
	listing
	closed func()
}

// Close gives its place back.
func (d *directory) Close() error {
	d.closed()
	return nil
}

// Lstat implements sftp.LstatFileLister.
func (t *tree) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	ctx, cancel := t.limited()
	defer cancel()
	info, err := t.guest.Stat(ctx, r.Filepath)
	return listing{info}, failure(r.Filepath, err)
}

// Readlink implements sftp.ReadlinkFileLister.
func (t *tree) Readlink(name string) (string, error) {
	ctx, cancel := t.limited()
	defer cancel()
	info, err := t.guest.Stat(ctx, name)
	if err == nil && info.Mode&fs.ModeSymlink == 0 {
		err = faas.InvalidField("path", "%s is not a symbolic link", name)
	}
	return info.Target, failure(name, err)
}

// RealPath implements sftp.RealPathFileLister. A path that does not exist is
// only made absolute, as OpenSSH's server does.
func (t *tree) RealPath(name string) (string, error) {
	if !path.IsAbs(name) {
		name = path.Join(t.home, name)
	}
	name = path.Clean(name)
	ctx, cancel := t.limited()
	defer cancel()
	real, err := t.guest.RealPath(ctx, name)
	if err != nil {
		return name, nil //nolint:nilerr // see above
	}
	return real, nil
}

// Filecmd implements sftp.FileCmder.
func (t *tree) Filecmd(r *sftp.Request) error {
	ctx, cancel := t.limited()
	defer cancel()
	switch r.Method {
	case "Setstat":
		return t.setAttributes(ctx, r)
	case "Rename":
		if _, err := t.guest.Stat(ctx, r.Target); err == nil {
			return errors.New(r.Target + " exists already")
		}
		return failure(r.Filepath, t.guest.Rename(ctx, r.Filepath, r.Target))
	case "Mkdir":
		return t.makeDirectory(ctx, r.Filepath)
	case "Rmdir":
		return t.remove(ctx, r.Filepath, true)
	case "Remove":
		return t.remove(ctx, r.Filepath, false)
	case "Symlink":
		return failure(r.Target, t.guest.Symlink(ctx, r.Filepath, r.Target, t.user))
	case "Link":
		return failure(r.Filepath, t.guest.Link(ctx, r.Filepath, r.Target))
	}
	return sftp.ErrSSHFxOpUnsupported
}

// PosixRename implements sftp.PosixRenameFileCmder: it replaces the target.
func (t *tree) PosixRename(r *sftp.Request) error {
	ctx, cancel := t.limited()
	defer cancel()
	return failure(r.Filepath, t.guest.Rename(ctx, r.Filepath, r.Target))
}

// makeDirectory makes one directory; the guest protocol would make its parents
// and not mind one that is there.
func (t *tree) makeDirectory(ctx context.Context, name string) error {
	if _, err := t.guest.Stat(ctx, name); err == nil {
		return errors.New(name + " exists already")
	}
	if parent, err := statFollowing(ctx, t.guest, path.Dir(name)); err != nil {
		return failure(path.Dir(name), err)
	} else if !parent.Mode.IsDir() {
		return errors.New(path.Dir(name) + " is not a directory")
	}
	return failure(name, t.guest.Mkdir(ctx, name, guest.WriteOptions{User: t.user}))
}

func (t *tree) remove(ctx context.Context, name string, directory bool) error {
	info, err := t.guest.Stat(ctx, name)
	if err != nil {
		return failure(name, err)
	}
	if info.Mode.IsDir() != directory {
		if directory {
			return errors.New(name + " is not a directory")
		}
		return errors.New(name + " is a directory")
	}
	return failure(name, t.guest.Remove(ctx, name, false))
}

func (t *tree) setAttributes(ctx context.Context, r *sftp.Request) error {
	flags, given := r.AttrFlags(), r.Attributes()
	if given == nil {
		return sftp.ErrSSHFxBadMessage // fewer bytes than its flags promise
	}
	var a guest.Attributes
	if flags.Size {
		size := int64(given.Size)
		a.Size = &size
	}
	if flags.Permissions {
		mode := given.FileMode()
		a.Mode = &mode
	}
	if flags.UidGid {
		uid, gid := int(given.UID), int(given.GID)
		a.UID, a.GID = &uid, &gid
	}
	if flags.Acmodtime {
		access, modified := time.Unix(int64(given.Atime), 0), time.Unix(int64(given.Mtime), 0)
		a.Access, a.ModTime = &access, &modified
	}
	return failure(r.Filepath, t.guest.SetAttributes(ctx, r.Filepath, a))
}

// StatVFS implements sftp.StatVFSFileCmder.
func (t *tree) StatVFS(r *sftp.Request) (*sftp.StatVFS, error) {
	ctx, cancel := t.limited()
	defer cancel()
	space, err := t.guest.Space(ctx, r.Filepath)
	if err != nil {
		return nil, failure(r.Filepath, err)
	}
	return &sftp.StatVFS{
		Bsize: uint64(space.BlockSize), Frsize: uint64(space.BlockSize), Blocks: space.Blocks, Bfree: space.Free, Bavail: space.Available,
		Files: space.Files, Ffree: space.FilesFree, Favail: space.FilesFree, Namemax: uint64(space.LongestName),
	}, nil
}

// listing is a list of files that is there as a whole.
type listing []guest.FileInfo

// ListAt implements sftp.ListerAt.
func (l listing) ListAt(into []os.FileInfo, offset int64) (int, error) {
	if offset < 0 || offset >= int64(len(l)) {
		return 0, io.EOF
	}
	n := 0
	for ; n < len(into) && offset+int64(n) < int64(len(l)); n++ {
		into[n] = entry{l[offset+int64(n)]}
	}
	if n < len(into) {
		return n, io.EOF
	}
	return n, nil
}

// entry is a file of the guest protocol as an os.FileInfo.
type entry struct{ info guest.FileInfo }

func (e entry) Name() string       { return path.Base(e.info.Name) }
func (e entry) Size() int64        { return e.info.Size }
func (e entry) Mode() fs.FileMode  { return e.info.Mode }
func (e entry) ModTime() time.Time { return e.info.ModTime }
func (e entry) IsDir() bool        { return e.info.Mode.IsDir() }
func (e entry) Sys() any           { return nil }
func (e entry) Uid() uint32        { return uint32(e.info.UID) }
func (e entry) Gid() uint32        { return uint32(e.info.GID) }
