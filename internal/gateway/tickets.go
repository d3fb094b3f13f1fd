package gateway

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/internal/auth"
)

func (g *Gateway) registerTickets() {
	handleBody(g, huma.Operation{
		OperationID: "create-ticket", Method: http.MethodPost, Path: api.PathTickets, Tags: []string{"tickets"}, DefaultStatus: http.StatusCreated,
		Summary:     "Make a ticket for one WebSocket or event stream",
		Description: "Browsers cannot send a header there: put the ticket into the query parameter `ticket` instead. It works once, within half a minute, for what its maker's key may do.",
	}, map[string]any{"events": map[string]any{"path": "/api/v1/events"}},
		&api.Ticket{Ticket: "pT9…", ExpiresAt: exampleTime}, g.createTicket)
}

func (g *Gateway) createTicket(ctx context.Context, _ *struct{}, in *api.CreateTicketRequest) (*api.Ticket, error) {
	if in.Path != "" && !strings.HasPrefix(in.Path, "/") {
		return nil, faas.InvalidField("path", "must begin with /")
	}
	plain, expires, err := g.tickets.Issue(identity(ctx), in.Path)
	if err != nil {
		return nil, err
	}
	return &api.Ticket{Ticket: plain, ExpiresAt: expires}, nil
}

// ticketParam is the query parameter that carries a ticket.
const ticketParam = "ticket"

// ticketIn takes the ticket out of a request's query, so that it reaches
// neither the operation nor a log; "" when there is none.
func ticketIn(r *http.Request) string {
	if !strings.Contains(r.URL.RawQuery, ticketParam+"=") {
		return ""
	}
	query := r.URL.Query()
	plain := query.Get(ticketParam)
	query.Del(ticketParam)
	r.URL.RawQuery = query.Encode()
	r.RequestURI = r.URL.RequestURI()
	return plain
}

// redeem finds the caller who holds a ticket.
func (g *Gateway) redeem(r *http.Request, plain string) (auth.Identity, error) {
	if r.Method != http.MethodGet || !isStream(r) {
		return auth.Identity{}, faas.Errorf(faas.KindUnauthenticated, "a ticket is for a WebSocket or an event stream only")
	}
	return g.redeemAny(r, plain)
}

// redeemAny is redeem for whatever kind of request.
func (g *Gateway) redeemAny(r *http.Request, plain string) (auth.Identity, error) {
	t, err := g.tickets.Redeem(plain, r.URL.Path)
	if err != nil || g.opts.Auth == nil {
		return t.Identity, err
	}
	return g.identityOf(r.Context(), t.Identity.KeyID)
}

// identityOf returns what a key may do now.
func (g *Gateway) identityOf(ctx context.Context, keyID string) (auth.Identity, error) {
	key, err := g.opts.Auth.Store().Key(ctx, keyID)
	if err != nil && faas.KindOf(err) != faas.KindNotFound {
		return auth.Identity{}, err
	}
	if err != nil || key.Expired(time.Now()) {
		return auth.Identity{}, faas.Errorf(faas.KindUnauthenticated, "the key that it stood for is no more")
	}
	return key.Identity(), nil
}

func isStream(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}
