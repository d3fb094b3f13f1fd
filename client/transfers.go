package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// ExportSnapshot writes a snapshot as one stream for another installation:
// kind fs without memory, auto (or "") as it is. After an error what was
// written is no whole stream, and no import takes it.
func (c *Client) ExportSnapshot(ctx context.Context, id string, kind faas.SnapshotKind, w io.Writer) error {
	query := url.Values{}
	if kind != "" {
		query.Set("kind", string(kind))
	}
	response, err := c.send(ctx, http.MethodGet, api.PathSnapshots+"/"+url.PathEscape(id)+"/export?"+query.Encode(), api.SnapshotStream, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return c.unreachable(err)
	}
	return nil
}

// ImportSnapshot takes in an exported stream: kind fs its files only, full
// refused unless memory is taken in, auto (or "") what is allowed. A name
// stands in for its own when it is not empty.
func (c *Client) ImportSnapshot(ctx context.Context, r io.Reader, kind faas.SnapshotKind, name string) (*api.Snapshot, error) {
	query := url.Values{}
	if kind != "" {
		query.Set("kind", string(kind))
	}
	if name != "" {
		query.Set("name", name)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+api.PathSnapshotImport+"?"+query.Encode(), r)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%w", err)
	}
	c.headers(request.Header)
	request.Header.Set("Content-Type", api.SnapshotStream)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return nil, problem(response)
	}
	answer := new(api.Snapshot)
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "import snapshot: the server's answer is not understood: %w", err)
	}
	return answer, nil
}

// VerifySnapshots reads all that snapshots hold and returns what is wrong with
// them. No ids: all of the project.
func (c *Client) VerifySnapshots(ctx context.Context, ids ...string) ([]faas.SnapshotProblem, error) {
	answer, err := call[api.SnapshotVerified](ctx, c, http.MethodPost, api.PathSnapshotVerify, api.SnapshotVerify{IDs: ids})
	if err != nil {
		return nil, err
	}
	return answer.Problems, nil
}

// CollectSnapshots frees what no snapshot and no sandbox needs, and returns how
// many bytes that freed in the cold tier. For admins of the installation.
func (c *Client) CollectSnapshots(ctx context.Context) (int64, error) {
	answer, err := call[api.SnapshotCollected](ctx, c, http.MethodPost, api.PathSnapshotGC, nil)
	if err != nil {
		return 0, err
	}
	return answer.FreedBytes, nil
}

// SnapshotKey returns the public key that the server signs its exports with.
func (c *Client) SnapshotKey(ctx context.Context) (string, error) {
	answer, err := get[api.SnapshotKey](ctx, c, api.PathSnapshotKey, nil)
	if err != nil {
		return "", err
	}
	return answer.PublicKey, nil
}
