package docker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// TestEngineOverSSH reaches an engine through sshd on loopback, as the docker
// command does with an ssh address.
func TestEngineOverSSH(t *testing.T) {
	for _, program := range []string{"sshd", "ssh", "ssh-keygen", "docker"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP docker ssh: needs %s on the PATH", program)
		}
	}
	cleanEnvironment(t)
	e := startEngine(t)
	port := startSSHD(t, e.host())
	d := open(t, Options{Host: "ssh://root@127.0.0.1:" + port, ForceRemote: true})
	s := create(t, d, agentSpec(t, d))
	if err := version(t.Context(), s); err != nil {
		t.Error(err)
	}
	if _, err := s.Stats(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	t.Run("refused", func(t *testing.T) {
		_, err := openConnection(t.Context(), "ssh://root@127.0.0.1:"+freePort(t), "")
		if !errors.Is(err, faas.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("no sshd there: %v", err)
		}
	})
}

// startSSHD starts a server with keys of its own, and puts an ssh on the PATH
// that uses them. Commands run through it find the engine.
func startSSHD(t *testing.T, engine string) (port string) {
	t.Helper()
	dir := t.TempDir()
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where sshd separates its privileges
		t.Fatal(err)
	}
	port = freePort(t)
	writeText(t, filepath.Join(dir, "sshd_config"), fmt.Sprintf(
		"Port %s\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\nPermitRootLogin yes\nUsePAM no\nSetEnv DOCKER_HOST=%s\n",
		port, filepath.Join(dir, "host"), filepath.Join(dir, "user.pub"), engine))
	cmd := exec.Command(sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, t.Context(), "sshd", func() error {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	useSSH(t, dir)
	return port
}

// useSSH puts a program named ssh first on the PATH that knows the test's key
// and server.
func useSSH(t *testing.T, dir string) {
	t.Helper()
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, "ssh_config"), fmt.Sprintf(
		"IdentityFile %s\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile %s\nLogLevel ERROR\n",
		filepath.Join(dir, "user"), filepath.Join(dir, "known_hosts")))
	wrapper := filepath.Join(dir, "bin", "ssh")
	writeText(t, wrapper, fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, filepath.Join(dir, "ssh_config")))
	if err := os.Chmod(wrapper, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
}
