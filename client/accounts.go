package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/faas-platform/faas/api"
)

// CreateAPIKey makes a key. The answer is the only one that holds its plain
// form. The caller's key must be an admin's; faas.ErrPermissionDenied
// otherwise.
func (c *Client) CreateAPIKey(ctx context.Context, request api.CreateAPIKeyRequest) (*api.NewAPIKey, error) {
	return call[api.NewAPIKey](ctx, c, http.MethodPost, api.PathAPIKeys, request)
}

// APIKeys lists keys, oldest first, from the cursor of the page before ("":
// from the start). project "" means the caller's, "*" all of them.
func (c *Client) APIKeys(ctx context.Context, project, cursor string) (*api.APIKeyList, error) {
	return get[api.APIKeyList](ctx, c, api.PathAPIKeys, query("project", project, "cursor", cursor, "limit", "1000"))
}

// DeleteAPIKey revokes a key.
func (c *Client) DeleteAPIKey(ctx context.Context, id string) (*api.APIKey, error) {
	return call[api.APIKey](ctx, c, http.MethodDelete, api.PathAPIKeys+"/"+url.PathEscape(id), nil)
}

// AuditQuery selects audit events. Zero fields select all.
type AuditQuery struct {
	Project string // "": the caller's; "*": every project's
	KeyID   string
	Action  string
	Object  string
	Since   time.Time
	Until   time.Time
	Limit   int // 1 to 1000; 0: 50
	Cursor  string
}

// Audit lists who changed what, newest first.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (*api.AuditList, error) {
	limit := ""
	if q.Limit != 0 {
		limit = strconv.Itoa(q.Limit)
	}
	return get[api.AuditList](ctx, c, api.PathAudit, query("project", q.Project, "key_id", q.KeyID, "action", q.Action,
		"object", q.Object, "since", timeText(q.Since), "until", timeText(q.Until), "limit", limit, "cursor", q.Cursor))
}

// UsageQuery selects usage. Zero fields select all that the caller may see.
type UsageQuery struct {
	Project string // "": the caller's; "*": every project's
	KeyID   string
	Since   time.Time
	Until   time.Time
}

// Usage lists what keys used, by the hour.
func (c *Client) Usage(ctx context.Context, q UsageQuery) ([]api.UsageRecord, error) {
	report, err := get[api.UsageReport](ctx, c, api.PathUsage, query("project", q.Project, "key_id", q.KeyID,
		"since", timeText(q.Since), "until", timeText(q.Until)))
	if err != nil {
		return nil, err
	}
	return report.Records, nil
}

// Ticket makes a ticket for one WebSocket or event stream of path ("": any).
func (c *Client) Ticket(ctx context.Context, path string) (*api.Ticket, error) {
	return call[api.Ticket](ctx, c, http.MethodPost, api.PathTickets, api.CreateTicketRequest{Path: path})
}

// query makes a query of names and values; empty values are left out.
func query(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
