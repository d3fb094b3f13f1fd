package gateway

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/guest"
)

type filesInput struct {
	ID   string `path:"id" maxLength:"128" doc:"Id of the instance, or its name." example:"inst-0c7v4g6k1w0003f9a2m5d8r1t6"`
	Path string `query:"path" required:"true" minLength:"1" maxLength:"4096" doc:"Absolute." example:"/work"`
}

type removeInput struct {
	ID        string `path:"id" maxLength:"128" doc:"Id of the instance, or its name." example:"inst-0c7v4g6k1w0003f9a2m5d8r1t6"`
	Path      string `query:"path" required:"true" minLength:"1" maxLength:"4096" doc:"Absolute." example:"/work/data.csv"`
	Recursive bool   `query:"recursive" doc:"With all that is below."`
}

func (g *Gateway) registerFiles() {
	for _, route := range g.fileRoutes() {
		handleRaw(g, route.op, route.run)
	}
	op := func(id, method, path, summary string, failures ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{"files"}, Summary: summary, Errors: failures}
	}
	handle(g, op("list-files", http.MethodGet, api.PathInstances+"/{id}/files/list", "List a directory of an instance", changeErrors...),
		api.FileList{Path: "/work", Files: []api.FileInfo{exampleFile}}, g.listFiles)
	handle(g, op("delete-file", http.MethodDelete, api.PathInstances+"/{id}/files", "Remove a file of an instance, or a directory", changeErrors...),
		api.Removed{Removed: []string{"/work/data.csv"}}, g.deleteFile)
	upload := op("upload-file", http.MethodPost, api.PathUpload, "Write a file of an instance from a JSON body", changeErrors...)
	upload.Description = "For older clients. PUT on `files` and `archive` stream and have no limit on the size."
	handleBody(g, upload, map[string]any{
		"file": map[string]any{"instance_id": "inst-0c7v4g6k1w0003f9a2m5d8r1t6", "target_path": "/work/data.csv", "files_data": "YSxiCg=="},
	}, exampleFile, g.uploadFile)
}

var exampleFile = api.FileInfo{Path: "/work/data.csv", Type: "file", SizeBytes: 4, Mode: "0644", ModifiedAt: exampleTime}

// inGuest runs f with the agent of the instance that the path names.
func (g *Gateway) inGuest(ctx context.Context, id string, f func(*guest.Client) error) error {
	id, err := g.instanceID(ctx, id)
	if err != nil {
		return err
	}
	return g.opts.Executor.Guest(ctx, identity(ctx).Project, id, f)
}

// checkPath accepts absolute paths, as the caller means them.
func checkPath(field, name string) error {
	if !path.IsAbs(name) || strings.ContainsRune(name, 0) {
		return faas.InvalidField(field, "must be an absolute path")
	}
	return nil
}

func fileOf(name string, info guest.FileInfo) api.FileInfo {
	return api.FileInfo{
		Path: name, Type: api.FileType(info.Mode), SizeBytes: info.Size, Mode: octal(info), UID: info.UID, GID: info.GID,
		ModifiedAt: info.ModTime.UTC(), Target: info.Target,
	}
}

func octal(info guest.FileInfo) string { return fmt.Sprintf("%04o", api.FileMode(info.Mode)) }

func (g *Gateway) listFiles(ctx context.Context, in *filesInput) (api.FileList, error) {
	list := api.FileList{Path: in.Path, Files: []api.FileInfo{}}
	if err := checkPath("path", in.Path); err != nil {
		return list, err
	}
	err := g.inGuest(ctx, in.ID, func(c *guest.Client) error {
		found, err := c.List(ctx, in.Path)
		for _, info := range found {
			list.Files = append(list.Files, fileOf(path.Join(in.Path, info.Name), info))
		}
		return err
	})
	return list, err
}

func (g *Gateway) deleteFile(ctx context.Context, in *removeInput) (api.Removed, error) {
	if err := checkPath("path", in.Path); err != nil {
		return api.Removed{}, err
	}
	err := g.inGuest(ctx, in.ID, func(c *guest.Client) error { return c.Remove(ctx, in.Path, in.Recursive) })
	return api.Removed{Removed: []string{in.Path}}, err
}

func (g *Gateway) uploadFile(ctx context.Context, _ *struct{}, in *api.UploadRequest) (api.FileInfo, error) {
	if err := checkPath("target_path", in.TargetPath); err != nil {
		return api.FileInfo{}, err
	}
	var info guest.FileInfo
	err := g.inGuest(ctx, in.InstanceID, func(c *guest.Client) error {
		var err error
		if !strings.HasSuffix(in.TargetPath, "/") {
			info, err = c.WriteFile(ctx, in.TargetPath, bytes.NewReader(in.FilesData), guest.WriteOptions{Parents: true})
			return err
		}
		if err := c.TarIn(ctx, in.TargetPath, bytes.NewReader(in.FilesData)); err != nil {
			return err
		}
		info, err = c.Stat(ctx, in.TargetPath)
		return err
	})
	return fileOf(in.TargetPath, info), err
}

