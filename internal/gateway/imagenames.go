package gateway

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/internal/meta"
)

// ImageStore is what the gateway needs of the images of this machine.
type ImageStore interface {
	List(ctx context.Context) ([]*image.Image, error)
	Pull(ctx context.Context, ref string, opts image.PullOptions) (*image.Image, error)
	Import(ctx context.Context, r io.Reader, name string) (*image.Image, error)
	Remove(ctx context.Context, ref string) (int64, error)
}

// ImageNames keeps which project uses which image under which name. The images
// themselves, and their layers, are shared.
type ImageNames interface {
	GrantImage(ctx context.Context, project, name, digest string) error
	RevokeImage(ctx context.Context, project, name string) (bool, error)
	ImageNames(ctx context.Context) ([]meta.ImageName, error)
}

// importHost begins the names of imported images in the shared store: no
// registry has that name, so that no pull brings one of them.
const importHost = "import.local/"

// imported is the name in the store of an image that a project imports: a
// project's names do not meet another's. Those of the default project are the
// machine's own.
func imported(project, name string) string {
	if project == faas.DefaultProject {
		return name
	}
	return importHost + project + "/" + name
}

// visibleImage returns the name in the store of an image that a project names,
// or KindNotFound. The default project is the machine's own: it uses every
// image of the machine that is not another project's import; the other
// projects use what they pulled or imported.
func visibleImage(ctx context.Context, names ImageNames, project, ref string) (string, error) {
	if ref == "" || ref == faas.HostImage || names == nil {
		return ref, nil
	}
	if project == faas.DefaultProject && !strings.HasPrefix(ref, importHost) {
		return ref, nil
	}
	all, err := names.ImageNames(ctx)
	if err != nil {
		return "", err
	}
	for _, name := range []string{ref, imported(project, ref)} {
		if slices.ContainsFunc(all, func(n meta.ImageName) bool { return n.Project == project && n.Name == name }) {
			return name, nil
		}
	}
	return "", noImage(ref)
}

func noImage(ref string) error {
	return &faas.Error{Kind: faas.KindNotFound, Op: "find image", Field: "image", Detail: "the project has no image " + ref,
		Remedy: "pull it (POST /api/v1/images/pull) or import it first"}
}
