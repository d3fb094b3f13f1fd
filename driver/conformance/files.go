package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func fileChecks() []Check {
	files := []faas.Feature{faas.FeatureFiles}
	return []Check{
		{Name: "files/write-and-read", Features: files, UserFacing: true, Run: checkWriteRead},
		{Name: "files/read-part", Features: files, Run: checkReadPart},
		{Name: "files/append", Features: files, Run: checkAppend},
		{Name: "files/replace-is-atomic", Features: files, Run: checkReplaceAtomic},
		{Name: "files/mode-owner-parents", Features: files, Run: checkModeOwnerParents},
		{Name: "files/large", Features: files, UserFacing: true, Run: checkLargeFile},
		{Name: "files/directories", Features: files, UserFacing: true, Run: checkDirectories},
		{Name: "files/symbolic-links", Features: files, Run: checkSymlinks},
		{Name: "files/errors", Features: files, Run: checkFileErrors},
		{Name: "files/private-to-a-sandbox", Features: files, UserFacing: true, Run: checkFilesPrivate},
	}
}

func (b *box) write(ctx context.Context, path, content string, opts guest.WriteOptions) error {
	info, err := b.client.WriteFile(ctx, path, strings.NewReader(content), opts)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if info.Size != int64(len(content)) && !opts.Append {
		return fmt.Errorf("write %s: %d bytes are there, want %d", path, info.Size, len(content))
	}
	return nil
}

func (b *box) read(ctx context.Context, path string, offset, length int64) (string, error) {
	r, _, err := b.client.ReadFile(ctx, path, offset, length)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	defer r.Close() //nolint:errcheck // read to its end
	data, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return string(data), nil
}

func (b *box) wantFile(ctx context.Context, path string, offset, length int64, want string) error {
	got, err := b.read(ctx, path, offset, length)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s from %d for %d bytes is %q, want %q", path, offset, length, got, want)
	}
	return nil
}

func checkWriteRead(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const path, text = "/tmp/a file", "first\nsecond\x00\xff\n"
	return firstError(
		func() error { return b.write(ctx, path, text, guest.WriteOptions{}) },
		func() error { return b.wantFile(ctx, path, 0, -1, text) },
		func() error { return b.expect(ctx, "wc -c < 'tmp/a file'", fmt.Sprint(len(text))) },
		func() error { return b.expect(ctx, "echo from a command > tmp/made; echo done", "done") },
		func() error { return b.wantFile(ctx, "/tmp/made", 0, -1, "from a command\n") },
		func() error { return b.write(ctx, "/tmp/empty", "", guest.WriteOptions{}) },
		func() error { return b.wantFile(ctx, "/tmp/empty", 0, -1, "") },
	)
}

func checkReadPart(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	return firstError(
		func() error { return b.write(ctx, "/tmp/digits", "0123456789", guest.WriteOptions{}) },
		func() error { return b.wantFile(ctx, "/tmp/digits", 3, 4, "3456") },
		func() error { return b.wantFile(ctx, "/tmp/digits", 7, -1, "789") },
		func() error { return b.wantFile(ctx, "/tmp/digits", 7, 100, "789") },
		func() error { return b.wantFile(ctx, "/tmp/digits", 100, -1, "") },
		func() error { return b.wantFile(ctx, "/tmp/digits", 0, 0, "") },
	)
}

func checkAppend(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	more := guest.WriteOptions{Append: true}
	return firstError(
		func() error { return b.write(ctx, "/tmp/log", "one\n", more) },
		func() error { return b.write(ctx, "/tmp/log", "two\n", more) },
		func() error { return b.wantFile(ctx, "/tmp/log", 0, -1, "one\ntwo\n") },
	)
}

// failingReader gives some bytes and then an error.
type failingReader struct{ left int }

func (f *failingReader) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, fmt.Errorf("the source of the upload failed")
	}
	n := min(len(p), f.left)
	f.left -= n
	return n, nil
}

