//go:build linux

package agent_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func TestOpenFile(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		if _, err := c.OpenFile(ctx, "/none", guest.OpenOptions{Read: true}); !errors.Is(err, faas.ErrNotFound) {
			t.Fatal(err)
		}
		f, err := c.OpenFile(ctx, "/file", guest.OpenOptions{Read: true, Write: true, Create: true, Exclusive: true, Mode: 0o600})
		if err != nil || f.Info.Mode != 0o600 {
			t.Fatal(err)
		}
		if _, err := c.OpenFile(ctx, "/file", guest.OpenOptions{Write: true, Create: true, Exclusive: true}); !errors.Is(err, faas.ErrConflict) {
			t.Fatal(err)
		}
		content := bytes.Repeat([]byte("0123456789abcdef"), 40<<10)
		var writers sync.WaitGroup
		const piece = 30_000
		for at := 0; at < len(content); at += piece {
			writers.Go(func() {
				part := content[at:min(at+piece, len(content))]
				if n, err := f.WriteAt(part, int64(at)); n != len(part) || err != nil {
					t.Error(n, err)
				}
			})
		}
		writers.Wait()
		got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(content))+1))
		if err != nil || !bytes.Equal(got, content) {
			t.Fatal(len(got), err)
		}
		if n, err := f.ReadAt(make([]byte, 10), int64(len(content))-4); n != 4 || err != io.EOF {
			t.Fatal(n, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); err == nil {
			t.Fatal("a closed file can be read")
		}
		if f, err = c.OpenFile(ctx, "/file", guest.OpenOptions{Read: true}); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("a file opened for reading was written")
		}
		if n, err := f.ReadAt(make([]byte, 3), 0); n != 3 || err != nil {
			t.Fatal("the refusal ended the file", n, err)
		}
	})
}

func TestAttributes(t *testing.T) {
	root := t.TempDir()
	_, dial := newAgentIn(t, root)
	c := guest.NewClient(dial, guest.Options{Secret: secret})
	defer c.Close()
	ctx := testContext(t)
	if err := os.WriteFile(root+"/file", []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	mode, size, when := fs.FileMode(0o640), int64(3), time.Unix(1e9, 0)
	if err := c.SetAttributes(ctx, "/file", guest.Attributes{Mode: &mode, Size: &size, ModTime: &when}); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Stat(ctx, "/file"); err != nil || info.Mode != mode || info.Size != size || !info.ModTime.Equal(when) {
		t.Fatal(info, err)
	}
	if err := c.Symlink(ctx, "file", "/link", ""); err != nil {
		t.Fatal(err)
	}
	if real, err := c.RealPath(ctx, "/link"); err != nil || real != "/file" {
		t.Fatal(real, err)
	}
	if err := c.Link(ctx, "/file", "/other"); err != nil {
		t.Fatal(err)
	}
	if err := c.Link(ctx, "/file", "/other"); !errors.Is(err, faas.ErrConflict) {
		t.Fatal(err)
	}
	if space, err := c.Space(ctx, "/"); err != nil || space.Blocks == 0 || space.BlockSize == 0 {
		t.Fatal(space, err)
	}
}

func TestListen(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		l, err := c.Listen(ctx, "tcp", "127.0.0.1:0", "")
		if err != nil {
			t.Fatal(err)
		}
		echoed := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, err = io.Copy(conn, conn)
				conn.(interface{ CloseWrite() error }).CloseWrite()
			}
			echoed <- err
		}()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(conn)
		if string(got) != "hello" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
		if err := <-echoed; err != nil {
			t.Fatal(err)
		}
		if _, err := c.Listen(ctx, "tcp", l.Addr().String(), ""); !errors.Is(err, faas.ErrConflict) {
			t.Fatal(err)
		}
		// The listener goes on after a checkpoint, at its address.
		if err := c.Quiesce(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err == nil {
				conn.Close()
			}
			echoed <- err
		}()
		for {
			if conn, err = net.Dial("tcp", l.Addr().String()); err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		defer conn.Close()
		if err := <-echoed; err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	})
}
