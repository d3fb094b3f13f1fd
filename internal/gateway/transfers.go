package gateway

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Transfers is what the gateway needs to move, check and free snapshots.
type Transfers interface {
	ExportSnapshot(ctx context.Context, project, id string, kind faas.SnapshotKind, w io.Writer) error
	ImportSnapshot(ctx context.Context, project string, r io.Reader, opts faas.ImportOptions) (*faas.Snapshot, error)
	VerifySnapshots(ctx context.Context, project string, ids []string, progress func(id string, at, of int)) ([]faas.SnapshotProblem, error)
	DamagedSnapshots() []faas.SnapshotProblem
	CollectSnapshots(ctx context.Context) (int64, error)
	SigningKey() (string, error)
}

func (g *Gateway) registerTransfers() {
	op := snapshotOperation
	g.registerExport()
	g.registerImport()
	handleBody(g, op("verify-snapshots", http.MethodPost, "/verify", "Read all that snapshots hold and compare it with what was saved",
		"Both tiers, and the layers below them. A snapshot whose digests were not taken yet gets them now. An admin of the installation who names none is told of damaged snapshots of every project too.", readErrors...),
		map[string]any{"some": map[string]any{"ids": []string{"snap-0c7v4g6k1w0003f9a2m5d8r1t6"}}},
		api.SnapshotVerified{Problems: []faas.SnapshotProblem{{SnapshotID: "snap-0c7v4g6k1w0003f9a2m5d8r1t6", Tier: "cold", Path: "pages-1.img", Detail: "piece 3fdb… is missing"}}},
		g.verifySnapshots)
	handle(g, op("collect-snapshots", http.MethodPost, "/gc", "Free what no snapshot and no sandbox needs",
		"Safe beside everything that runs. For admins of the installation.", readErrors...),
		api.SnapshotCollected{FreedBytes: 1 << 20}, func(ctx context.Context, _ *struct{}) (api.SnapshotCollected, error) {
			if !identity(ctx).Installation() {
				return api.SnapshotCollected{}, faas.Errorf(faas.KindPermissionDenied, "only admins of the installation collect")
			}
			freed, err := g.opts.Executor.CollectSnapshots(ctx)
			return api.SnapshotCollected{FreedBytes: freed}, err
		})
	handle(g, op("get-snapshot-key", http.MethodGet, "/key", "Show the key that exports are signed with", "", readErrors...),
		api.SnapshotKey{PublicKey: "pLkxYmWfZ0r8J0m0mJqVJc3s1m9l3cQw3J0m2bq3m0E="}, func(context.Context, *struct{}) (api.SnapshotKey, error) {
			key, err := g.opts.Executor.SigningKey()
			return api.SnapshotKey{PublicKey: key}, err
		})
}

func (g *Gateway) verifySnapshots(ctx context.Context, _ *struct{}, body *api.SnapshotVerify) (api.SnapshotVerified, error) {
	problems, err := g.opts.Executor.VerifySnapshots(ctx, identity(ctx).Project, body.IDs, nil)
	if err == nil && len(body.IDs) == 0 && identity(ctx).Installation() {
		problems = append(problems, g.opts.Executor.DamagedSnapshots()...)
	}
	return api.SnapshotVerified{Problems: problems}, err
}

// streamSchema describes a body that is a stream.
func streamSchema() map[string]*huma.MediaType {
	return map[string]*huma.MediaType{api.SnapshotStream: {Schema: &huma.Schema{Type: "string", Format: "binary"}, Example: "faas snapshot 1\nH…"}}
}

func optionParam(name, doc string, enum ...any) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: &huma.Schema{Type: "string", Enum: enum}}
}

func (g *Gateway) registerExport() {
	op := snapshotOperation("export-snapshot", http.MethodGet, "/{id}/export", "Write a snapshot as one stream for another machine",
		"With all file layers below it; its image is not part of it. Signed with this installation's key. A stream that is cut short is no snapshot: import refuses it.", readErrors...)
	op.Parameters = []*huma.Param{
		{Name: "id", In: "path", Required: true, Description: "Id of the snapshot.", Schema: &huma.Schema{Type: "string"}},
		optionParam("kind", "fs: without memory and processes.", "auto", "fs", "full"),
	}
	op.Responses = map[string]*huma.Response{"200": {Description: "The stream.", Content: streamSchema()}}
	handleRaw(g, op, g.exportSnapshot)
}

func (g *Gateway) registerImport() {
	op := snapshotOperation("import-snapshot", http.MethodPost, "/import", "Take in an exported snapshot",
		"Durable when the answer comes; of what is refused nothing is left. With memory only for admins of the installation, and only when it is signed by a key of snapshots.trusted_keys; for others, and otherwise, its files.",
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge)
	op.Parameters = []*huma.Param{
		optionParam("kind", "fs: its files only; full: refused unless memory is taken in; auto (default): what is allowed.", "auto", "fs", "full"),
		optionParam("name", "In the place of its own."),
	}
	op.RequestBody = &huma.RequestBody{Required: true, Description: "What export wrote.", Content: streamSchema()}
	op.Responses = map[string]*huma.Response{"200": {Description: "The snapshot.", Content: map[string]*huma.MediaType{
		"application/json": {Schema: g.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Snapshot](), true, "Snapshot"), Example: exampleSnapshot()},
	}}}
	handleRaw(g, op, g.importSnapshot)
}

func (g *Gateway) exportSnapshot(w http.ResponseWriter, r *http.Request) {
	out := &streamOutput{w: w}
	kind := faas.SnapshotKind(r.URL.Query().Get("kind"))
	err := g.opts.Executor.ExportSnapshot(r.Context(), identity(r.Context()).Project, r.PathValue("id"), kind, out)
	switch {
	case err == nil:
	case !out.begun:
		g.fail(w, r, err)
	default:
		problem, _ := problemOf(err, requestID(r.Context()))
		g.logFailure(r.Context(), problem, err)
		panic(http.ErrAbortHandler) // cut off: nobody takes it for a whole one
	}
}

// streamOutput writes its headers with the first byte, so that what fails
// before is still answered as a problem.
type streamOutput struct {
	w     http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (s *streamOutput) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", api.SnapshotStream)
	}
	return s.w.Write(b)
}

// pacedBody is a request's body that may take as long as it goes on coming.
func pacedBody(w http.ResponseWriter, r *http.Request) io.Reader {
	return &paced{from: r.Body, control: http.NewResponseController(w)}
}

type paced struct {
	from    io.Reader
	control *http.ResponseController
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(bodyReadTimeout)) //nolint:errcheck // not offered by test recorders
	n, err := p.from.Read(b)
	if err != nil {
		_ = p.control.SetReadDeadline(time.Time{}) //nolint:errcheck // as above
	}
	return n, err
}

func (g *Gateway) importSnapshot(w http.ResponseWriter, r *http.Request) {
	who, query := identity(r.Context()), r.URL.Query()
	s, err := g.opts.Executor.ImportSnapshot(r.Context(), who.Project, pacedBody(w, r), faas.ImportOptions{
		Kind: faas.SnapshotKind(query.Get("kind")), Memory: who.Installation(), Name: query.Get("name"),
	})
	if err != nil {
		g.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", api.NewSnapshot(s))
}
