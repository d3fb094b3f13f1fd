package guest

import (
	"context"

	"github.com/faas-platform/faas/guest/internal/wire"
)

// What follows came after the first agents. One that does not know an
// operation refuses it with faas.ErrCapabilityUnavailable.

// SetAttributes changes a file's attributes, following a last symbolic link.
func (c *Client) SetAttributes(ctx context.Context, path string, a Attributes) error {
	return failure("set attributes", c.call(ctx, wire.OpSetAttr, wire.AttrArgs{
		Path: path, Mode: a.Mode, UID: a.UID, GID: a.GID, Size: a.Size, Access: a.Access, ModTime: a.ModTime,
	}, nil))
}

// Symlink makes a symbolic link at path, owned by user (root when empty).
func (c *Client) Symlink(ctx context.Context, target, path, user string) error {
	return failure("make symbolic link", c.call(ctx, wire.OpSymlink, wire.FileArgs{Path: path, To: target, User: user}, nil))
}

// Link gives the file at from the further name path.
func (c *Client) Link(ctx context.Context, from, path string) error {
	return failure("link", c.call(ctx, wire.OpLink, wire.FileArgs{Path: path, To: from}, nil))
}

// RealPath resolves every symbolic link of a path that exists.
func (c *Client) RealPath(ctx context.Context, path string) (string, error) {
	var real string
	return real, failure("resolve path", c.call(ctx, wire.OpRealPath, wire.FileArgs{Path: path}, &real))
}

// Space says how full the file system of a path is.
func (c *Client) Space(ctx context.Context, path string) (Space, error) {
	var out Space
	return out, failure("read file system", c.call(ctx, wire.OpSpace, wire.FileArgs{Path: path}, &out))
}
