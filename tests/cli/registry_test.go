package cli

import (
	"io"
	"log"
	"net/http/httptest"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/rogpeppe/go-internal/testscript"
)

// serveRegistry serves a registry that has one image and sets IMAGE to its
// reference.
func serveRegistry(ts *testscript.TestScript, neg bool, args []string) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ts.Defer(server.Close)
	img, err := crane.Image(map[string][]byte{"etc/motd": []byte("hello from the image\n")})
	ts.Check(err)
	file, err := img.ConfigFile()
	ts.Check(err)
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Env: []string{"GREETING=hello"}}
	img, err = mutate.ConfigFile(img, file)
	ts.Check(err)
	ref := strings.TrimPrefix(server.URL, "http://") + "/test/motd:1"
	ts.Check(crane.Push(img, ref))
	ts.Setenv("IMAGE", ref)
}
