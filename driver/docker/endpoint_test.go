package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// cleanEnvironment takes the docker settings of whoever runs the tests away
// and returns an empty configuration directory.
func cleanEnvironment(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	return dir
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// addContext writes a docker context as the docker command does.
func addContext(t *testing.T, config, name, host string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	writeText(t, filepath.Join(config, "contexts", "meta", id, "meta.json"),
		`{"Name":"`+name+`","Metadata":{},"Endpoints":{"docker":{"Host":"`+host+`","SkipTLSVerify":false}}}`)
	return id
}

func TestResolveEndpoint(t *testing.T) {
	config := cleanEnvironment(t)
	want := func(what, wantHost, host, context string) {
		t.Helper()
		ep, err := resolveEndpoint(host, context)
		if err != nil || ep.host != wantHost {
			t.Errorf("%s: host %q, error %v; want %q", what, ep.host, err, wantHost)
		}
	}
	want("nothing set", client.DefaultDockerHost, "", "")
	addContext(t, config, "one", "ssh://one")
	addContext(t, config, "two", "tcp://two:2375")
	writeText(t, filepath.Join(config, "config.json"), `{"auths":{},"currentContext":"one"}`)
	want("current context", "ssh://one", "", "")
	t.Setenv("DOCKER_CONTEXT", "two")
	want("DOCKER_CONTEXT before the current one", "tcp://two:2375", "", "")
	t.Setenv("DOCKER_HOST", "tcp://three:2375")
	want("DOCKER_HOST before contexts", "tcp://three:2375", "", "")
	want("a context asked for", "ssh://one", "", "one")
	want("a host asked for", "unix:///run/x.sock", "unix:///run/x.sock", "one")
	if _, err := resolveEndpoint("", "three"); !errors.Is(err, faas.ErrFailedPrecondition) {
		t.Errorf("a context that is not there: %v", err)
	}
	if _, err := resolveEndpoint("nonsense", ""); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Errorf("a host that is none: %v", err)
	}
}

func TestBrokenConfiguration(t *testing.T) {
	config := cleanEnvironment(t)
	writeText(t, filepath.Join(config, "config.json"), `{"currentContext":`)
	if _, err := resolveEndpoint("", ""); !errors.Is(err, faas.ErrFailedPrecondition) {
		t.Errorf("a broken configuration: %v", err)
	}
}

func TestDialerSchemes(t *testing.T) {
	cleanEnvironment(t)
	for host, ok := range map[string]bool{
		"unix:///run/docker.sock": true, "tcp://127.0.0.1:2375": true, "ssh://user@host:2222": true,
		"tcp://127.0.0.1:2375/path": false, "ssh://user:password@host": false, "ssh://host/path": false,
		"ssh://-oProxyCommand=x": false, "ssh://-l@host": false, "gopher://x": false,
	} {
		_, err := endpoint{host: host}.dialer()
		if (err == nil) != ok {
			t.Errorf("%s: %v", host, err)
		}
		if err != nil && !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("%s: %v is not an invalid argument", host, err)
		}
	}
}

func TestSSHArguments(t *testing.T) {
	args, err := sshArgs("ssh://me@there:2222")
	if err != nil {
		t.Fatal(err)
	}
	tail := []string{"-l", "me", "-p", "2222", "--", "there", "docker", "system", "dial-stdio"}
	if len(args) < len(tail) || !slices.Equal(args[len(args)-len(tail):], tail) {
		t.Errorf("arguments %q", args)
	}
}