// checkReplaceAtomic breaks an upload off: the old content stays, and nothing
// is left beside it.
func checkReplaceAtomic(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	err = firstError(
		func() error { return b.client.Mkdir(ctx, "/tmp/dir", guest.WriteOptions{}) },
		func() error { return b.write(ctx, "/tmp/dir/kept", "old", guest.WriteOptions{Mode: 0o600}) },
	)
	if err != nil {
		return err
	}
	_, err = b.client.WriteFile(ctx, "/tmp/dir/kept", &failingReader{left: 300 << 10}, guest.WriteOptions{})
	if err == nil {
		return fmt.Errorf("an upload whose source failed has no error")
	}
	return firstError(
		func() error { return b.wantFile(ctx, "/tmp/dir/kept", 0, -1, "old") },
		func() error {
			return eventually(ctx, func() error { return b.expect(ctx, "ls -A tmp/dir", "kept") })
		},
		func() error { return b.write(ctx, "/tmp/dir/kept", "new content", guest.WriteOptions{}) },
		func() error { return b.wantFile(ctx, "/tmp/dir/kept", 0, -1, "new content") },
		func() error { return b.wantMode(ctx, "/tmp/dir/kept", 0o600) },
	)
}

func (b *box) wantMode(ctx context.Context, path string, mode fs.FileMode) error {
	info, err := b.client.Stat(ctx, path)
	if err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	if info.Mode != mode {
		return fmt.Errorf("%s has mode %v, want %v", path, info.Mode, mode)
	}
	return nil
}

func checkModeOwnerParents(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	opts := guest.WriteOptions{Mode: 0o750, User: "1234:2345", Parents: true}
	err = firstError(
		func() error { return b.write(ctx, "/tmp/p/q/tool", "#!/bin/sh\necho ran\n", opts) },
		func() error { return b.wantMode(ctx, "/tmp/p/q/tool", 0o750) },
	)
	if err != nil {
		return err
	}
	info, err := b.client.Stat(ctx, "/tmp/p/q/tool")
	if err != nil {
		return err
	}
	if info.UID != 1234 || info.GID != 2345 {
		return fmt.Errorf("the file belongs to %d:%d, want 1234:2345", info.UID, info.GID)
	}
	_, err = b.client.WriteFile(ctx, "/tmp/none/file", strings.NewReader("x"), guest.WriteOptions{})
	if err := wantKind("a write below a missing directory", err, faas.KindNotFound); err != nil {
		return err
	}
	out, err := b.run(ctx, guest.Command{Args: []string{"./tmp/p/q/tool"}, User: "1234:2345"}, nil)
	if err != nil {
		return err
	}
	if out.stdout != "ran\n" {
		return fmt.Errorf("an uploaded script printed %q (stderr %q, exit code %d)", out.stdout, out.stderr, out.Code)
	}
	return nil
}

func checkLargeFile(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	data := make([]byte, 24<<20+5)
	rand.Read(data) //nolint:errcheck // never fails
	if _, err := b.client.WriteFile(ctx, "/tmp/large", bytes.NewReader(data), guest.WriteOptions{}); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if err := b.expect(ctx, "sha256sum < tmp/large | cut -c1-64", fmt.Sprintf("%x", sum)); err != nil {
		return err
	}
	r, info, err := b.client.ReadFile(ctx, "/tmp/large", 0, -1)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // read to its end
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		return err
	}
	if !bytes.Equal(hash.Sum(nil), sum[:]) || info.Size != int64(len(data)) {
		return fmt.Errorf("a file of %d bytes came back different (size told: %d)", len(data), info.Size)
	}
	return nil
}

