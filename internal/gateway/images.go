package gateway

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/internal/meta"
)

var exampleImage = api.Image{
	Names: []string{"ghcr.io/you/app:1"}, Digest: "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef", Platform: "linux/amd64",
	Source: image.SourcePull, SizeBytes: 12 << 20, Layers: 3, AddedAt: exampleTime,
}

type imageRefInput struct {
	Image string `query:"image" required:"true" minLength:"1" maxLength:"512" doc:"Name of the image."`
}

// imageErrors are the ways in which bringing in an image fails.
var imageErrors = []int{http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity, http.StatusGatewayTimeout}

func (g *Gateway) registerImages() {
	handle(g, huma.Operation{
		OperationID: "list-images", Method: http.MethodGet, Path: api.PathImages, Tags: []string{"images"},
		Summary:     "List the images that the project may use",
		Description: "Those that it pulled or imported, and host. The default project has every image of the machine besides that no other project imported.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}, api.ImageList{Images: []api.Image{exampleImage}}, g.listImages)
	handle(g, huma.Operation{
		OperationID: "delete-image", Method: http.MethodDelete, Path: api.PathImages, Tags: []string{"images"},
		Summary:     "Take an image from the project",
		Description: "It goes from the machine when no other project uses it; refused with 409 while sandboxes or snapshots hold it.",
		Errors:      imageErrors,
	}, api.RemovedImage{Image: "ghcr.io/you/app:1", FreedBytes: 12 << 20}, g.deleteImage)

	registry := g.api.OpenAPI().Components.Schemas
	one := registry.Schema(reflect.TypeFor[api.Image](), true, "Image")
	pulled := map[string]*huma.Response{"200": {Description: "The image is there.", Content: map[string]*huma.MediaType{
		"application/json":  {Schema: one, Example: exampleImage},
		"text/event-stream": {Schema: registry.Schema(reflect.TypeFor[api.PullEvent](), true, "PullEvent")},
	}}}
	handleRaw(g, huma.Operation{
		OperationID: "pull-image", Method: http.MethodPost, Path: api.PathImagePull, Tags: []string{"images"},
		Summary:     "Fetch an image from a registry",
		Description: "With `Accept: text/event-stream` the answer is events: `progress`, and at the end `image` or `error`.",
		RequestBody: bodyOf(registry.Schema(reflect.TypeFor[api.PullImageRequest](), true, "PullImageRequest"), true, map[string]any{"app": map[string]any{"image": "ghcr.io/you/app:1"}}),
		Responses:   pulled, Errors: imageErrors,
	}, g.pullImage)
	handleRaw(g, huma.Operation{
		OperationID: "import-image", Method: http.MethodPost, Path: api.PathImageImport, Tags: []string{"images"},
		Summary:     "Take in a root file system, an OCI layout or what docker save wrote",
		Description: "The body is the tar, plain or compressed, of any size; it is streamed.",
		Parameters:  []*huma.Param{{Name: "name", In: "query", Required: true, Description: "Name to give it.", Schema: stringForm(), Example: "app:1"}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/x-tar": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}},
		Responses: map[string]*huma.Response{"201": {Description: "The image is there.", Content: map[string]*huma.MediaType{
			"application/json": {Schema: one, Example: exampleImage},
		}}},
		Errors: imageErrors,
	}, g.importImage)
}

// imageStore returns the images, and an error where this installation has none.
func (g *Gateway) imageStore() (ImageStore, error) {
	if g.opts.Images == nil {
		return nil, faas.Unavailable("this server has no image store", "run it on Linux")
	}
	return g.opts.Images, nil
}

func (g *Gateway) listImages(ctx context.Context, _ *struct{}) (api.ImageList, error) {
	store, err := g.imageStore()
	if err != nil {
		return api.ImageList{}, err
	}
	all, err := store.List(ctx)
	if err != nil {
		return api.ImageList{}, err
	}
	granted, err := g.opts.ImageNames.ImageNames(ctx)
	if err != nil {
		return api.ImageList{}, err
	}
	list := api.ImageList{Images: []api.Image{}}
	for _, i := range all {
		if names, visible := namesFor(identity(ctx).Project, i, granted); visible {
			list.Images = append(list.Images, imageView(i, names))
		}
	}
	return list, nil
}

// namesFor returns the names under which a project uses an image, and whether
// it may use it.
func namesFor(project string, i *image.Image, granted []meta.ImageName) (names []string, visible bool) {
	names = []string{}
	for _, n := range granted {
		if n.Project == project && n.Digest == i.Digest {
			names = append(names, strings.TrimPrefix(n.Name, importHost+project+"/"))
		}
	}
	if i.Source == image.SourceHost {
		return []string{faas.HostImage}, true
	}
	if project == faas.DefaultProject {
		for _, name := range i.Names {
			if !strings.HasPrefix(name, importHost) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, len(names) > 0
}

func imageView(i *image.Image, names []string) api.Image {
	return api.Image{
		Names: names, Digest: i.Digest, Platform: i.Platform, Source: i.Source, SizeBytes: i.SizeBytes,
		Layers: len(i.Layers), AddedAt: i.AddedAt, InUse: i.InUse,
	}
}

func (g *Gateway) deleteImage(ctx context.Context, in *imageRefInput) (api.RemovedImage, error) {
	store, err := g.imageStore()
	if err != nil {
		return api.RemovedImage{}, err
	}
	project := identity(ctx).Project
	name, err := visibleImage(ctx, g.opts.ImageNames, project, in.Image)
	if err != nil {
		return api.RemovedImage{}, err
	}
	had, err := g.opts.ImageNames.RevokeImage(ctx, project, name)
	if err != nil {
		return api.RemovedImage{}, err
	}
	granted, err := g.opts.ImageNames.ImageNames(ctx)
	if err != nil {
		return api.RemovedImage{}, err
	}
	removed := api.RemovedImage{Image: in.Image}
	if slices.ContainsFunc(granted, func(n meta.ImageName) bool { return n.Name == name }) {
		if !had {
			return removed, noImage(in.Image)
		}
		return removed, nil // another project uses it
	}
	removed.FreedBytes, err = store.Remove(ctx, name)
	if had && faas.KindOf(err) == faas.KindNotFound {
		err = nil
	}
	return removed, err
}

func (g *Gateway) pullImage(w http.ResponseWriter, r *http.Request) {
	store, err := g.imageStore()
	var body []byte
	if err == nil {
		body, err = readBody(w, r)
	}
	in := new(api.PullImageRequest)
	if err == nil {
		err = decodeBody(body, in)
	}
	if err == nil && strings.HasPrefix(in.Image, importHost) {
		err = faas.InvalidField("image", "names below %s are those of imported images", importHost)
	}
	if err == nil && r.URL.RawQuery != "" {
		err = faas.Errorf(faas.KindInvalidArgument, "this route takes no query parameters")
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	opts := image.PullOptions{Platform: in.Platform, Policy: image.Policy(cmp.Or(in.Policy, string(image.PullAlways)))}
	if accepted(r.Header.Values("Accept")) != "text/event-stream" {
		answered, err := g.pull(r.Context(), store, in.Image, opts)
		if err != nil {
			g.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, "application/json", answered)
		return
	}
	send := pullEvents(w)
	opts.Progress = func(step string, done, total int64) {
		send(api.PullEvent{Type: "progress", Step: step, Done: done, Total: total})
	}
	last := api.PullEvent{Type: "image"}
	if last.Image, err = g.pull(r.Context(), store, in.Image, opts); err != nil {
		last.Type = "error"
		last.Error, _ = problemOf(err, requestID(r.Context()))
		g.logFailure(r.Context(), last.Error, err)
	}
	send(last)
}

// pullEvents begins an event stream and returns what writes to it, from one
// goroutine at a time. A client that is gone ends the request's context; one
// that does not read is given up.
func pullEvents(w http.ResponseWriter) func(api.PullEvent) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return func(e api.PullEvent) {
		encoded, err := encodeJSON(e)
		if err != nil {
			return
		}
		_ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) //nolint:errcheck // not offered by test recorders
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n", e.Type, encoded); err == nil {
			_ = control.Flush() //nolint:errcheck // see above
		}
	}
}

// pull fetches an image for the caller's project.
func (g *Gateway) pull(ctx context.Context, store ImageStore, ref string, opts image.PullOptions) (*api.Image, error) {
	i, err := store.Pull(ctx, ref, opts)
	if err != nil {
		return nil, err
	}
	if ref != faas.HostImage {
		if err := g.opts.ImageNames.GrantImage(ctx, identity(ctx).Project, ref, i.Digest); err != nil {
			return nil, err
		}
	}
	view := imageView(i, []string{ref})
	return &view, nil
}

func (g *Gateway) importImage(w http.ResponseWriter, r *http.Request) {
	store, err := g.imageStore()
	query := r.URL.Query()
	name := query.Get("name")
	project := identity(r.Context()).Project
	switch {
	case err != nil:
	case len(query) > 1 || len(query["name"]) > 1 || len(query) == 1 && name == "":
		err = faas.Errorf(faas.KindInvalidArgument, "this route takes one query parameter, name")
	case name == "" || len(name) > 512:
		err = faas.InvalidField("name", "is required, with at most 512 bytes")
	case name == faas.HostImage || strings.HasPrefix(name, importHost):
		err = faas.InvalidField("name", "is the platform's own")
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	// A client that stops sending is noticed by the connection's end; how long
	// an import may take is the store's to say.
	i, err := store.Import(r.Context(), r.Body, imported(project, name))
	if err == nil {
		err = g.opts.ImageNames.GrantImage(r.Context(), project, imported(project, name), i.Digest)
	}
	if err != nil {
		g.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusCreated, "application/json", imageView(i, []string{name}))
}