// failRaw answers with a problem or, when the answer has begun, cuts it off, so
// that nobody takes its part for the whole.
func (g *Gateway) failRaw(w http.ResponseWriter, r *http.Request, err error) {
	if c := callerOf(r.Context()); c != nil && c.answer.status != 0 {
		problem, _ := problemOf(err, c.requestID)
		g.logFailure(r.Context(), problem, err)
		panic(http.ErrAbortHandler)
	}
	g.fail(w, r, err)
}

// readFile answers with a file's content; ranges and conditions are those of
// HTTP.
func (g *Gateway) readFile(w http.ResponseWriter, r *http.Request) {
	query, err := queryOf(r, "path")
	if err == nil {
		err = checkPath("path", query.Get("path"))
	}
	if err == nil {
		err = g.inGuest(r.Context(), r.PathValue("id"), func(c *guest.Client) error {
			return serveFile(w, r, c, query.Get("path"))
		})
	}
	if err != nil {
		g.failRaw(w, r, err)
	}
}

func serveFile(w http.ResponseWriter, r *http.Request, c *guest.Client, name string) error {
	probe, info, err := c.ReadFile(r.Context(), name, 0, 0)
	if err != nil {
		return err
	}
	probe.Close() //nolint:errcheck // nothing was read
	if !info.Mode.IsRegular() {
		return faas.InvalidField("path", "%s is a %s, not a file", name, api.FileType(info.Mode))
	}
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Content-Disposition", "attachment")
	header.Set("Cache-Control", "no-cache")
	header.Set(api.HeaderFileMode, octal(info))
	header.Set(api.HeaderFileOwner, strconv.Itoa(info.UID)+":"+strconv.Itoa(info.GID))
	if info.Size == 0 { // empty, or one of the kernel's, which have no size
		body, _, err := c.ReadFile(r.Context(), name, 0, -1)
		if err != nil {
			return err
		}
		defer body.Close() //nolint:errcheck // read only
		_, err = io.Copy(w, body)
		return err
	}
	header.Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime.UnixNano(), info.Size))
	file := &guestFile{ctx: r.Context(), client: c, name: name, size: info.Size}
	defer file.close()
	answer := &rangeWriter{ResponseWriter: w}
	http.ServeContent(answer, r, "", info.ModTime, file)
	if answer.refused {
		header.Del("Content-Range")
		return faas.InvalidField("Range", "is not in the file, which has %d bytes", info.Size)
	}
	return file.failed
}

// rangeWriter keeps back the answer to a range that a file does not have, for
// which there is a problem.
type rangeWriter struct {
	http.ResponseWriter
	refused bool
}

