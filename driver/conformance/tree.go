package conformance

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func treeChecks() []Check {
	files := []faas.Feature{faas.FeatureFiles}
	return []Check{
		{Name: "tree/round-trip", Features: files, UserFacing: true, Run: checkTreeRoundTrip},
		{Name: "tree/hostile-archive", Features: files, Run: checkHostileArchive},
		{Name: "tree/broken-archive", Features: files, Run: checkBrokenArchive},
		{Name: "tree/watch", Features: files, UserFacing: true, Run: checkWatch},
		{Name: "tree/read-only-root", Features: files, Isolates: true, Run: checkReadOnlyRoot},
	}
}

func checkTreeRoundTrip(ctx context.Context, env *Env) error {
	a, err := env.create(ctx)
	if err != nil {
		return err
	}
	const prepare = `mkdir -p tmp/tree/sub/empty; cd tmp/tree; echo text > sub/file; chmod 640 sub/file
ln sub/file hard; ln -s sub/file soft; head -c 200000 /dev/zero > zeros; chown 1234:2345 zeros; chmod 4755 zeros; echo made`
	if err := a.expect(ctx, prepare, "made"); err != nil {
		return err
	}
	r, err := a.client.TarOut(ctx, "/tmp/tree")
	if err != nil {
		return err
	}
	archive, err := io.ReadAll(io.LimitReader(r, 8<<20))
	r.Close() //nolint:errcheck // read to its end
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.client.TarIn(ctx, "/tmp/copy", bytes.NewReader(archive)); err != nil {
		return err
	}
	return b.expect(ctx, `cd tmp/copy; cat sub/file hard soft; wc -c < zeros; test sub/file -ef hard && test -h soft && test -d sub/empty && echo links
ls -ln zeros | awk '{print $1, $3, $4}'; ls -l sub/file | cut -c1-10`,
		"text\ntext\ntext\n200000\nlinks\n-rwsr-xr-x 1234 2345\n-rw-r-----")
}

// archiveOf makes a tar archive of headers; files hold their own name.
func archiveOf(headers ...tar.Header) *bytes.Buffer {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		var content string
		if h.Typeflag == tar.TypeReg {
			content = h.Name
			h.Size = int64(len(content))
		}
		w.WriteHeader(&h)          //nolint:errcheck // to memory
		io.WriteString(w, content) //nolint:errcheck // to memory
	}
	w.Close() //nolint:errcheck // to memory
	return &buf
}

// checkHostileArchive unpacks archives that try to leave their directory. An
// agent may refuse them or unpack them inside; what is outside is untouched.
func checkHostileArchive(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "mkdir tmp/outside; echo original > tmp/outside/file; echo made", "made"); err != nil {
		return err
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	link := func(kind byte, name, to string) tar.Header {
		return tar.Header{Typeflag: kind, Name: name, Linkname: to}
	}
	for _, archive := range []*bytes.Buffer{
		archiveOf(file("../outside/file")),
		archiveOf(file("/tmp/outside/file")),
		archiveOf(file("a/../../outside/file")),
		archiveOf(link(tar.TypeSymlink, "door", "../outside"), file("door/file")),
		archiveOf(link(tar.TypeSymlink, "abs", "/tmp/outside"), file("abs/file"), file("abs/new")),
		archiveOf(link(tar.TypeSymlink, "f", "/tmp/outside/file"), file("f")),
		archiveOf(link(tar.TypeLink, "hard", "../outside/file"), file("hard")),
		archiveOf(link(tar.TypeLink, "hard2", "/tmp/outside/file"), file("hard2")),
	} {
		b.client.TarIn(ctx, "/tmp/inside", archive) //nolint:errcheck // refusing is as good as containing
		if err := b.expect(ctx, "cat tmp/outside/file; ls -A tmp/outside", "original\nfile"); err != nil {
			return fmt.Errorf("an archive reached outside its directory: %w", err)
		}
	}
	return b.alive(ctx)
}

func checkBrokenArchive(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	whole := archiveOf(tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("long", 20)}).Bytes()
	for what, data := range map[string][]byte{
		"garbage":        bytes.Repeat([]byte("garbage!"), 4096),
		"a cut-off file": whole[:512+10],
	} {
		if err := b.client.TarIn(ctx, "/tmp/broken", bytes.NewReader(data)); err == nil {
			return fmt.Errorf("an archive of %s was unpacked without an error", what)
		}
	}
	return b.alive(ctx)
}

func checkWatch(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.client.Mkdir(ctx, "/tmp/watched/below", guest.WriteOptions{}); err != nil {
		return err
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := b.client.Watch(watchCtx, "/tmp/watched", true)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "cd tmp/watched; echo x > made; echo y >> below/deep; mv made moved; rm moved; echo done", "done"); err != nil {
		return err
	}
	wanted := []string{"created made", "created deep", "modified deep", "removed moved"}
	for len(wanted) > 0 {
		select {
		case e, ok := <-events:
			if !ok {
				return fmt.Errorf("the watch ended before it reported %q", wanted)
			}
			wanted = slices.DeleteFunc(wanted, func(w string) bool {
				event, name, _ := strings.Cut(w, " ")
				return event == e.Event && strings.HasSuffix(e.Path, "/"+name)
			})
		case <-ctx.Done():
			return fmt.Errorf("not reported: %q: %w", wanted, ctx.Err())
		}
	}
	cancel()
	return drained(ctx, events)
}

// drained waits until a channel is closed.
func drained(ctx context.Context, events <-chan guest.FileEvent) error {
	late := time.After(10 * time.Second)
	for {
		select {
		case _, ok := <-events:
			if !ok {
				return nil
			}
		case <-late:
			return fmt.Errorf("the channel of a watch is open 10 s after its context ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func checkReadOnlyRoot(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.ReadOnly = true })
	if err != nil {
		return err
	}
	for _, path := range []string{"/new", "/etc/new", "/usr/new"} {
		if err := b.refuse(ctx, "read-only root", "echo x > "+path); err != nil {
			return err
		}
	}
	return b.alive(ctx)
}