func checkDirectories(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	err = firstError(
		func() error { return b.client.Mkdir(ctx, "/tmp/d/e/f", guest.WriteOptions{Mode: 0o755}) },
		func() error { return b.write(ctx, "/tmp/d/b", "bb", guest.WriteOptions{}) },
		func() error { return b.write(ctx, "/tmp/d/a", "a", guest.WriteOptions{}) },
		func() error { return b.wantNames(ctx, "/tmp/d", "a b e/") },
		func() error { return b.client.Rename(ctx, "/tmp/d/a", "/tmp/d/e/z") },
		func() error { return b.wantNames(ctx, "/tmp/d/e", "f/ z") },
		func() error { return b.client.Remove(ctx, "/tmp/d/b", false) },
		func() error { return b.wantNames(ctx, "/tmp/d", "e/") },
	)
	if err != nil {
		return err
	}
	if err := b.client.Remove(ctx, "/tmp/d/e", false); err == nil {
		return fmt.Errorf("a directory that is not empty was removed without asking for its content")
	}
	return firstError(
		func() error { return b.client.Remove(ctx, "/tmp/d/e", true) },
		func() error { return b.wantNames(ctx, "/tmp/d", "") },
	)
}

// wantNames compares the listing of a directory, a slash after directories.
func (b *box) wantNames(ctx context.Context, dir, want string) error {
	list, err := b.client.List(ctx, dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, f := range list {
		name := f.Name
		if f.Mode.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	if got := strings.Join(names, " "); got != want {
		return fmt.Errorf("%s holds %q, want %q", dir, got, want)
	}
	return nil
}

func checkSymlinks(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	err = b.expect(ctx, "cd tmp; echo text > target; ln -s target link; mkdir full; echo x > full/x; ln -s full dirlink; ln -s /nowhere dangling; echo made", "made")
	if err != nil {
		return err
	}
	info, err := b.client.Stat(ctx, "/tmp/link")
	if err != nil {
		return err
	}
	if info.Mode&fs.ModeSymlink == 0 || info.Target != "target" {
		return fmt.Errorf("stat of a symbolic link: %+v", info)
	}
	if _, err := b.client.Stat(ctx, "/tmp/dangling"); err != nil {
		return fmt.Errorf("stat of a dangling symbolic link: %w", err)
	}
	return firstError(
		func() error { return b.wantFile(ctx, "/tmp/link", 0, -1, "text\n") },
		func() error { return b.client.Remove(ctx, "/tmp/dirlink", true) },
		func() error { return b.wantFile(ctx, "/tmp/full/x", 0, -1, "x\n") },
	)
}

func checkFileErrors(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.write(ctx, "/tmp/plain", "x", guest.WriteOptions{}); err != nil {
		return err
	}
	_, _, readErr := b.client.ReadFile(ctx, "/tmp/missing", 0, -1)
	_, statErr := b.client.Stat(ctx, "/tmp/missing")
	_, listErr := b.client.List(ctx, "/tmp/missing")
	_, tarErr := b.client.TarOut(ctx, "/tmp/missing")
	for what, err := range map[string]error{
		"read": readErr, "stat": statErr, "list": listErr, "tar": tarErr,
		"remove": b.client.Remove(ctx, "/tmp/missing", false),
		"rename": b.client.Rename(ctx, "/tmp/missing", "/tmp/other"),
	} {
		if err := wantKind(what+" of a missing file", err, faas.KindNotFound); err != nil {
			return err
		}
	}
	_, listErr = b.client.List(ctx, "/tmp/plain")
	_, _, readErr = b.client.ReadFile(ctx, "/tmp", 0, -1)
	_, relative := b.client.Stat(ctx, "relative/path")
	bad := []faas.Kind{faas.KindInvalidArgument, faas.KindFailedPrecondition, faas.KindConflict}
	return firstError(
		func() error { return wantKind("list of a file", listErr, bad...) },
		func() error { return wantKind("read of a directory", readErr, bad...) },
		func() error { return wantKind("a relative path", relative, bad...) },
		func() error { return b.alive(ctx) },
	)
}

func checkFilesPrivate(ctx context.Context, env *Env) error {
	a, err := env.create(ctx)
	if err != nil {
		return err
	}
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for _, path := range []string{"/tmp/private", "/private", "/etc/private", "/dev/shm/private"} {
		if err := a.write(ctx, path, "of a", guest.WriteOptions{}); err != nil {
			return err
		}
		_, err := b.client.Stat(ctx, path)
		if err := wantKind("another sandbox's "+path, err, faas.KindNotFound); err != nil {
			return err
		}
	}
	return nil
}
