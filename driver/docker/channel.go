package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// shim opens a connection to the agent by way of its connect command, exec'd
// in the container, and the engine's hijacked stream to it.
func (s *sandbox) shim(ctx context.Context) (net.Conn, error) {
	var exec client.ExecCreateResult
	err := s.d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		exec, err = api.ExecCreate(ctx, s.container(), client.ExecCreateOptions{
			Cmd: shimCommand(), User: "0:0", WorkingDir: "/",
			AttachStdin: true, AttachStdout: true, AttachStderr: true,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	var res client.ExecAttachResult
	err = s.d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) (err error) {
		res, err = api.ExecAttach(ctx, exec.ID, client.ExecAttachOptions{})
		return err
	})
	if err != nil {
		return nil, err
	}
	c := &shimConn{Conn: res.Conn}
	c.out = &demux{from: res.Reader, aside: &c.said}
	return c, nil
}

// shimConn is the stream to a shim as a connection.
type shimConn struct {
	net.Conn
	out  *demux
	said boundedBuffer
}

// Read returns what the agent sent. When the shim ends without a byte, the
// error says why.
func (c *shimConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if errors.Is(err, io.EOF) && !c.out.any {
		if said := c.said.String(); said != "" {
			err = &faas.Error{Kind: faas.KindUnavailable, Op: "connect to guest agent", Detail: said}
		}
	}
	return n, err
}

// CloseWrite ends the stream towards the agent alone.
func (c *shimConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// demux reads standard output from the engine's framing of a container's
// streams: one byte for the stream, three of padding, four of length, data.
// Standard error goes aside.
type demux struct {
	from  *bufio.Reader
	aside io.Writer
	left  uint32 // bytes of the current frame of standard output
	any   bool   // a byte of standard output was read
}

// stream numbers of the framing.
const (
	streamStdin  = 0
	streamStdout = 1
	streamStderr = 2
)

func (d *demux) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.left == 0 {
		if err := d.nextFrame(); err != nil {
			return 0, err
		}
	}
	n, err := d.from.Read(p[:min(uint64(len(p)), uint64(d.left))])
	d.left -= uint32(n) //nolint:gosec // n is at most left
	d.any = d.any || n > 0
	return n, err
}

// nextFrame reads a header, and the whole frame when it is not one of standard
// output.
func (d *demux) nextFrame() error {
	var head [8]byte
	if _, err := io.ReadFull(d.from, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[4:])
	switch head[0] {
	case streamStdin, streamStdout:
		d.left = size
		return nil
	case streamStderr:
		_, err := io.CopyN(d.aside, d.from, int64(size))
		return err
	default:
		return fmt.Errorf("docker engine sent a frame of unknown stream %d", head[0])
	}
}

var _ net.Conn = (*shimConn)(nil)
