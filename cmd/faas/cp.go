package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/client"
)

type cpCommand struct {
	target
	Quiet bool `short:"q" help:"Show no progress."`

	From string `arg:"" help:"File or directory: a path here, INSTANCE:PATH, or - for standard input."`
	To   string `arg:"" help:"Where to: a path here, INSTANCE:PATH, or - for standard output. Into it when it is a directory."`
}

// place is one side of a copy.
type place struct {
	instance string // empty: this machine
	path     string // -: a standard stream of this machine
}

// placeOf reads a place as docker cp and scp do: what has a slash before its
// first colon is a path of this machine, and so is what begins with a drive.
func placeOf(text string) place {
	instance, name, ok := strings.Cut(text, ":")
	if !ok || instance == "" || strings.ContainsAny(instance, `/\`) || filepath.VolumeName(text) != "" {
		return place{path: text}
	}
	return place{instance, name}
}

// Run implements the command.
func (c *cpCommand) Run(line *commands) error {
	from, to := placeOf(c.From), placeOf(c.To)
	for _, p := range []place{from, to} {
		if p.instance != "" && !path.IsAbs(p.path) {
			return faas.InvalidField("", "the path in instance %s has to be absolute, as %s:/work, and is %q", p.instance, p.instance, p.path)
		}
	}
	switch {
	case from.instance != "" && to.instance != "":
		return faas.InvalidField("", "one of the two has to be on this machine: faas cp %s - | faas cp - %s copies between instances", c.From, c.To)
	case from.instance == "" && to.instance == "":
		return faas.InvalidField("", "one of the two has to be in an instance, as INSTANCE:PATH")
	case from.path == "" || to.path == "":
		return faas.InvalidField("", "a path is empty")
	}
	ctx, stop := interruptible()
	defer stop()
	remote, done, err := c.connect(ctx, line)
	if err != nil {
		return err
	}
	defer done()
	shown := newPatientProgress(c.Quiet)
	x := &copying{Client: remote, progress: &counted{step: "copying", progress: shown}}
	if from.instance != "" {
		err = x.download(ctx, from, to.path)
	} else {
		err = x.upload(ctx, from.path, to)
	}
	shown.close(err == nil)
	return err
}

// copying is one copy under way.
type copying struct {
	*client.Client
	progress *counted
}

func (x *copying) from(r io.Reader, size int64) io.Reader {
	x.progress.r, x.progress.total = r, max(size, 0)
	return x.progress
}

// What a path of an instance leads to.
const (
	isMissing = iota
	isFile
	isDirectory
)

// look tells what a path of an instance leads to; it fails when there is no
// such instance. What is neither a file nor a directory counts as the latter:
// nothing is written over it.
func (x *copying) look(ctx context.Context, at place) (int, error) {
	f, err := x.OpenFile(ctx, at.instance, at.path)
	if err == nil {
		return isFile, f.Close()
	}
	switch faas.KindOf(err) {
	case faas.KindInvalidArgument:
		return isDirectory, nil
	case faas.KindNotFound: // the path or the instance, which has a root
		if _, err := x.OpenFile(ctx, at.instance, "/"); faas.KindOf(err) != faas.KindInvalidArgument {
			return 0, err
		}
		return isMissing, nil
	}
	return 0, err
}

// upload copies into an instance, where missing directories are made.
func (x *copying) upload(ctx context.Context, from string, to place) error {
	if from == "-" {
		return x.uploadStream(ctx, to)
	}
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !st.IsDir() && !st.Mode().IsRegular() && st.Mode()&os.ModeNamedPipe == 0 {
		return faas.InvalidField("", "%s is neither a file nor a directory", from)
	}
	there, err := x.look(ctx, to)
	if err != nil {
		return err
	}
	into := there == isDirectory || there == isMissing && strings.HasSuffix(to.path, "/") && !st.IsDir()
	if into && !contentsOnly(from) {
		name, err := baseName(from)
		if err != nil {
			return err
		}
		to.path = path.Join(to.path, name)
	}
	if st.IsDir() {
		if there == isFile {
			return faas.InvalidField("", "%s:%s is a file, which a directory cannot be copied over", to.instance, to.path)
		}
		return x.uploadTree(ctx, from, to)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	options := client.WriteOptions{}
	if runtime.GOOS != "windows" { // where permissions are not those of Unix
		options.Mode = uint32(st.Mode().Perm())
	}
	_, err = x.WriteFile(ctx, to.instance, to.path, x.from(f, st.Size()), options)
	return err
}

// uploadStream writes standard input to a file or, where a directory is or the
// path ends with a slash, unpacks it as a tar archive.
func (x *copying) uploadStream(ctx context.Context, to place) error {
	there, err := x.look(ctx, to)
	if err != nil {
		return err
	}
	in := x.from(os.Stdin, 0)
	if there == isDirectory || strings.HasSuffix(to.path, "/") {
		return x.WriteArchive(ctx, to.instance, to.path, in)
	}
	_, err = x.WriteFile(ctx, to.instance, to.path, in, client.WriteOptions{})
	return err
}

// uploadTree packs and sends a directory.
func (x *copying) uploadTree(ctx context.Context, from string, to place) error {
	archive, packed := io.Pipe()
	result := make(chan error, 1)
	go func() {
		err := packTree(ctx, from, packed)
		packed.CloseWithError(err)
		result <- err
	}()
	err := x.WriteArchive(ctx, to.instance, to.path, x.from(archive, 0))
	archive.Close() // packing ends when nobody reads
	if packing := <-result; packing != nil && !errors.Is(packing, io.ErrClosedPipe) {
		return packing
	}
	return err
}

// download copies out of an instance.
func (x *copying) download(ctx context.Context, from place, to string) error {
	f, err := x.OpenFile(ctx, from.instance, from.path)
	if faas.KindOf(err) == faas.KindInvalidArgument { // no file: a directory, or else the archive tells
		return x.downloadTree(ctx, from, to)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if to != "-" {
		if to, err = placed(path.Base(from.path), to); err != nil {
			return err
		}
	}
	return writeFile(to, f.Mode.Perm(), x.from(f, f.SizeBytes))
}

// downloadTree receives and unpacks a directory; standard output gets the
// archive.
func (x *copying) downloadTree(ctx context.Context, from place, to string) error {
	body, err := x.ReadArchive(ctx, from.instance, from.path)
	if err != nil {
		return err
	}
	defer body.Close()
	archive := x.from(body, 0)
	if to == "-" {
		_, err = io.Copy(os.Stdout, archive)
		return err
	}
	if name := path.Base(path.Clean(from.path)); !contentsOnly(from.path) && name != "/" {
		if to, err = placed(name, to); err != nil {
			return err
		}
	}
	return unpackTree(to, archive)
}

// contentsOnly tells whether a directory's content is meant, and not itself.
func contentsOnly(name string) bool {
	return name == "." || strings.HasSuffix(filepath.ToSlash(name), "/.")
}

// baseName is the name that a path of this machine has in a directory.
func baseName(name string) (string, error) {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	base := filepath.Base(absolute)
	if base == string(filepath.Separator) || base == "." {
		return "", faas.InvalidField("", "%s has no name of its own: %s. copies what is in it", name, name)
	}
	return base, nil
}

// placed is the path here that something with a name is copied to: below an
// existing directory, else the path itself.
func placed(name, to string) (string, error) {
	st, err := os.Stat(to)
	switch {
	case err == nil && st.IsDir():
		return filepath.Join(to, name), nil
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return "", err
	case err != nil && os.IsPathSeparator(to[len(to)-1]):
		return "", faas.InvalidField("", "there is no directory %s", to)
	}
	return to, nil
}
