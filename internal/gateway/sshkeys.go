package gateway

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/sshkey"
)

// SSHKeys is what the gateway needs to manage keys.
type SSHKeys interface {
	Create(ctx context.Context, r sshkey.Request) (faas.SSHKey, string, error)
	Key(ctx context.Context, project, id string) (faas.SSHKey, error)
	Keys(ctx context.Context, project string, filter faas.SSHKeyFilter) ([]faas.SSHKey, string, error)
	Revoke(ctx context.Context, project, id string) (faas.SSHKey, error)
	Rotate(ctx context.Context, project, id, publicKey string, overlap time.Duration, by string) (faas.SSHKey, string, error)
	Sign(ctx context.Context, r sshkey.SignRequest) (faas.SSHKey, string, error)
}

// SSH is the SSH server that the gateway tells of. Keys are managed whether it
// runs or not.
type SSH struct {
	Keys     SSHKeys
	HostKeys *sshkey.HostKeys
	UserCA   string // public key of the server's authority
	Host     string // that clients connect to; empty: the one that they know the API by
	Port     int    // 0: it does not run
}

const (
	hostKeyOverlap = 7 * 24 * time.Hour
	maxHostOverlap = 365 * 24 * time.Hour
)

type sshKeyInput struct {
	ID string `path:"id" doc:"Id of the key." example:"sshkey-0c7v4g6k1w0003f9a2m5d8r1t6"`
}

type sshKeysInput struct {
	Limit      int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Keys on one page."`
	Cursor     string `query:"cursor" doc:"The next_cursor of the page before."`
	Kind       string `query:"kind" enum:"key,certificate" doc:"Of this kind only."`
	InstanceID string `query:"instance_id" doc:"That may log in to this instance."`
}

// sshKeys returns the service behind the routes.
func (g *Gateway) sshKeys() (SSHKeys, error) {
	if g.opts.SSH == nil {
		return nil, faas.Unavailable("this server keeps no SSH keys", "")
	}
	return g.opts.SSH.Keys, nil
}

var sshErrors = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnprocessableEntity}

func (g *Gateway) registerSSH() {
	tags := []string{"ssh"}
	handleBody(g, huma.Operation{
		OperationID: "create-ssh-key", Method: http.MethodPost, Path: api.PathSSHKeys, Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Generate an SSH key, or import one",
		Description: "The private part of a generated key is in this answer and nowhere else.",
		Errors:      []int{http.StatusConflict, http.StatusUnprocessableEntity},
	}, map[string]any{
		"generate": map[string]any{"name": "laptop"},
		"import":   map[string]any{"public_key": exampleSSHKey.PublicKey, "ttl_ms": 86400000},
	}, api.SSHKeyCreated{SSHKey: exampleSSHKey}, g.createSSHKey)
	handle(g, huma.Operation{
		OperationID: "list-ssh-keys", Method: http.MethodGet, Path: api.PathSSHKeys, Tags: tags,
		Summary: "List the project's SSH keys, newest first", Errors: append([]int{http.StatusBadRequest}, sshErrors...),
	}, api.SSHKeyList{SSHKeys: []faas.SSHKey{exampleSSHKey}}, g.listSSHKeys)
	handle(g, huma.Operation{
		OperationID: "get-ssh-key", Method: http.MethodGet, Path: api.PathSSHKeys + "/{id}", Tags: tags,
		Summary: "Show one SSH key", Errors: sshErrors,
	}, exampleSSHKey, func(ctx context.Context, in *sshKeyInput) (faas.SSHKey, error) {
		keys, err := g.sshKeys()
		if err != nil {
			return faas.SSHKey{}, err
		}
		return keys.Key(ctx, identity(ctx).Project, in.ID)
	})
	handle(g, huma.Operation{
		OperationID: "delete-ssh-key", Method: http.MethodDelete, Path: api.PathSSHKeys + "/{id}", Tags: tags,
		Summary: "Revoke an SSH key or a certificate", Description: "It logs in no more, and its open sessions end at once.", Errors: sshErrors,
	}, exampleSSHKey, func(ctx context.Context, in *sshKeyInput) (faas.SSHKey, error) {
		keys, err := g.sshKeys()
		if err != nil {
			return faas.SSHKey{}, err
		}
		return keys.Revoke(ctx, identity(ctx).Project, in.ID)
	})
	handleBody(g, huma.Operation{
		OperationID: "rotate-ssh-key", Method: http.MethodPost, Path: api.PathSSHKeys + "/{id}/rotate", Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Put a new SSH key into the place of another", Description: "The old one logs in for the overlap still, and keeps its open sessions.",
		Errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity},
	}, map[string]any{"hour": map[string]any{"overlap_ms": 3600000}}, api.SSHKeyCreated{SSHKey: exampleSSHKey}, g.rotateSSHKey)
	handleBody(g, huma.Operation{
		OperationID: "sign-ssh-key", Method: http.MethodPost, Path: api.PathSSHSign, Tags: tags, DefaultStatus: http.StatusCreated,
		Summary: "Sign a short-lived SSH certificate", Description: "It is on record like a key, and can be revoked like one.",
		Errors: []int{http.StatusUnprocessableEntity},
	}, map[string]any{"five minutes": map[string]any{"public_key": exampleSSHKey.PublicKey, "ttl_ms": 300000}},
		api.SSHCertificate{SSHKey: exampleSSHKey, Certificate: "ssh-ed25519-cert-v01@openssh.com AAAA…"}, g.signSSHKey)
	g.registerSSHServer(tags)
}

