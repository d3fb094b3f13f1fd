package image

import (
	"time"

	"github.com/faas-platform/faas"
)

// Where an image came from.
const (
	SourcePull   = "pull"
	SourceImport = "import"
	SourceHost   = "host"
)

// Image is what the store knows of one image.
type Image struct {
	// Digest identifies the image: that of its manifest for one platform, or
	// of the skeleton and the machine's /usr for the host image.
	Digest string `json:"digest"`
	// IndexDigest is that of the multi-platform index through which it was
	// pulled; empty when there was none.
	IndexDigest string            `json:"index_digest,omitempty"`
	Names       []string          `json:"names"`    // references under which it is found, sorted; may be empty
	Platform    string            `json:"platform"` // os/arch[/variant]
	Config      Config            `json:"config"`
	Labels      map[string]string `json:"labels,omitempty"`
	Layers      []Layer           `json:"layers"`     // bottom first, as the image lists them
	SizeBytes   int64             `json:"size_bytes"` // unpacked; layers shared with other images included
	CreatedAt   time.Time         `json:"created_at"` // as the image says; zero when it does not
	AddedAt     time.Time         `json:"added_at"`   // when this store last pulled or imported it
	Source      string            `json:"source"`     // SourcePull, SourceImport or SourceHost
	InUse       int               `json:"in_use"`     // leases that hold it
	// Limitations says in sentences what is not as in the original image.
	Limitations []string `json:"limitations,omitempty"`
}

// Layer is one unpacked layer.
type Layer struct {
	DiffID    string `json:"diff_id"`    // digest of the uncompressed tar
	SizeBytes int64  `json:"size_bytes"` // file contents, unpacked
	// Opaque layers hide everything below them.
	Opaque bool `json:"opaque,omitempty"`
}

// Config holds the image's own defaults for commands run in it. It converts
// to driver.ImageConfig, whose fields it has.
type Config struct {
	Env        []string `json:"env,omitempty"` // KEY=VALUE
	WorkingDir string   `json:"working_dir,omitempty"`
	User       string   `json:"user,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
}

// Progress reports on a pull or import: bytes done of total (0: not known) for
// one step. It is called from one goroutine at a time. Steps are "resolve",
// "wait" (another pull of the same is under way), "download DIGEST" and
// "unpack DIGEST".
type Progress = func(step string, done, total int64)

// RootFS is a lease on the unpacked layers of an image. It must be released.
type RootFS struct {
	// Layers are absolute paths of directories, topmost first, in the order
	// of overlayfs' lowerdir option; there is always at least one, and none
	// twice. With some 35 layers the paths outgrow the one page that mount(2)
	// takes as options: pass them with fsconfig(2) then.
	Layers []string
	Config Config
	Digest string
	Host   *HostImage // set for the host image only: what to mount besides

	lease *lease
}

// Release ends the lease. It may be called more than once; the layers may not
// be used afterwards.
func (r *RootFS) Release() error {
	if r.lease == nil {
		return nil
	}
	return r.lease.release()
}

// HostImage describes the mounts that make the host image of its skeleton.
type HostImage struct {
	// Skeleton is the directory that is also RootFS.Layers[0].
	Skeleton string     `json:"skeleton"`
	Binds    []HostBind `json:"binds"`
	// Empty is an empty directory, for hiding what Whiteouts could not.
	Empty string `json:"empty"`
}

// HostBind is one directory of this machine that the host image shows,
// read-only, nosuid and nodev.
type HostBind struct {
	Source string `json:"source"` // absolute, on this machine
	Target string `json:"target"` // absolute, in the sandbox; the skeleton has the directory
	// Hide lists paths relative to Source that must not be seen.
	Hide []string `json:"hide,omitempty"`
	// Whiteouts is a directory that hides them when it is laid over Source:
	// an overlay with lowerdir=Whiteouts:Source. It is empty when Hide is, or
	// when this machine does not let the store make whiteouts; then Empty has
	// to be bound over each directory of Hide, and /dev/null over each file.
	Whiteouts string `json:"whiteouts,omitempty"`
}

// Policy says when a pull asks the registry.
type Policy string

// The policies. PullMissing, also the meaning of the empty string, asks only
// when the store lacks the image; PullAlways looks whether the tag has moved;
// PullNever takes what is there.
const (
	PullMissing Policy = "missing"
	PullAlways  Policy = "always"
	PullNever   Policy = "never"
)

// PullOptions adjusts one pull. The zero value is usable.
type PullOptions struct {
	Platform string   // os/arch[/variant]; empty: the store's
	Policy   Policy   // empty: PullMissing
	Progress Progress // nil: none
}

// AcquireOptions adjusts one lease.
type AcquireOptions struct {
	Platform string // empty: the store's
	// Owner makes the lease outlive this process, until RootFS.Release or
	// ReleaseOwner. It must be a name of letters, digits, dots and hyphens
	// that no other living lease has.
	Owner string
	// Durable makes an owned lease survive a power failure too.
	Durable bool
}

func notFound(ref string) error {
	return &faas.Error{Kind: faas.KindNotFound, Op: "image", Detail: ref + " is not in the image store",
		Remedy: "pull it with: faas image pull " + ref}
}
