package gateway

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

var exampleKey = api.APIKey{
	ID: "key-0c7v4g6k1w0003f9a2m5d8r1t6", Name: "ci", Project: faas.DefaultProject, Role: api.RoleUser, Scopes: []string{"execute", "images:read"},
	Quota: api.Quota{Concurrency: 8, RatePerSecond: 50}, CreatedAt: exampleTime,
}

type keyInput struct {
	ID string `path:"id" doc:"Id of the key." example:"key-0c7v4g6k1w0003f9a2m5d8r1t6"`
}

type keysInput struct {
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Keys on one page."`
	Cursor  string `query:"cursor" doc:"The next_cursor of the page before."`
	Project string `query:"project" doc:"Keys of this project; * means all. Another than the caller's only for admins of the project default."`
}

func (g *Gateway) registerKeys() {
	handleBody(g, huma.Operation{
		OperationID: "create-api-key", Method: http.MethodPost, Path: api.PathAPIKeys, Tags: []string{"api-keys"}, DefaultStatus: http.StatusCreated,
		Summary:     "Make an API key",
		Description: "For admins. The answer is the only one that holds the plain key.",
		Errors:      []int{http.StatusConflict},
	}, map[string]any{
		"ci":     map[string]any{"name": "ci", "role": "user", "scopes": []string{"execute", "images:read"}, "quota": map[string]any{"concurrency": 8, "rate_per_second": 50}},
		"viewer": map[string]any{"name": "dashboard", "role": "read-only", "ttl_ms": 86400000},
	}, &api.NewAPIKey{APIKey: exampleKey, Key: "faas_…"}, g.createKey)
	handle(g, huma.Operation{
		OperationID: "list-api-keys", Method: http.MethodGet, Path: api.PathAPIKeys, Tags: []string{"api-keys"},
		Summary: "List the project's API keys, oldest first", Description: "For admins.",
	}, api.APIKeyList{APIKeys: []api.APIKey{exampleKey}}, g.listKeys)
	handle(g, huma.Operation{
		OperationID: "get-api-key", Method: http.MethodGet, Path: api.PathAPIKeys + "/{id}", Tags: []string{"api-keys"},
		Summary: "Show one API key", Description: "For admins.", Errors: []int{http.StatusNotFound},
	}, &exampleKey, func(ctx context.Context, in *keyInput) (*api.APIKey, error) {
		key, err := g.key(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return keyView(key), nil
	})
	handle(g, huma.Operation{
		OperationID: "delete-api-key", Method: http.MethodDelete, Path: api.PathAPIKeys + "/{id}", Tags: []string{"api-keys"},
		Summary: "Revoke an API key", Description: "For admins. The key is refused from the next request on; what it started goes on.",
		Errors: []int{http.StatusNotFound, http.StatusConflict},
	}, &exampleKey, g.deleteKey)
}

// requireAdmin refuses keys that do not manage their project.
func requireAdmin(ctx context.Context) error {
	if role := identity(ctx).Role; !role.Allows(auth.RoleAdmin) {
		return faas.Errorf(faas.KindPermissionDenied, "only an admin may do this, the key is %s", role)
	}
	return nil
}

// requireInstallation refuses keys that do not manage the installation.
func requireInstallation(ctx context.Context) error {
	if !identity(ctx).Installation() {
		return faas.Errorf(faas.KindPermissionDenied, "only an admin of the project %s may do this", faas.DefaultProject)
	}
	return nil
}

// keyStore returns the keys, and an error where the server asks for none.
func (g *Gateway) keyStore(ctx context.Context) (auth.Store, error) {
	if err := requireAdmin(ctx); err != nil {
		return nil, err
	}
	if g.opts.Auth == nil {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "the server asks for no keys", Remedy: "start it without --no-auth"}
	}
	return g.opts.Auth.Store(), nil
}