// registerSSHServer registers what tells of the SSH server.
func (g *Gateway) registerSSHServer(tags []string) {
	handle(g, huma.Operation{
		OperationID: "get-ssh-server", Method: http.MethodGet, Path: api.PathSSHServer, Tags: tags,
		Summary: "Say where the SSH server is and how it is known", Errors: sshErrors,
	}, exampleSSHServer, func(ctx context.Context, _ *struct{}) (api.SSHServer, error) { return g.sshServer(ctx) })
	handleBody(g, huma.Operation{
		OperationID: "rotate-ssh-host-keys", Method: http.MethodPost, Path: api.PathSSHHostKeys, Tags: tags,
		Summary:     "Make new SSH host keys",
		Description: "They are announced to clients that connect, and take the place of the old when the overlap is over. For those who manage the installation.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}, map[string]any{"week": map[string]any{"overlap_ms": 604800000}}, exampleSSHServer, g.rotateHostKeys)
	handle(g, huma.Operation{
		OperationID: "get-instance-ssh", Method: http.MethodGet, Path: api.PathInstances + "/{id}/ssh", Tags: tags,
		Summary: "Say how to log in to an instance by SSH", Errors: append([]int{http.StatusBadRequest, http.StatusConflict}, sshErrors...),
	}, api.InstanceSSH{
		SSHServer: exampleSSHServer, InstanceID: exampleInstance().ID, Username: exampleInstance().ID,
		Command: "ssh -p 2222 " + exampleInstance().ID + "@127.0.0.1", Keys: []faas.SSHKey{exampleSSHKey},
	}, g.instanceSSH)
}

func (g *Gateway) createSSHKey(ctx context.Context, _ *struct{}, body *api.SSHKeyRequest) (api.SSHKeyCreated, error) {
	keys, err := g.sshKeys()
	if err != nil {
		return api.SSHKeyCreated{}, err
	}
	expires := body.ExpiresAt
	if body.TTLMS > 0 {
		if expires != nil {
			return api.SSHKeyCreated{}, faas.InvalidField("ttl_ms", "says the same as expires_at: give one of them")
		}
		at := time.Now().UTC().Add(time.Duration(body.TTLMS) * time.Millisecond)
		expires = &at
	}
	who := identity(ctx)
	record, private, err := keys.Create(ctx, sshkey.Request{
		Project: who.Project, Name: body.Name, Type: body.Type, Bits: body.Bits, PublicKey: body.PublicKey,
		InstanceIDs: body.InstanceIDs, ExpiresAt: expires, MaxSessions: body.MaxSessions, CreatedBy: who.KeyID,
	})
	return api.SSHKeyCreated{SSHKey: record, PrivateKey: private}, err
}

func (g *Gateway) listSSHKeys(ctx context.Context, in *sshKeysInput) (api.SSHKeyList, error) {
	keys, err := g.sshKeys()
	if err != nil {
		return api.SSHKeyList{}, err
	}
	found, next, err := keys.Keys(ctx, identity(ctx).Project, faas.SSHKeyFilter{
		Kind: faas.SSHKeyKind(in.Kind), InstanceID: in.InstanceID, Limit: in.Limit, Cursor: in.Cursor,
	})
	if found == nil {
		found = []faas.SSHKey{}
	}
	return api.SSHKeyList{SSHKeys: found, NextCursor: next}, err
}

func (g *Gateway) rotateSSHKey(ctx context.Context, in *sshKeyInput, body *api.SSHRotateRequest) (api.SSHKeyCreated, error) {
	keys, err := g.sshKeys()
	if err != nil {
		return api.SSHKeyCreated{}, err
	}
	who := identity(ctx)
	record, private, err := keys.Rotate(ctx, who.Project, in.ID, body.PublicKey, overlap(body.OverlapMS, sshkey.DefaultOverlap), who.KeyID)
	return api.SSHKeyCreated{SSHKey: record, PrivateKey: private}, err
}

func overlap(ms *int64, otherwise time.Duration) time.Duration {
	if ms == nil {
		return otherwise
	}
	return time.Duration(min(*ms, maxHostOverlap.Milliseconds()+1)) * time.Millisecond
}

func (g *Gateway) signSSHKey(ctx context.Context, _ *struct{}, body *api.SSHSignRequest) (api.SSHCertificate, error) {
	keys, err := g.sshKeys()
	if err != nil {
		return api.SSHCertificate{}, err
	}
	who := identity(ctx)
	record, certificate, err := keys.Sign(ctx, sshkey.SignRequest{
		Project: who.Project, Name: body.Name, PublicKey: body.PublicKey, InstanceIDs: body.InstanceIDs,
		TTL: time.Duration(min(body.TTLMS, 2*sshkey.MaxCertificateTTL.Milliseconds())) * time.Millisecond, MaxSessions: body.MaxSessions, CreatedBy: who.KeyID,
	})
	return api.SSHCertificate{SSHKey: record, Certificate: certificate}, err
}

// errNoSSH is the answer where no SSH server runs.
func errNoSSH() error {
	return faas.Unavailable("this server runs without an SSH server", "start it with `faas serve --ssh`, or set ssh.listen")
}

// sshAddress is where clients connect to; port 0 where no SSH server runs.
func (g *Gateway) sshAddress(ctx context.Context) (host string, port int) {
	if g.opts.SSH == nil || g.opts.SSH.Port == 0 {
		return "", 0
	}
	host = g.opts.SSH.Host
	if x, ok := ctx.Value(exchangeKey{}).(exchange); ok && host == "" {
		host = x.r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
	}
	return host, g.opts.SSH.Port
}

func (g *Gateway) sshServer(ctx context.Context) (api.SSHServer, error) {
	host, port := g.sshAddress(ctx)
	if port == 0 {
		return api.SSHServer{}, errNoSSH()
	}
	answer := api.SSHServer{
		Host: host, Port: port, UserCA: g.opts.SSH.UserCA,
		KnownHosts: g.opts.SSH.HostKeys.KnownHosts(net.JoinHostPort(host, fmt.Sprint(port))),
	}
	for _, key := range g.opts.SSH.HostKeys.Published() {
		answer.HostKeys = append(answer.HostKeys, api.SSHHostKey(key))
	}
	return answer, nil
}

func (g *Gateway) rotateHostKeys(ctx context.Context, _ *struct{}, body *api.SSHHostKeysRequest) (api.SSHServer, error) {
	if !identity(ctx).Installation() {
		return api.SSHServer{}, faas.Errorf(faas.KindPermissionDenied, "host keys are the installation's: its admins rotate them")
	}
	if _, port := g.sshAddress(ctx); port == 0 {
		return api.SSHServer{}, errNoSSH()
	}
	span := overlap(body.OverlapMS, hostKeyOverlap)
	if span > maxHostOverlap {
		return api.SSHServer{}, faas.InvalidField("overlap_ms", "is more than a year")
	}
	if err := g.opts.SSH.HostKeys.Rotate(span); err != nil {
		return api.SSHServer{}, err
	}
	return g.sshServer(ctx)
}

// instance puts an instance into the form of the wire, with where SSH reaches
// it.
func (g *Gateway) instance(ctx context.Context, x *faas.Instance) *api.Instance {
	out := api.NewInstance(x)
	if host, port := g.sshAddress(ctx); port != 0 && !x.SSHDisabled {
		out.SSHHost, out.SSHPort, out.SSHUsername = host, port, x.ID
	}
	return out
}

// maxListedKeys bounds the keys in the answer about an instance.
const maxListedKeys = 1000

func (g *Gateway) instanceSSH(ctx context.Context, in *instanceInput) (api.InstanceSSH, error) {
	id, err := g.instanceID(ctx, in.ID)
	if err != nil {
		return api.InstanceSSH{}, err
	}
	project := identity(ctx).Project
	x, err := g.opts.Executor.Instance(ctx, project, id)
	if err != nil {
		return api.InstanceSSH{}, err
	}
	answer := api.InstanceSSH{InstanceID: id, Username: id}
	if answer.SSHServer, err = g.sshServer(ctx); err != nil {
		return answer, err
	}
	if x.SSHDisabled {
		return answer, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "reach " + id + " by SSH", Detail: "it was made with enable_ssh false"}
	}
	answer.Command = fmt.Sprintf("ssh -p %d %s@%s", answer.Port, id, answer.Host)
	answer.Keys, _, err = g.opts.SSH.Keys.Keys(ctx, project, faas.SSHKeyFilter{InstanceID: id, Limit: maxListedKeys})
	if answer.Keys == nil {
		answer.Keys = []faas.SSHKey{}
	}
	return answer, err
}
