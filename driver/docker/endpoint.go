package docker

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-connections/tlsconfig"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// endpoint is where an engine answers and how.
type endpoint struct {
	host   string // with scheme
	source string // where the address was found, for messages
	tls    *tls.Config
}

// configDir is where the docker command keeps its configuration.
func configDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}

// configFile is the part of the docker configuration that matters here.
type configFile struct {
	CurrentContext string `json:"currentContext"`
}

// maxConfigSize bounds the docker configuration files that are read.
const maxConfigSize = 1 << 20

// loadConfigFile reads the docker configuration; a missing one is empty.
func loadConfigFile() (configFile, error) {
	var cfg configFile
	dir := configDir()
	if dir == "" {
		return cfg, nil
	}
	b, err := readSmall(filepath.Join(dir, "config.json"), maxConfigSize)
	if errors.Is(err, os.ErrNotExist) {
		return cfg, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &cfg)
	}
	if err != nil {
		return cfg, &faas.Error{
			Kind: faas.KindFailedPrecondition, Op: "read docker configuration",
			Detail: filepath.Join(dir, "config.json") + " cannot be used", Err: err,
		}
	}
	return cfg, nil
}

// resolveEndpoint finds the engine in the order of the docker command.
func resolveEndpoint(host, context string) (endpoint, error) {
	switch {
	case host != "":
		return hostEndpoint(host, "the configuration")
	case context != "":
		return contextEndpoint(context)
	case os.Getenv("DOCKER_HOST") != "":
		return hostEndpoint(os.Getenv("DOCKER_HOST"), "DOCKER_HOST")
	case os.Getenv("DOCKER_CONTEXT") != "":
		return contextEndpoint(os.Getenv("DOCKER_CONTEXT"))
	}
	cfg, err := loadConfigFile()
	if err != nil {
		return endpoint{}, err
	}
	if cfg.CurrentContext != "" && cfg.CurrentContext != "default" {
		return contextEndpoint(cfg.CurrentContext)
	}
	return endpoint{host: client.DefaultDockerHost, source: "the default"}, nil
}

// hostEndpoint completes an address with the TLS settings of the environment.
func hostEndpoint(host, source string) (endpoint, error) {
	ep := endpoint{host: host, source: source}
	if _, err := client.ParseHostURL(host); err != nil {
		return ep, &faas.Error{
			Kind: faas.KindInvalidArgument, Op: "find docker engine", Field: "host",
			Detail: fmt.Sprintf("%q from %s is no address of an engine", host, source),
			Remedy: "use unix://, npipe://, tcp:// or ssh://",
		}
	}
	verify, certs := os.Getenv("DOCKER_TLS_VERIFY") != "", os.Getenv("DOCKER_CERT_PATH")
	if !strings.HasPrefix(host, "tcp://") || (!verify && certs == "" && os.Getenv("DOCKER_TLS") == "") {
		return ep, nil
	}
	if certs == "" {
		certs = configDir()
	}
	var err error
	ep.tls, err = tlsConfig(certs, !verify)
	return ep, err
}

// contextEndpoint reads the endpoint of a docker context.
func contextEndpoint(name string) (endpoint, error) {
	const op = "use docker context"
	ep := endpoint{host: client.DefaultDockerHost, source: "docker context " + name}
	if name == "default" {
		return ep, nil
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	root := filepath.Join(configDir(), "contexts")
	b, err := readSmall(filepath.Join(root, "meta", id, "meta.json"), maxConfigSize)
	if err != nil {
		return ep, &faas.Error{Kind: faas.KindFailedPrecondition, Op: op, Detail: "there is no context " + name,
			Remedy: "see `docker context ls`", Err: err}
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err := json.Unmarshal(b, &meta); err != nil {
		return ep, &faas.Error{Kind: faas.KindFailedPrecondition, Op: op, Detail: "the record of context " + name + " is broken", Err: err}
	}
	docker, ok := meta.Endpoints["docker"]
	if !ok || docker.Host == "" {
		return ep, &faas.Error{Kind: faas.KindFailedPrecondition, Op: op, Detail: "context " + name + " names no docker engine"}
	}
	ep.host = docker.Host
	certs := filepath.Join(root, "tls", id, "docker")
	if _, err := os.Stat(certs); err == nil || docker.SkipTLSVerify {
		if ep.tls, err = tlsConfig(certs, docker.SkipTLSVerify); err != nil {
			return ep, err
		}
	}
	return ep, nil
}

// tlsConfig reads ca.pem, cert.pem and key.pem of a directory; any of them may
// be missing.
func tlsConfig(dir string, insecure bool) (*tls.Config, error) {
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		return path
	}
	cfg, err := tlsconfig.Client(tlsconfig.Options{
		CAFile: file("ca.pem"), CertFile: file("cert.pem"), KeyFile: file("key.pem"),
		InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		return nil, &faas.Error{
			Kind: faas.KindFailedPrecondition, Op: "set up TLS to the docker engine",
			Detail: "the certificates in " + dir + " cannot be used", Remedy: "see DOCKER_CERT_PATH", Err: err,
		}
	}
	return cfg, nil
}
