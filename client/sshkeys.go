package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// CreateSSHKey generates an SSH key, or imports one. The private part of a
// generated key is in this answer and nowhere else.
func (c *Client) CreateSSHKey(ctx context.Context, request api.SSHKeyRequest) (*api.SSHKeyCreated, error) {
	return call[api.SSHKeyCreated](ctx, c, http.MethodPost, api.PathSSHKeys, request)
}

// SSHKeys lists one page of SSH keys and certificates, newest first.
func (c *Client) SSHKeys(ctx context.Context, filter faas.SSHKeyFilter) (*api.SSHKeyList, error) {
	query := url.Values{}
	for name, value := range map[string]string{"kind": string(filter.Kind), "instance_id": filter.InstanceID, "cursor": filter.Cursor} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if filter.Limit != 0 {
		query.Set("limit", strconv.Itoa(filter.Limit))
	}
	return get[api.SSHKeyList](ctx, c, api.PathSSHKeys, query)
}

// SSHKey shows one SSH key.
func (c *Client) SSHKey(ctx context.Context, id string) (*faas.SSHKey, error) {
	return get[faas.SSHKey](ctx, c, api.PathSSHKeys+"/"+url.PathEscape(id), nil)
}

// RevokeSSHKey revokes an SSH key or certificate; its open sessions end at
// once.
func (c *Client) RevokeSSHKey(ctx context.Context, id string) (*faas.SSHKey, error) {
	return call[faas.SSHKey](ctx, c, http.MethodDelete, api.PathSSHKeys+"/"+url.PathEscape(id), nil)
}

// RotateSSHKey puts a new SSH key into the place of another, which logs in for
// the overlap still.
func (c *Client) RotateSSHKey(ctx context.Context, id string, request api.SSHRotateRequest) (*api.SSHKeyCreated, error) {
	return call[api.SSHKeyCreated](ctx, c, http.MethodPost, api.PathSSHKeys+"/"+url.PathEscape(id)+"/rotate", request)
}

// SignSSHKey has the server sign a short-lived certificate.
func (c *Client) SignSSHKey(ctx context.Context, request api.SSHSignRequest) (*api.SSHCertificate, error) {
	return call[api.SSHCertificate](ctx, c, http.MethodPost, api.PathSSHSign, request)
}

// SSHServer says where the SSH server is and how it is known.
func (c *Client) SSHServer(ctx context.Context) (*api.SSHServer, error) {
	return get[api.SSHServer](ctx, c, api.PathSSHServer, nil)
}

// RotateSSHHostKeys makes new SSH host keys.
func (c *Client) RotateSSHHostKeys(ctx context.Context, request api.SSHHostKeysRequest) (*api.SSHServer, error) {
	return call[api.SSHServer](ctx, c, http.MethodPost, api.PathSSHHostKeys, request)
}

// InstanceSSH says how to log in to an instance, which ref names by id or name.
func (c *Client) InstanceSSH(ctx context.Context, ref string) (*api.InstanceSSH, error) {
	return get[api.InstanceSSH](ctx, c, api.PathInstances+"/"+url.PathEscape(ref)+"/ssh", nil)
}
