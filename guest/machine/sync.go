package machine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// A port of a machine is one stream that outlives whoever holds its ends: what
// the last host or session left in it would be taken for what the next one
// says. So both ends meet first. The host sends a line with a number of its
// own until the agent has sent it back; what either reads before that is old.
// A line begins with a byte with which nothing else of the protocols begins.
const (
	syncByte   = 0x00
	syncPrefix = "\x00faas port "
	syncLine   = len(syncPrefix) + 32 + 1
	// syncPatience is how long an answer may take before the host sends
	// another line: an old session has to notice first that it is over.
	syncPatience = 100 * time.Millisecond
	syncMost     = 2 * time.Second
)

// Meet is the host's side. It returns a connection whose agent begins anew.
func Meet(ctx context.Context, conn net.Conn) (net.Conn, error) {
	in := bufio.NewReader(conn)
	for patience := syncPatience; ; patience = min(2*patience, syncMost) {
		number := make([]byte, 16)
		rand.Read(number) //nolint:errcheck // never fails
		line := []byte(syncPrefix + hex.EncodeToString(number) + "\n")
		deadline := time.Now().Add(patience)
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
		_, err := conn.Write(line)
		if err == nil {
			err = readUntil(in, line)
		}
		switch {
		case err == nil:
			return &metConn{Conn: conn, in: in}, conn.SetDeadline(time.Time{})
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
	}
}

// readUntil reads up to the end of line, which is the last that comes.
func readUntil(in *bufio.Reader, line []byte) error {
	var seen []byte
	for {
		b, err := in.ReadByte()
		if err != nil {
			return err
		}
		if seen = append(seen, b); len(seen) > len(line) {
			seen = seen[1:]
		}
		if bytes.Equal(seen, line) {
			return nil
		}
	}
}

// metConn is a connection of which something may have been read ahead.
type metConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *metConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Await is the agent's side: a reader of what the host sends once both have
// met, and answers to the host's lines on w.
func Await(r io.Reader, w io.Writer) io.Reader {
	return &awaiting{in: bufio.NewReader(r), out: w}
}

type awaiting struct {
	in  *bufio.Reader
	out io.Writer
	met bool // a line was answered, and something else came
}

func (a *awaiting) Read(p []byte) (int, error) {
	for answered := false; !a.met; {
		next, err := a.in.Peek(1)
		if err != nil {
			return 0, err
		}
		if next[0] != syncByte {
			if answered {
				a.met = true
				break
			}
			if _, err := a.in.Discard(1); err != nil { // left by an older host
				return 0, err
			}
			continue
		}
		line := make([]byte, syncLine)
		if _, err := io.ReadFull(a.in, line); err != nil {
			return 0, err
		}
		if !bytes.HasPrefix(line, []byte(syncPrefix)) || line[syncLine-1] != '\n' {
			continue
		}
		if _, err := a.out.Write(line); err != nil {
			return 0, err
		}
		answered = true
	}
	return a.in.Read(p)
}
