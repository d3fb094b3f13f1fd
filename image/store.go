package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/faas-platform/faas"
)

// Options configures a Store. The zero value is usable.
type Options struct {
	// UIDShift and GIDShift are the ids on the host that uid 0 and gid 0 of
	// images are stored as: those of root in the sandboxes' user namespaces. 0
	// stores ids as they are. They need root.
	UIDShift, GIDShift int
	// Platform (os/arch[/variant]) is chosen from multi-platform images where
	// a call names none. Empty: linux on this machine's architecture.
	Platform string
	// Keychain holds the credentials of registries. nil: those of the docker
	// and podman configuration, credential helpers included.
	Keychain authn.Keychain
	// Insecure lists registries (host[:port]) that are spoken to in plain
	// HTTP. Loopback ones are without being listed.
	Insecure []string
	// Transport carries the requests to registries. nil: http.DefaultTransport
	// with the proxies of the environment.
	Transport http.RoundTripper
	// OperationTimeout bounds one pull or import. 0: one hour.
	OperationTimeout time.Duration
	Limits           Limits
	Logger           *slog.Logger // nil: discard
}

// Limits bounds what one layer may make of this machine. A zero field takes
// its default.
type Limits struct {
	MaxLayers    int   // of an image; 127
	MaxEntries   int64 // of a layer; 2 million
	MaxBytes     int64 // of a layer, unpacked; 64 GiB
	MaxBlobBytes int64 // of a layer, as stored in the registry; 32 GiB
	// MaxRatio bounds unpacked to packed size from 256 MiB on; 250.
	MaxRatio int64
	MaxDepth int // path components of an entry; 256
}

func (l Limits) withDefaults() Limits {
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.MaxEntries, 2_000_000)
	set(&l.MaxBytes, 64<<30)
	set(&l.MaxBlobBytes, 32<<30)
	set(&l.MaxRatio, 250)
	if l.MaxLayers <= 0 {
		l.MaxLayers = 127
	}
	if l.MaxDepth <= 0 {
		l.MaxDepth = 256
	}
	return l
}

// Store is an open image store. Its methods may be called concurrently, and
// beside other stores open on the same directory, in this process or others.
type Store struct {
	dir      string
	own      ownership
	platform v1.Platform
	opts     Options
	limits   Limits
	log      *slog.Logger

	hostMu   sync.Mutex
	host     *hostState // the host image as last seen; nil: not yet
	hostSeen time.Time  // when host was compared with this machine
	// etcFound are the paths in /etc that the host image depends on, as they
	// were when /etc changed at etcStamp.
	etcFound []string
	etcStamp time.Time

	indexMu    sync.Mutex
	indexStamp os.FileInfo // of the file that index was read from
	index      *index
}

// ownership is how ids are stored, and the name of the directory of layers
// that are stored so.
type ownership struct {
	uid, gid int
	keep     bool // false: everything is the caller's own
}

func (o ownership) String() string {
	if !o.keep {
		return "caller"
	}
	return fmt.Sprintf("%d.%d", o.uid, o.gid)
}

// Subdirectories of a store.
const (
	layersDir = "layers" // by ownership, then by diff id: fs/ and layer.json
	blobsDir  = "blobs"  // compressed layers on their way, by digest
	hostDir   = "host"   // skeletons of the host image, by ownership and digest
	tmpDir    = "tmp"    // work in progress, each with a lock
	leasesDir = "leases"
	locksDir  = "locks"
)

// Open opens the store in dir, making it when missing, and removes what dead
// processes left half done. It fails with KindInvalidArgument for options that
// this user or machine cannot have.
func Open(dir string, opts Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, faas.Errorf(faas.KindInvalidArgument, "open image store: %w", err)
	}
	s := &Store{dir: dir, opts: opts, limits: opts.Limits.withDefaults(), log: opts.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.opts.Keychain == nil {
		s.opts.Keychain = authn.DefaultKeychain
	}
	if s.opts.OperationTimeout <= 0 {
		s.opts.OperationTimeout = time.Hour
	}
	if s.own, err = ownershipOf(opts); err != nil {
		return nil, err
	}
	if s.platform, err = parsePlatform(opts.Platform); err != nil {
		return nil, err
	}
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	if err := s.sweep(); err != nil {
		s.log.Warn("image store: leftovers could not be removed", "dir", dir, "error", err)
	}
	return s, nil
}

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

func ownershipOf(opts Options) (ownership, error) {
	root := os.Geteuid() == 0
	if opts.UIDShift < 0 || opts.GIDShift < 0 {
		return ownership{}, faas.InvalidField("uid_shift", "ids cannot be shifted below 0")
	}
	if !root && (opts.UIDShift != 0 || opts.GIDShift != 0) {
		return ownership{}, faas.InvalidField("uid_shift", "storing files under shifted ids needs root")
	}
	return ownership{uid: opts.UIDShift, gid: opts.GIDShift, keep: root}, nil
}

func parsePlatform(text string) (v1.Platform, error) {
	if text == "" {
		p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
		if runtime.GOARCH == "arm" {
			p.Variant = "v7"
		}
		return p, nil
	}
	p, err := v1.ParsePlatform(text)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return v1.Platform{}, faas.InvalidField("platform", "%q is not of the form os/arch[/variant]", text)
	}
	return *p, nil
}

// makeDirs makes the store's directories. Only the way to the layers is open
// to others, and that only to the group that root of the sandboxes is in: an
// image may hold setuid programs that no user of the host should run.
func (s *Store) makeDirs() error {
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return storeError("make", s.dir, err)
	}
	for _, d := range []string{blobsDir, tmpDir, leasesDir, locksDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return storeError("make", d, err)
		}
	}
	for _, d := range []string{layersDir, hostDir} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o711); err != nil {
			return storeError("make", d, err)
		}
		if err := s.makeOwned(filepath.Join(s.dir, d, s.own.String())); err != nil {
			return storeError("make", d, err)
		}
	}
	return nil
}

func (s *Store) makeOwned(dir string) error {
	mode := os.FileMode(0o700)
	if s.own.keep && s.own.gid != 0 {
		mode = 0o710
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	if mode == 0o700 {
		return nil
	}
	if err := os.Chown(dir, -1, s.own.gid); err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// operation bounds a pull or import in time.
func (s *Store) operation(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.opts.OperationTimeout, &faas.Error{
		Kind:   faas.KindDeadlineExceeded,
		Detail: fmt.Sprintf("the operation took longer than %s", s.opts.OperationTimeout),
	})
}

// storeError classifies an error of the local file system.
func storeError(what, on string, err error) error {
	var known *faas.Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &faas.Error{Kind: faas.KindInternal, Op: "image store", Err: err,
		Detail: strings.TrimSpace("could not " + what + " " + on)}
	switch {
	case isNoSpace(err):
		e.Kind, e.Remedy = faas.KindResourceExhausted, "free space on the store's file system, or run: faas image gc"
	case errors.Is(err, os.ErrPermission):
		e.Kind = faas.KindPermissionDenied
	}
	return e
}
