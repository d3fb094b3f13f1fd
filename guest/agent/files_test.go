//go:build linux

package agent_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func TestFiles(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		content := bytes.Repeat([]byte("content "), 1<<17)
		info, err := c.WriteFile(ctx, "/a/b/file", bytes.NewReader(content), guest.WriteOptions{Parents: true, Mode: 0o640})
		if err != nil || info.Size != int64(len(content)) || info.Mode != 0o640 {
			t.Fatal(info, err)
		}
		r, info, err := c.ReadFile(ctx, "/a/b/file", 3, 8)
		if err != nil || info.Size != int64(len(content)) {
			t.Fatal(info, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != "tent con" {
			t.Fatalf("%q, %v", got, err)
		}
		r.Close()
		r, _, err = c.ReadFile(ctx, "/a/b/file", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err = io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
			t.Fatal(len(got), err)
		}
		r.Close()
		if info, err = c.WriteFile(ctx, "/a/b/file", strings.NewReader("new"), guest.WriteOptions{Mode: 0o777}); err != nil || info.Mode != 0o640 || info.Size != 3 {
			t.Fatal(info, err)
		}
		if info, err = c.WriteFile(ctx, "/a/b/file", strings.NewReader("er"), guest.WriteOptions{Append: true}); err != nil || info.Size != 5 {
			t.Fatal(info, err)
		}
		if err := c.Mkdir(ctx, "/a/c/d", guest.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := c.Rename(ctx, "/a/b/file", "/a/c/file"); err != nil {
			t.Fatal(err)
		}
		list, err := c.List(ctx, "/a/c")
		if err != nil || len(list) != 2 || list[0].Name != "d" || !list[0].Mode.IsDir() || list[1].Name != "file" {
			t.Fatal(list, err)
		}
		if err := c.Remove(ctx, "/a", false); !errors.Is(err, faas.ErrConflict) {
			t.Fatal(err)
		}
		if err := c.Remove(ctx, "/a", true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Stat(ctx, "/a"); !errors.Is(err, faas.ErrNotFound) {
			t.Fatal(err)
		}
		if _, _, err := c.ReadFile(ctx, "/a", 0, -1); !errors.Is(err, faas.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := c.WriteFile(ctx, "relative", strings.NewReader(""), guest.WriteOptions{}); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Fatal(err)
		}
	})
}

// TestWriteFileIsAtomic lets the source fail half way.
func TestWriteFileIsAtomic(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		if _, err := c.WriteFile(ctx, "/f", strings.NewReader("old"), guest.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		failing := io.MultiReader(bytes.NewReader(make([]byte, 3<<20)), iotest.ErrReader(errors.New("no more")))
		if _, err := c.WriteFile(ctx, "/f", failing, guest.WriteOptions{}); err == nil {
			t.Fatal("no error")
		}
		waitFor(t, func() bool {
			list, err := c.List(ctx, "/")
			return err == nil && len(list) == 1 && list[0].Size == 3
		})
	})
}

func TestReadFileClosedEarly(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		for range 5 {
			r, _, err := c.ReadFile(ctx, "/f", 0, -1)
			if errors.Is(err, faas.ErrNotFound) {
				_, err = c.WriteFile(ctx, "/f", bytes.NewReader(make([]byte, 8<<20)), guest.WriteOptions{})
				if err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
	})
}

func TestTar(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		var in bytes.Buffer
		w := tar.NewWriter(&in)
		when := time.Unix(1_700_000_000, 0)
		for _, h := range []tar.Header{
			{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o750, ModTime: when},
			{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o600, Size: 5, ModTime: when},
			{Name: "dir/link", Typeflag: tar.TypeSymlink, Linkname: "../outside"},
			{Name: "dir/hard", Typeflag: tar.TypeLink, Linkname: "dir/file"},
		} {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				io.WriteString(w, "hello")
			}
		}
		w.Close()
		if err := c.TarIn(ctx, "/into/here", bytes.NewReader(in.Bytes())); err != nil {
			t.Fatal(err)
		}
		out, err := c.TarOut(ctx, "/into/here")
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		var names []string
		for r := tar.NewReader(out); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, fmt.Sprintf("%s %c %o %s", h.Name, h.Typeflag, h.Mode, h.Linkname))
			if strings.HasPrefix(h.Name, "dir/") && h.Typeflag == tar.TypeReg && !h.ModTime.Equal(when) {
				t.Error(h.Name, h.ModTime)
			}
		}
		want := []string{"./ 5 755 ", "dir/ 5 750 ", "dir/file 0 600 ", "dir/hard 1 600 dir/file", "dir/link 2 777 ../outside"}
		if fmt.Sprint(names) != fmt.Sprint(want) {
			t.Errorf("%q, want %q", names, want)
		}
	})
}