// WriteHeader implements http.ResponseWriter.
func (w *rangeWriter) WriteHeader(status int) {
	if w.refused = status == http.StatusRequestedRangeNotSatisfiable; !w.refused {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write implements io.Writer.
func (w *rangeWriter) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *rangeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// guestFile is a file of an instance as an io.ReadSeeker: it is opened where
// it is read.
type guestFile struct {
	ctx    context.Context
	client *guest.Client
	name   string
	size   int64
	at     int64
	body   io.ReadCloser // not nil: open, at that place
	failed error
}

// Seek implements io.Seeker.
func (f *guestFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.size
	default:
	}
	if offset != f.at {
		f.close()
	}
	f.at = offset
	return offset, nil
}

// Read implements io.Reader.
func (f *guestFile) Read(p []byte) (int, error) {
	if f.body == nil {
		if f.body, _, f.failed = f.client.ReadFile(f.ctx, f.name, f.at, -1); f.failed != nil {
			f.body = nil
			return 0, f.failed
		}
	}
	n, err := f.body.Read(p)
	f.at += int64(n)
	if err != nil && (!errors.Is(err, io.EOF) || f.at < f.size) {
		f.failed = err // it has become shorter, too
	}
	return n, err
}

func (f *guestFile) close() {
	if f.body != nil {
		f.body.Close() //nolint:errcheck // read only
		f.body = nil
	}
}

// writeFile puts the request's body into a file.
func (g *Gateway) writeFile(w http.ResponseWriter, r *http.Request) {
	query, err := queryOf(r, "path", "mode", "user", "parents", "append", "directory")
	if err != nil {
		g.fail(w, r, err)
		return
	}
	name := query.Get("path")
	options := guest.WriteOptions{User: query.Get("user"), Parents: query.Get("parents") != "false", Append: query.Get("append") == "true"}
	err = cmp.Or(checkPath("path", name), checkBools(query, "parents", "append", "directory"))
	if text := query.Get("mode"); text != "" && err == nil {
		mode, parseErr := strconv.ParseUint(text, 8, 12)
		if parseErr != nil || mode == 0 {
			err = faas.InvalidField("mode", "must be permissions in octal, as 0644")
		}
		options.Mode = api.ParseFileMode(uint32(mode))
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	var info guest.FileInfo
	body := newTimedBody(w, r)
	err = g.inGuest(r.Context(), r.PathValue("id"), func(c *guest.Client) error {
		var err error
		if query.Get("directory") == "true" {
			if err = c.Mkdir(r.Context(), name, options); err == nil {
				info, err = c.Stat(r.Context(), name)
			}
			return err
		}
		info, err = c.WriteFile(r.Context(), name, body, options)
		return err
	})
	body.done()
	if err = body.cause(err); err != nil {
		g.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", fileOf(name, info))
}

func (g *Gateway) readArchive(w http.ResponseWriter, r *http.Request) {
	query, err := queryOf(r, "path")
	if err == nil {
		err = checkPath("path", query.Get("path"))
	}
	if err == nil {
		err = g.inGuest(r.Context(), r.PathValue("id"), func(c *guest.Client) error {
			body, err := c.TarOut(r.Context(), query.Get("path"))
			if err != nil {
				return err
			}
			defer body.Close() //nolint:errcheck // read only
			w.Header().Set("Content-Type", "application/x-tar")
			w.Header().Set("Content-Disposition", "attachment")
			_, err = io.Copy(w, body)
			return err
		})
	}
	if err != nil {
		g.failRaw(w, r, err)
	}
}

func (g *Gateway) writeArchive(w http.ResponseWriter, r *http.Request) {
	query, err := queryOf(r, "path")
	if err == nil {
		err = checkPath("path", query.Get("path"))
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	var info guest.FileInfo
	body := newTimedBody(w, r)
	err = g.inGuest(r.Context(), r.PathValue("id"), func(c *guest.Client) error {
		var from io.Reader = body
		if r.Header.Get("Content-Encoding") == "gzip" || r.Header.Get("Content-Type") == "application/gzip" {
			unpacked, err := gzip.NewReader(body)
			if err != nil {
				return faas.InvalidField("body", "is not gzip: %v", err)
			}
			from = unpacked
		}
		if err := c.TarIn(r.Context(), query.Get("path"), from); err != nil {
			return err
		}
		var err error
		info, err = c.Stat(r.Context(), query.Get("path"))
		return err
	})
	body.done()
	if err = body.cause(err); err != nil {
		g.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", fileOf(query.Get("path"), info))
}

// timedBody is a request's body of any size whose sender may not pause for
// longer than bodyReadTimeout.
type timedBody struct {
	from    io.Reader
	control *http.ResponseController
	failed  error
}

func newTimedBody(w http.ResponseWriter, r *http.Request) *timedBody {
	return &timedBody{from: r.Body, control: http.NewResponseController(w)}
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	_ = b.control.SetReadDeadline(time.Now().Add(bodyReadTimeout)) //nolint:errcheck // not offered by test recorders
	n, err := b.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.failed = err
	}
	return n, err
}

// done lets the server watch the connection for its end again.
func (b *timedBody) done() {
	_ = b.control.SetReadDeadline(time.Time{}) //nolint:errcheck // not offered by test recorders
}

// cause puts what was wrong with the body in the place of what came of it.
func (b *timedBody) cause(err error) error {
	switch {
	case err == nil || b.failed == nil:
		return err
	case errors.Is(b.failed, os.ErrDeadlineExceeded):
		return faas.Errorf(faas.KindDeadlineExceeded, "the request's body paused for more than %v", bodyReadTimeout)
	}
	return faas.Errorf(faas.KindInvalidArgument, "the request's body could not be read to its end")
}

// queryOf returns a raw operation's query parameters and refuses others.
func queryOf(r *http.Request, allowed ...string) (queryValues, error) {
	query := r.URL.Query()
	for name, values := range query {
		switch {
		case !slices.Contains(allowed, name):
			return nil, faas.InvalidField(name, "there is no such query parameter; there are %s", strings.Join(allowed, ", "))
		case len(values) > 1:
			return nil, faas.InvalidField(name, "is given more than once")
		}
	}
	return queryValues(query), nil
}

// queryValues are query parameters, each given once.
type queryValues map[string][]string

// Get returns a parameter, "" when it is not given.
func (q queryValues) Get(name string) string {
	if values := q[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

func checkBools(query queryValues, names ...string) error {
	for _, name := range names {
		switch query.Get(name) {
		case "", "true", "false":
		default:
			return faas.InvalidField(name, "must be true or false")
		}
	}
	return nil
}
