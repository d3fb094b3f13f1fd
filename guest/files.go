package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// maxList bounds the answer of List and Processes, in bytes.
const maxList = 64 << 20

// ReadFile opens a file for reading from an offset; length < 0 reads to its
// end. The caller closes the reader; it ends with an error when ctx does.
func (c *Client) ReadFile(ctx context.Context, path string, offset, length int64) (io.ReadCloser, FileInfo, error) {
	var info FileInfo
	o, err := c.begin(ctx, wire.OpRead, wire.FileArgs{Path: path, Offset: offset, Length: length}, shape{in: true, bulk: true}, &info)
	if err != nil {
		return nil, info, failure("read file", err)
	}
	return newBody(ctx, o, "read file"), info, nil
}

// body is what an operation sends.
type body struct {
	o    *operation
	op   string
	stop func() bool
}

func newBody(ctx context.Context, o *operation, op string) *body {
	return &body{o: o, op: op, stop: context.AfterFunc(ctx, func() { o.abort(ctx.Err()) })}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.o.in.Read(p)
	return n, b.failure(err)
}

func (b *body) WriteTo(w io.Writer) (int64, error) {
	n, err := b.o.in.WriteTo(w)
	return n, b.failure(err)
}

// failure tells the end of the body from the operation's failure, of which
// the agent speaks after the last byte.
func (b *body) failure(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return failure(b.op, err)
}

func (b *body) Close() error {
	b.stop()
	b.o.abort(&faas.Error{Kind: faas.KindUnavailable, Detail: "the reader is closed", Err: io.ErrClosedPipe})
	b.o.in.Discard()
	return nil
}

// send opens an operation that takes a body and waits for its result.
func (c *Client) send(ctx context.Context, op string, args any, r io.Reader, value any) error {
	o, err := c.begin(ctx, op, args, shape{out: true, bulk: true}, nil)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { o.abort(ctx.Err()) })
	defer stop()
	_, err = o.out.ReadFrom(r)
	if err == nil {
		err = o.out.CloseWrite()
	}
	if err != nil && !errors.Is(err, wire.ErrStopped) && !isClosed(o.done) {
		o.abort(err) // the source failed; what was written aside is dropped
		return err
	}
	return o.wait(ctx, o.done, 1, value)
}

// WriteFile writes a file from r and returns what then is there.
func (c *Client) WriteFile(ctx context.Context, path string, r io.Reader, opts WriteOptions) (FileInfo, error) {
	var info FileInfo
	err := c.send(ctx, wire.OpWrite, fileArgs(path, opts), r, &info)
	return info, failure("write file", err)
}

func fileArgs(path string, opts WriteOptions) wire.FileArgs {
	return wire.FileArgs{Path: path, Mode: opts.Mode, User: opts.User, Parents: opts.Parents, Append: opts.Append}
}

// Stat describes a path without following a last symbolic link.
func (c *Client) Stat(ctx context.Context, path string) (FileInfo, error) {
	var info FileInfo
	return info, failure("stat", c.call(ctx, wire.OpStat, wire.FileArgs{Path: path}, &info))
}

// List describes the entries of a directory, sorted by name.
func (c *Client) List(ctx context.Context, path string) ([]FileInfo, error) {
	out, err := list[FileInfo](ctx, c, wire.OpList, wire.FileArgs{Path: path})
	return out, failure("list directory", err)
}

// Processes lists what runs inside, the agent included.
func (c *Client) Processes(ctx context.Context) ([]Process, error) {
	out, err := list[Process](ctx, c, wire.OpProcesses, nil)
	return out, failure("list processes", err)
}

// list reads an answer of one JSON value per line.
func list[T any](ctx context.Context, c *Client, op string, args any) ([]T, error) {
	o, err := c.begin(ctx, op, args, shape{in: true}, nil)
	if err != nil {
		return nil, err
	}
	b := newBody(ctx, o, op)
	defer b.Close()
	limited := &io.LimitedReader{R: b, N: maxList}
	out := []T{}
	for dec := json.NewDecoder(bufio.NewReader(limited)); ; {
		var v T
		err := dec.Decode(&v)
		if limited.N <= 0 {
			return nil, faas.Errorf(faas.KindPayloadTooLarge, "the list is longer than %d bytes", maxList)
		}
		if err == io.EOF {
			return out, o.wait(ctx, o.done, 1, nil)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

// Mkdir makes a directory and its missing parents.
func (c *Client) Mkdir(ctx context.Context, path string, opts WriteOptions) error {
	return failure("make directory", c.call(ctx, wire.OpMkdir, fileArgs(path, opts), nil))
}

// Remove removes a file, or a directory with all below it when recursive.
func (c *Client) Remove(ctx context.Context, path string, recursive bool) error {
	return failure("remove", c.call(ctx, wire.OpRemove, wire.FileArgs{Path: path, Recursive: recursive}, nil))
}

// Rename moves a file or directory.
func (c *Client) Rename(ctx context.Context, from, to string) error {
	return failure("rename", c.call(ctx, wire.OpRename, wire.FileArgs{Path: from, To: to}, nil))
}

// TarOut streams the tree below path as a tar archive with names relative to it.
func (c *Client) TarOut(ctx context.Context, path string) (io.ReadCloser, error) {
	o, err := c.begin(ctx, wire.OpTarOut, wire.FileArgs{Path: path}, shape{in: true, bulk: true}, nil)
	if err != nil {
		return nil, failure("archive tree", err)
	}
	return newBody(ctx, o, "archive tree"), nil
}

// TarIn unpacks a tar archive below path, which is made when missing. A member
// that would come to lie outside of it is refused.
func (c *Client) TarIn(ctx context.Context, path string, r io.Reader) error {
	return failure("unpack archive", c.send(ctx, wire.OpTarIn, wire.FileArgs{Path: path}, r, nil))
}
