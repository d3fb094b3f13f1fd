package wire

import (
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceWorth is the least that is moved rather than copied, in bytes: a
// header that goes out by itself wakes the peer once more.
const spliceWorth = 16 << 10

// sendPipe sends everything that a pipe has. Large pieces are moved from the
// pipe into the socket without passing through this process.
func (o *Outbox) sendPipe(p Pipe) (total int64, err error) {
	src, err := p.SyscallConn()
	if err != nil {
		return o.copyFrom(p)
	}
	bp := frameBuffers.Get().(*[]byte)
	defer frameBuffers.Put(bp)
	for {
		room, err := o.Room(nil)
		if err != nil {
			return total, err
		}
		p.Prepare()
		have, err := available(src)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		p.Moved(have)
		n, err := o.sendPiece(src, *bp, min(have, room, MaxData))
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// sendPiece sends n bytes that a pipe has, or as many of them as there is room
// for by now.
func (o *Outbox) sendPiece(src syscall.RawConn, buf []byte, n int) (int, error) {
	st, n, err := o.begin(n, nil)
	if err != nil {
		return 0, err
	}
	defer o.end()
	h := Header{FrameData, o.channel, st.id, uint32(n)}
	if n >= spliceWorth {
		if dst, ok := st.session.spliceable(); ok {
			return n, st.session.spliceFrame(h, src, dst, buf)
		}
	}
	if err := readPiece(src, buf[HeaderSize:HeaderSize+n]); err != nil {
		return 0, err
	}
	h.Put(buf)
	return n, st.session.write(buf[:HeaderSize+n])
}

// available waits until a pipe has bytes, and says how many; io.EOF at its end.
func available(src syscall.RawConn) (n int, err error) {
	var inner error
	err = src.Read(func(fd uintptr) bool {
		n, inner = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		if inner != nil || n > 0 {
			return true
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, inner = unix.Poll(poll, 0); inner == unix.EINTR {
			inner = nil
		}
		switch events := poll[0].Revents; {
		case inner != nil || events&unix.POLLIN != 0:
		case events&(unix.POLLHUP|unix.POLLERR) != 0:
			inner = io.EOF
		default:
			return false
		}
		return true
	})
	if err == nil {
		err = inner
	}
	if err == nil && n == 0 { // bytes came between the two looks
		return available(src)
	}
	return n, err
}

// readPiece reads bytes that a pipe has.
func readPiece(src syscall.RawConn, p []byte) error {
	var inner error
	err := src.Read(func(fd uintptr) bool {
		for len(p) > 0 {
			n, err := unix.Read(int(fd), p)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false
			case err != nil:
				inner = err
				return true
			case n == 0:
				inner = io.ErrUnexpectedEOF
				return true
			default:
				p = p[n:]
			}
		}
		return true
	})
	if err == nil {
		err = inner
	}
	return err
}

// spliceable returns the connection's socket, if pages can be moved into it.
func (s *Session) spliceable() (syscall.RawConn, bool) {
	if s.copyOnly.Load() {
		return nil, false
	}
	raw, ok := s.conn.(syscall.Conn)
	if !ok {
		return nil, false
	}
	dst, err := raw.SyscallConn()
	return dst, err == nil
}

// spliceFrame sends a frame whose payload a pipe has. Where the system turns
// out not to move pages between the two, it copies, now and from then on.
func (s *Session) spliceFrame(h Header, src, dst syscall.RawConn, buf []byte) error {
	var head [HeaderSize]byte
	h.Put(head[:])
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if err := s.writeLocked(head[:]); err != nil {
		return err
	}
	left, err := splice(src, dst, int(h.Length))
	if err != nil && left == int(h.Length) {
		s.copyOnly.Store(true)
		if err = readPiece(src, buf[:left]); err == nil {
			return s.writeLocked(buf[:left])
		}
	}
	if err != nil {
		s.conn.Close() //nolint:errcheck // part of a frame is out: see writeLocked
	}
	return err
}

// splice moves n bytes and returns how many are left.
func splice(src, dst syscall.RawConn, n int) (left int, err error) {
	var werr, serr error
	cerr := src.Control(func(from uintptr) {
		werr = dst.Write(func(to uintptr) bool {
			for n > 0 {
				moved, err := unix.Splice(int(from), nil, int(to), nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
				switch {
				case err == unix.EINTR:
				case err == unix.EAGAIN:
					return false // the socket is full: the pipe has the bytes
				case err != nil:
					serr = err
					return true
				case moved == 0:
					serr = io.ErrUnexpectedEOF
					return true
				default:
					n -= int(moved)
				}
			}
			return true
		})
	})
	for _, err := range []error{cerr, werr, serr} {
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