func TestHostileArchives(t *testing.T) {
	_, dial := newAgent(t)
	c := guest.NewClient(dial, guest.Options{Secret: secret})
	defer c.Close()
	ctx := testContext(t)
	outside := t.TempDir()
	for name, members := range map[string][]tar.Header{
		"parent":            {{Name: "../escape", Typeflag: tar.TypeReg}},
		"absolute link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/escape", Typeflag: tar.TypeReg}},
		"relative link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../../../.." + outside}, {Name: "l/escape", Typeflag: tar.TypeReg}},
		"link then dir":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/escape/", Typeflag: tar.TypeDir}},
		"hard link outside": {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}},
		"hard through link": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/passwd"}},
		"device":            {{Name: "d", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}},
	} {
		var in bytes.Buffer
		w := tar.NewWriter(&in)
		for _, h := range members {
			h.Mode = 0o644
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if err := c.TarIn(ctx, "/x", bytes.NewReader(in.Bytes())); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Errorf("%s: something came to lie outside: %v, %v", name, entries, err)
		}
	}
	if err := c.TarIn(ctx, "/x", strings.NewReader("this is no archive, and long enough for a header"+strings.Repeat(".", 600))); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		if err := c.Mkdir(ctx, "/w/sub", guest.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		watching, stop := context.WithCancel(ctx)
		defer stop()
		events, err := c.Watch(watching, "/w", true)
		if err != nil {
			t.Fatal(err)
		}
		expect := func(want guest.FileEvent) {
			t.Helper()
			for {
				select {
				case ev, ok := <-events:
					if !ok {
						t.Fatal("the watch ended")
					}
					if ev == want {
						return
					}
				case <-ctx.Done():
					t.Fatalf("no %v", want)
				}
			}
		}
		if err := c.Mkdir(ctx, "/w/new/deep", guest.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(guest.FileEvent{Path: "/w/new/deep", Event: guest.EventCreated})
		if _, err := c.WriteFile(ctx, "/w/new/deep/f", strings.NewReader("x"), guest.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(guest.FileEvent{Path: "/w/new/deep/f", Event: guest.EventRenamed})
		if err := c.Remove(ctx, "/w/new/deep/f", false); err != nil {
			t.Fatal(err)
		}
		expect(guest.FileEvent{Path: "/w/new/deep/f", Event: guest.EventRemoved})
		if err := c.Quiesce(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		expect(guest.FileEvent{Path: "/w", Event: guest.EventOverflow})
		if err := c.Mkdir(ctx, "/w/again", guest.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect(guest.FileEvent{Path: "/w/again", Event: guest.EventCreated})
		stop()
		for range events {
		}
	})
}

func TestDialPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		conn, err := c.DialPort(ctx, "tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sent := bytes.Repeat([]byte("port"), 1<<19)
		go func() {
			conn.Write(sent)
			conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatal(len(got), err)
		}
		quiet, err := c.DialPort(ctx, "tcp", port)
		if err != nil {
			t.Fatal(err)
		}
		defer quiet.Close()
		quiet.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := quiet.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		quiet.SetReadDeadline(time.Time{})
		quiet.Write([]byte("x"))
		if n, err := quiet.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := c.DialPort(ctx, "tcp", "1"); !errors.Is(err, faas.ErrUnavailable) {
			t.Fatal(err)
		}
		if _, err := c.DialPort(ctx, "tcp", "nonsense"); !errors.Is(err, faas.ErrInvalidArgument) {
			t.Fatal(err)
		}
	})
}

func TestConfigure(t *testing.T) {
	root := t.TempDir()
	_, dial := newAgentIn(t, root)
	c := guest.NewClient(dial, guest.Options{Secret: secret})
	defer c.Close()
	ctx := testContext(t)
	hooks := filepath.Join(root, "etc/faas/on-restore.d")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"20-second": "echo two; exit 3", "10-first": "echo one $A; cat >&2 " + filepath.Join(root, "run/faas/instance.json")} {
		if err := os.WriteFile(filepath.Join(hooks, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fresh := bytes.Repeat([]byte("n"), 32)
	done, err := c.Configure(ctx, guest.Configuration{
		Identity: &guest.Identity{ID: "inst-1", Project: "p"}, Env: map[string]string{"A": "1"}, Secrets: map[string]string{"B": "2"},
		Secret: fresh, RunHooks: true,
	})
	if err != nil || len(done.Hooks) != 2 {
		t.Fatal(done, err)
	}
	if h := done.Hooks[0]; h.Path != "/etc/faas/on-restore.d/10-first" || h.Exit.Code != 0 || !strings.Contains(h.Output, "one 1\n") || !strings.Contains(h.Output, "inst-1") {
		t.Errorf("%+v", h)
	}
	if h := done.Hooks[1]; h.Exit.Code != 3 || h.Output != "two\n" {
		t.Errorf("%+v", h)
	}
	b, err := os.ReadFile(filepath.Join(root, "run/faas/instance.json"))
	var id guest.Identity
	if err != nil || json.Unmarshal(b, &id) != nil || id.ID != "inst-1" {
		t.Errorf("%s, %v", b, err)
	}
	if got := output(t, c, guest.Command{Args: []string{"sh", "-c", "echo $A $B $C"}, Env: []string{"C=3"}}); got != "1 2 3\n" {
		t.Errorf("%q", got)
	}
	// The old secret opens nothing any more; the client has the new one.
	old := guest.NewClient(dial, guest.Options{Secret: secret})
	defer old.Close()
	if _, err := old.Hello(ctx); !errors.Is(err, faas.ErrUnauthenticated) {
		t.Errorf("old secret: %v", err)
	}
	if err := c.Quiesce(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Hello(ctx); err != nil {
		t.Errorf("after the rotation: %v", err)
	}
}

func TestStatsAndShutdown(t *testing.T) {
	p := startProgram(t)
	c := p.client(false)
	ctx := testContext(t)
	stats, err := c.Stats(ctx)
	if err != nil || stats.Processes < 1 || stats.AgentRSS <= 0 || stats.DiskTotal <= 0 {
		t.Fatalf("%+v, %v", stats, err)
	}
	if _, err := c.Start(ctx, guest.Command{Args: []string{"sleep", "100"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the agent ended with %v", err)
	}
}
