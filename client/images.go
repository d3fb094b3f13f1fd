package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Images lists the images that the project may use.
func (c *Client) Images(ctx context.Context) ([]api.Image, error) {
	list, err := get[api.ImageList](ctx, c, api.PathImages, nil)
	if err != nil {
		return nil, err
	}
	return list.Images, nil
}

// PullImage fetches an image from a registry and returns when it is there.
func (c *Client) PullImage(ctx context.Context, request api.PullImageRequest) (*api.Image, error) {
	return call[api.Image](ctx, c, http.MethodPost, api.PathImagePull, request)
}

// ImportImage takes in a tar of a root file system, an OCI layout or what
// docker save wrote, plain or compressed, and gives it a name. The tar is
// streamed.
func (c *Client) ImportImage(ctx context.Context, name string, tar io.Reader) (*api.Image, error) {
	path := api.PathImageImport + "?" + query("name", name).Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+path, tar)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "%w", err)
	}
	c.headers(request.Header)
	request.Header.Set("Content-Type", "application/x-tar")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return nil, problem(response)
	}
	imported := new(api.Image)
	if err := json.NewDecoder(io.LimitReader(response.Body, maxProblem)).Decode(imported); err != nil {
		return nil, faas.Errorf(faas.KindInternal, "the server's answer is not understood: %w", err)
	}
	return imported, nil
}

// RemoveImage takes an image from the project.
func (c *Client) RemoveImage(ctx context.Context, name string) (*api.RemovedImage, error) {
	return call[api.RemovedImage](ctx, c, http.MethodDelete, api.PathImages+"?"+query("image", name).Encode(), nil)
}
