package imagetest

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// RegistryOptions adjusts a registry. The zero value serves everybody.
type RegistryOptions struct {
	// Username and Password, when set, are asked for by basic authentication.
	Username, Password string
	// Wrap, when set, sees every request first, to count or to spoil it.
	Wrap func(http.Handler) http.Handler
}

// RegistryServer is a container registry in this process, on loopback.
type RegistryServer struct {
	Host   string // 127.0.0.1:PORT
	opts   RegistryOptions
	server *http.Server
	done   chan error
}

// StartRegistry starts an empty registry. The caller closes it.
func StartRegistry(opts RegistryOptions) (*RegistryServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if opts.Wrap != nil {
		handler = opts.Wrap(handler)
	}
	r := &RegistryServer{Host: listener.Addr().String(), opts: opts, done: make(chan error, 1)}
	r.server = &http.Server{Handler: r.authenticate(handler)}
	go func() { r.done <- r.server.Serve(listener) }()
	return r, nil
}

// Close ends the registry and waits for it.
func (r *RegistryServer) Close() error {
	err := r.server.Close()
	if served := <-r.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (r *RegistryServer) authenticate(next http.Handler) http.Handler {
	if r.opts.Username == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+"\x00"+password), []byte(r.opts.Username+"\x00"+r.opts.Password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// Push stores an image under repository:tag and returns its full reference.
func (r *RegistryServer) Push(ctx context.Context, tag string, img v1.Image) (string, error) {
	return r.push(tag, func(ref name.Reference) error { return remote.Write(ref, img, r.options(ctx)...) })
}

// PushIndex is Push for an image of several platforms.
func (r *RegistryServer) PushIndex(ctx context.Context, tag string, index v1.ImageIndex) (string, error) {
	return r.push(tag, func(ref name.Reference) error { return remote.WriteIndex(ref, index, r.options(ctx)...) })
}

func (r *RegistryServer) push(tag string, write func(name.Reference) error) (string, error) {
	ref, err := name.ParseReference(r.Host + "/" + tag)
	if err != nil {
		return "", err
	}
	if err := write(ref); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	return ref.Name(), nil
}

func (r *RegistryServer) options(ctx context.Context) []remote.Option {
	auth := authn.Anonymous
	if r.opts.Username != "" {
		auth = &authn.Basic{Username: r.opts.Username, Password: r.opts.Password}
	}
	return []remote.Option{remote.WithContext(ctx), remote.WithAuth(auth)}
}