func (g *Gateway) createKey(ctx context.Context, _ *struct{}, in *api.CreateAPIKeyRequest) (*api.NewAPIKey, error) {
	store, err := g.keyStore(ctx)
	if err != nil {
		return nil, err
	}
	who := identity(ctx)
	key := auth.Key{
		Name: in.Name, Project: cmp.Or(in.Project, who.Project), Role: auth.Role(cmp.Or(in.Role, api.RoleUser)), Scopes: in.Scopes, ExpiresAt: in.ExpiresAt,
	}
	if in.Quota != nil {
		key.Quota = auth.Quota(*in.Quota)
	}
	switch {
	case key.Project != who.Project && !who.Installation():
		return nil, faas.Errorf(faas.KindPermissionDenied, "only admins of the project %s make keys of other projects", faas.DefaultProject)
	case in.TTLMS > 0 && in.ExpiresAt != nil:
		return nil, faas.InvalidField("ttl_ms", "expires_at says the same")
	case in.TTLMS > 0:
		at := time.Now().UTC().Add(time.Duration(in.TTLMS) * time.Millisecond)
		key.ExpiresAt = &at
	}
	if err := g.checkScopes(in.Scopes); err != nil {
		return nil, err
	}
	key, plain, err := auth.NewKey(ctx, store, key)
	if err != nil {
		return nil, err
	}
	return &api.NewAPIKey{APIKey: *keyView(key), Key: plain}, nil
}

// checkScopes holds scopes to the areas that the API has.
func (g *Gateway) checkScopes(scopes []string) error {
	var areas []string
	for _, tag := range g.api.OpenAPI().Tags {
		areas = append(areas, tag.Name)
	}
	for _, scope := range scopes {
		if !slices.Contains(areas, strings.TrimSuffix(scope, ":read")) {
			return faas.InvalidField("scopes", "there is no area %q: %s, each with or without :read", scope, strings.Join(areas, ", "))
		}
	}
	return nil
}

// key returns a key that the caller may see.
func (g *Gateway) key(ctx context.Context, id string) (auth.Key, error) {
	store, err := g.keyStore(ctx)
	if err != nil {
		return auth.Key{}, err
	}
	absent := faas.Errorf(faas.KindNotFound, "there is no API key %q", id)
	if !faas.ValidID(faas.PrefixKey, id) {
		return auth.Key{}, absent
	}
	key, err := store.Key(ctx, id)
	if err == nil && key.Project != identity(ctx).Project && !identity(ctx).Installation() {
		return auth.Key{}, absent
	}
	return key, err
}

func (g *Gateway) listKeys(ctx context.Context, in *keysInput) (api.APIKeyList, error) {
	store, err := g.keyStore(ctx)
	if err != nil {
		return api.APIKeyList{}, err
	}
	project, err := projectOf(ctx, in.Project)
	if err != nil {
		return api.APIKeyList{}, err
	}
	if in.Cursor != "" && !faas.ValidID(faas.PrefixKey, in.Cursor) {
		return api.APIKeyList{}, faas.InvalidField("cursor", "not a cursor of this list")
	}
	keys, err := store.Keys(ctx, project)
	if err != nil {
		return api.APIKeyList{}, err
	}
	list := api.APIKeyList{APIKeys: []api.APIKey{}}
	for _, key := range keys {
		if key.ID <= in.Cursor {
			continue
		}
		if len(list.APIKeys) == in.Limit {
			list.NextCursor = list.APIKeys[in.Limit-1].ID
			break
		}
		list.APIKeys = append(list.APIKeys, *keyView(key))
	}
	return list, nil
}

// projectOf returns the project that a list is asked for, "" for all of them.
func projectOf(ctx context.Context, asked string) (string, error) {
	who := identity(ctx)
	if asked == "" || asked == who.Project {
		return who.Project, nil
	}
	if !who.Installation() {
		return "", faas.Errorf(faas.KindPermissionDenied, "only admins of the project %s see other projects", faas.DefaultProject)
	}
	if asked == "*" {
		return "", nil
	}
	return asked, nil
}

func (g *Gateway) deleteKey(ctx context.Context, in *keyInput) (*api.APIKey, error) {
	key, err := g.key(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if key.ID == identity(ctx).KeyID {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Detail: "a key cannot revoke itself", Remedy: "use another admin's key"}
	}
	if err := g.opts.Auth.Store().DeleteKey(ctx, key.ID); err != nil {
		return nil, err
	}
	g.opts.Auth.Forget(key.ID)
	g.opts.Quota.Forget(key.ID)
	return keyView(key), nil
}

func keyView(k auth.Key) *api.APIKey {
	scopes := k.Scopes
	if scopes == nil {
		scopes = []string{}
	}
	return &api.APIKey{
		ID: k.ID, Name: k.Name, Project: k.Project, Role: string(k.Role), Scopes: scopes, Quota: api.Quota(k.Quota),
		CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt,
	}
}
