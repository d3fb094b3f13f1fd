package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// instancePath is the path of an instance, which is named by its id or name.
func instancePath(instance string) string { return api.PathInstances + "/" + url.PathEscape(instance) }

// transfer sends a request whose body is passed on as it comes, and returns the
// answer when it is a success.
func (c *Client) transfer(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, body)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	c.headers(request.Header)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode/100 != 2 {
		defer response.Body.Close()
		return nil, problem(response)
	}
	return response, nil
}

// put streams a body and reads what then is there.
func (c *Client) put(ctx context.Context, path, mediaType string, body io.Reader) (*api.FileInfo, error) {
	response, err := c.transfer(ctx, http.MethodPut, path, http.Header{"Content-Type": {mediaType}}, body)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	info := new(api.FileInfo)
	if err := json.NewDecoder(io.LimitReader(response.Body, maxProblem)).Decode(info); err != nil {
		return nil, c.unreachable(err)
	}
	return info, nil
}

// ReadFile opens a file of an instance from an offset on; length < 0 reads to
// its end. The caller closes it. It streams, whatever the size.
func (c *Client) ReadFile(ctx context.Context, instance, path string, offset, length int64) (io.ReadCloser, error) {
	header := http.Header{}
	if offset > 0 || length >= 0 {
		if length == 0 {
			return http.NoBody, nil
		}
		end := ""
		if length > 0 {
			end = strconv.FormatInt(offset+length-1, 10)
		}
		header.Set("Range", fmt.Sprintf("bytes=%d-%s", offset, end))
	}
	response, err := c.transfer(ctx, http.MethodGet, instancePath(instance)+"/files?"+url.Values{"path": {path}}.Encode(), header, nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// File is an open file of an instance.
type File struct {
	io.ReadCloser
	SizeBytes int64       // -1: not known
	Mode      fs.FileMode // permissions, with the set-id and sticky bits
}

// OpenFile opens a file of an instance from its begin, with what the server
// tells of it. The caller closes it. A path that is not a file's is
// KindInvalidArgument, one where nothing is KindNotFound.
func (c *Client) OpenFile(ctx context.Context, instance, path string) (*File, error) {
	response, err := c.transfer(ctx, http.MethodGet, instancePath(instance)+"/files?"+url.Values{"path": {path}}.Encode(), nil, nil)
	if err != nil {
		return nil, err
	}
	mode, err := strconv.ParseUint(response.Header.Get(api.HeaderFileMode), 8, 32)
	if err != nil {
		response.Body.Close() //nolint:errcheck // not read
		return nil, faas.Errorf(faas.KindUnavailable, "the server told no permissions of %s, as this API does", path)
	}
	return &File{response.Body, response.ContentLength, api.ParseFileMode(uint32(mode))}, nil
}

// WriteOptions says how a file is written.
type WriteOptions struct {
	Mode      uint32 // permissions, as 0o644; 0: those of the file that was there, else 0644
	User      string // owner: name or uid[:gid] inside; empty: that of the file that was there, else root
	Append    bool   // add to the end instead of replacing
	NoParents bool   // do not make missing directories
}

// WriteFile writes a file of an instance. It streams; the file is replaced when
// all of it has come, and never half.
func (c *Client) WriteFile(ctx context.Context, instance, path string, body io.Reader, opts WriteOptions) (*api.FileInfo, error) {
	query := url.Values{"path": {path}}
	if opts.Mode != 0 {
		query.Set("mode", strconv.FormatUint(uint64(opts.Mode), 8))
	}
	if opts.User != "" {
		query.Set("user", opts.User)
	}
	if opts.Append {
		query.Set("append", "true")
	}
	if opts.NoParents {
		query.Set("parents", "false")
	}
	return c.put(ctx, instancePath(instance)+"/files?"+query.Encode(), "application/octet-stream", body)
}

// MakeDirectory makes a directory of an instance, with its parents.
func (c *Client) MakeDirectory(ctx context.Context, instance, path string) (*api.FileInfo, error) {
	query := url.Values{"path": {path}, "directory": {"true"}}
	return c.put(ctx, instancePath(instance)+"/files?"+query.Encode(), "application/octet-stream", nil)
}

// ListFiles lists a directory of an instance by name.
func (c *Client) ListFiles(ctx context.Context, instance, path string) ([]api.FileInfo, error) {
	list, err := get[api.FileList](ctx, c, instancePath(instance)+"/files/list", url.Values{"path": {path}})
	if err != nil {
		return nil, err
	}
	return list.Files, nil
}

// RemoveFile removes a file of an instance, or a directory; with recursive all
// that is below it too.
func (c *Client) RemoveFile(ctx context.Context, instance, path string, recursive bool) error {
	query := url.Values{"path": {path}}
	if recursive {
		query.Set("recursive", "true")
	}
	_, err := call[api.Removed](ctx, c, http.MethodDelete, instancePath(instance)+"/files?"+query.Encode(), nil)
	return err
}

// ReadArchive opens a directory of an instance as a tar archive with names
// relative to it. The caller closes it.
func (c *Client) ReadArchive(ctx context.Context, instance, path string) (io.ReadCloser, error) {
	response, err := c.transfer(ctx, http.MethodGet, instancePath(instance)+"/archive?"+url.Values{"path": {path}}.Encode(), nil, nil)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

// WriteArchive unpacks a tar archive into a directory of an instance, which is
// made when missing.
func (c *Client) WriteArchive(ctx context.Context, instance, path string, archive io.Reader) error {
	_, err := c.put(ctx, instancePath(instance)+"/archive?"+url.Values{"path": {path}}.Encode(), "application/x-tar", archive)
	return err
}

// ExposePort lets a port of an instance be reached.
func (c *Client) ExposePort(ctx context.Context, request api.ExposeRequest) (*api.Port, error) {
	return call[api.Port](ctx, c, http.MethodPost, api.PathExpose, request)
}

// Ports lists the project's exposed ports; with an instance, its id or name,
// only its.
func (c *Client) Ports(ctx context.Context, instance string) ([]api.Port, error) {
	query := url.Values{}
	if instance != "" {
		query.Set("instance_id", instance)
	}
	list, err := get[api.PortList](ctx, c, api.PathPorts, query)
	if err != nil {
		return nil, err
	}
	return list.Ports, nil
}

// ClosePort ends the exposure of a port.
func (c *Client) ClosePort(ctx context.Context, id string) error {
	_, err := call[api.Removed](ctx, c, http.MethodDelete, api.PathPorts+"/"+url.PathEscape(id), nil)
	return err
}
