//go:build unix

package agent

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// openFile opens a file and answers reads and writes at offsets, one after the
// other, until the client has no more.
func (r *request) openFile(args wire.OpenArgs) (any, error) {
	path, err := r.agent.path(args.Path)
	if err != nil {
		return nil, err
	}
	f, err := r.agent.open(path, args)
	if err != nil {
		return nil, fileError("path", args.Path, err)
	}
	defer f.Close() //nolint:errcheck // what was written is in the kernel
	st, err := f.Stat()
	if err != nil {
		return nil, fileError("path", args.Path, err)
	}
	if st.IsDir() {
		return nil, faas.InvalidField("path", "%s is a directory", args.Path)
	}
	if err := r.reply(describe(args.Path, path, st)); err != nil {
		return nil, err
	}
	buf := make([]byte, wire.HandleChunk)
	for {
		m, err := wire.ReadHandleMessage(r.in, buf, func(op byte) bool { return op == wire.HandleWrite })
		if err == io.EOF {
			return nil, r.out.CloseWrite()
		}
		if err != nil {
			return nil, faas.Errorf(faas.KindInvalidArgument, "use open file: %v", err)
		}
		answer := r.agent.handle(f, args.Path, m, buf)
		if _, err := r.out.Write(answer.Append(nil)); err != nil {
			return nil, err
		}
	}
}

// open opens a file as asked; one that it makes belongs to args.User.
func (a *Agent) open(path string, args wire.OpenArgs) (*os.File, error) {
	who, err := a.lookupUser(args.User)
	if err != nil {
		return nil, err
	}
	// Opening a FIFO or a device must not wait for its other end.
	flags := syscall.O_NONBLOCK
	switch {
	case args.Read && args.Write:
		flags |= os.O_RDWR
	case args.Write:
		flags |= os.O_WRONLY
	case args.Read:
	default:
		return nil, faas.InvalidField("read", "a file is opened for reading, for writing, or for both")
	}
	if args.Truncate && args.Write {
		flags |= os.O_TRUNC
	}
	mode := args.Mode & fs.ModePerm
	if mode == 0 {
		mode = 0o644
	}
	if args.Create && args.Write {
		f, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, mode)
		if err == nil {
			return f, a.giveTo(f, who, mode)
		}
		if args.Exclusive || !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return os.OpenFile(path, flags, 0)
}

// giveTo makes a new file a user's, with the mode whatever the umask is.
func (a *Agent) giveTo(f *os.File, who user, mode fs.FileMode) error {
	if who.uid != os.Geteuid() || who.gid != os.Getgid() {
		if err := f.Chown(who.uid, who.gid); err != nil {
			f.Close() //nolint:errcheck // given up
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		f.Close() //nolint:errcheck // given up
		return err
	}
	return nil
}

// handle performs one message about an open file. buf holds the message's data
// and takes the answer's.
func (a *Agent) handle(f *os.File, name string, m wire.HandleMessage, buf []byte) wire.HandleMessage {
	a.disk <- struct{}{}
	defer func() { <-a.disk }()
	answer := wire.HandleMessage{Number: m.Number}
	var err error
	switch m.Op {
	case wire.HandleRead:
		var n int
		n, err = f.ReadAt(buf[:m.Length], m.Offset)
		answer.Data = buf[:n]
		if err == io.EOF {
			answer.Op, err = wire.HandleEnd, nil
		}
	case wire.HandleWrite:
		_, err = f.WriteAt(m.Data, m.Offset)
	default:
		err = faas.Errorf(faas.KindInvalidArgument, "an open file does not know the operation %q", m.Op)
	}
	if err != nil {
		answer.Op = wire.HandleFailed
		answer.Data, _ = json.Marshal(wire.EncodeError(fileError("path", name, err))) //nolint:errcheck // plain fields
		answer.Data = answer.Data[:min(len(answer.Data), wire.HandleChunk)]
	}
	answer.Length = uint32(len(answer.Data))
	return answer
}
