package docker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/network"
)

// ownEngine is a docker engine that a test started for itself.
type ownEngine struct {
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *os.File
}

// startEngine starts an engine that listens on a socket of its own and, with
// further arguments, elsewhere. Without dockerd or root the test is skipped.
func startEngine(t *testing.T, args ...string) *ownEngine {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		if slices.Contains(strings.Split(os.Getenv("FAAS_REQUIRE_RUNTIMES"), ","), string(faas.RuntimeDocker)) {
			t.Fatal("docker is required here, and this test needs root and dockerd to start an engine of its own")
		}
		t.Skip("SKIP docker own-engine: needs root and dockerd on the PATH")
	}
	dir, err := os.MkdirTemp("", "faas-engine-")
	if err != nil {
		t.Fatal(err)
	}
	e := &ownEngine{dir: dir, args: args}
	t.Cleanup(func() {
		e.stop(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the engine's data: %v", err)
		}
	})
	e.start(t)
	return e
}

func (e *ownEngine) host() string { return "unix://" + filepath.Join(e.dir, "sock") }

func (e *ownEngine) start(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(e.dir)
	e.cmd = exec.Command("dockerd", append([]string{
		"--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "--host", e.host(), "--bridge=none", "--iptables=false",
		"--containerd-namespace", name, "--containerd-plugins-namespace", name + "-plugins", "--shutdown-timeout", "5",
	}, e.args...)...)
	e.cmd.Stdout, e.cmd.Stderr, e.log = log, log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	waitFor(t, ctx, "the engine to answer", func() error {
		_, err := openConnection(ctx, e.host(), "")
		return err
	})
}

// stop ends the engine and waits for it.
func (e *ownEngine) stop(t *testing.T) {
	t.Helper()
	if e.cmd == nil {
		return
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop the engine: %v", err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = e.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = e.cmd.Process.Kill()
		<-done
		t.Error("the engine had to be killed")
	}
	e.cmd = nil
	_ = e.log.Close()
}

// waitFor asks again until the condition holds.
func waitFor(t *testing.T, ctx context.Context, what string, condition func() error) { //nolint:revive // t first, as in every test helper
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// agentSpec is a sandbox of the base image, in which only the agent is.
func agentSpec(t *testing.T, d *Driver) faas.Spec {
	t.Helper()
	base, err := d.ensureBase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return faas.Spec{
		ID: faas.NewID(faas.PrefixSandbox), Project: faas.DefaultProject, Image: base,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 64, PIDs: 64},
	}
}

func create(t *testing.T, d *Driver, spec faas.Spec) driver.Sandbox {
	t.Helper()
	s, err := d.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Destroy(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// version runs the agent's own program inside.
func version(ctx context.Context, s driver.Sandbox) error {
	c := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: s.Channel().Multiplex})
	defer c.Close()
	var out bytes.Buffer
	exit, err := c.Run(ctx, guest.Command{Args: []string{agentPath, "version"}}, nil, &out, &out)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("exit code %d: %s", exit.Code, out.String())
	}
	return err
}

func TestEngineOverTLS(t *testing.T) {
	cleanEnvironment(t)
	certs := t.TempDir()
	makeCertificates(t, certs)
	port := freePort(t)
	startEngine(t, "--host", "tcp://127.0.0.1:"+port, "--tlsverify",
		"--tlscacert", filepath.Join(certs, "ca.pem"), "--tlscert", filepath.Join(certs, "server.pem"), "--tlskey", filepath.Join(certs, "server-key.pem"))
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:"+port)
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	t.Setenv("DOCKER_CERT_PATH", certs)
	d := open(t, Options{ForceRemote: true})
	s := create(t, d, agentSpec(t, d))
	if !s.Channel().Multiplex {
		t.Error("the way to the agent is not the remote one")
	}
	if err := version(t.Context(), s); err != nil {
		t.Error(err)
	}

	t.Run("context", func(t *testing.T) {
		config := cleanEnvironment(t)
		id := addContext(t, config, "secure", "tcp://127.0.0.1:"+port)
		for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
			b, err := os.ReadFile(filepath.Join(certs, name))
			if err != nil {
				t.Fatal(err)
			}
			writeText(t, filepath.Join(config, "contexts", "tls", id, "docker", name), string(b))
		}
		if _, err := openConnection(t.Context(), "", "secure"); err != nil {
			t.Error(err)
		}
	})
	t.Run("without a certificate", func(t *testing.T) {
		t.Setenv("DOCKER_CERT_PATH", t.TempDir())
		if _, err := openConnection(t.Context(), "", ""); !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("an engine that wants a certificate: %v", err)
		}
	})
}

// TestEngineRestart stops the engine below a sandbox: nothing hangs, and when
// the engine is back the sandbox has ended.
func TestEngineRestart(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	for _, remote := range []bool{false, true} {
		t.Run(fmt.Sprintf("remote=%v", remote), func(t *testing.T) {
			d := open(t, Options{Host: e.host(), ForceRemote: remote, EngineGrace: 30 * time.Second})
			s := create(t, d, agentSpec(t, d))
			waited := make(chan error, 1)
			go func() { waited <- s.Wait(t.Context()) }()
			e.stop(t)
			began := time.Now()
			if _, err := d.Create(t.Context(), faas.Spec{ID: "next", Image: "busybox"}); !errors.Is(err, faas.ErrUnavailable) {
				t.Errorf("Create while the engine is away: %v", err)
			}
			if _, err := s.Dial(t.Context()); err == nil {
				t.Error("Dial succeeds while the engine is away")
			}
			if _, err := d.Recover(t.Context(), s.Handle()); !errors.Is(err, faas.ErrUnavailable) {
				t.Errorf("Recover while the engine is away: %v", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("four calls to an absent engine took %v", took)
			}
			e.start(t)
			select {
			case err := <-waited:
				if err != nil {
					t.Errorf("Wait over a restart of the engine: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("Wait goes on although the engine's restart ended the sandbox")
			}
			if _, err := d.Recover(t.Context(), s.Handle()); !errors.Is(err, faas.ErrNotFound) {
				t.Errorf("Recover after a restart: %v", err)
			}
			next := create(t, d, agentSpec(t, d))
			if err := version(t.Context(), next); err != nil {
				t.Errorf("a sandbox after the restart: %v", err)
			}
		})
	}
}

// TestEngineAwayForLong has Wait give up on an engine that stays away.
func TestEngineAwayForLong(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host(), ForceRemote: true, EngineGrace: 300 * time.Millisecond})
	s := create(t, d, agentSpec(t, d))
	e.stop(t)
	if err := s.Wait(t.Context()); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("Wait for an engine that stays away: %v", err)
	}
	e.start(t)
}

// TestPrunedVolumes has the agent's volume and images removed by hand.
func TestPrunedVolumes(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host()})
	first := create(t, d, agentSpec(t, d))
	if err := first.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	name, _, err := d.agentVolume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = d.engine.call(t.Context(), askTimeout, func(ctx context.Context, api *client.Client) error {
		_, err := api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{Force: true})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Create(t.Context(), agentSpec(t, d)); !errors.Is(err, faas.ErrUnavailable) {
		t.Fatalf("the first sandbox after the volume was removed: %v", err)
	}
	s := create(t, d, agentSpec(t, d))
	if err := version(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// TestNothingInInspect looks for the secret and the environment in what the
// engine tells of a container.
func TestNothingInInspect(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host()})
	spec := agentSpec(t, d)
	spec.Env = map[string]string{"TOKEN": "not-for-inspect"}
	s := create(t, d, spec)
	var raw []byte
	err := d.engine.call(t.Context(), askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerInspect(ctx, s.(*sandbox).container(), client.ContainerInspectOptions{})
		raw = res.Raw
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("not-for-inspect")) || bytes.Contains(raw, []byte(fmt.Sprintf("%x", s.Channel().Secret))) {
		t.Error("docker inspect shows what it must not")
	}
}

// TestUsersThingsStay has a container, a volume and an image of the user's
// beside ours; Sweep and Destroy touch none.
func TestUsersThingsStay(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	theirs := open(t, Options{Host: e.host()}) // another installation
	keep := create(t, theirs, agentSpec(t, theirs))
	if err := theirs.Close(); err != nil { // its owner is dead now
		t.Fatal(err)
	}
	d := open(t, Options{Host: e.host()})
	removed, err := d.Sweep(t.Context(), func(string) bool { return false })
	if err != nil || len(removed) > 0 {
		t.Errorf("Sweep removed %q, %v", removed, err)
	}
	if err := version(t.Context(), keep); err != nil {
		t.Errorf("a sandbox of another installation: %v", err)
	}
}

// TestSilentEngine has a socket that accepts and never answers.
func TestSilentEngine(t *testing.T) {
	cleanEnvironment(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "silent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(io.Discard, c) }()
		}
	}()
	d := open(t, Options{Host: "unix://" + l.Addr().String()})
	began := time.Now()
	caps := d.Probe(t.Context())
	if took := time.Since(began); caps.Available || !strings.Contains(caps.Reason, "did not answer") || took > 2*pingTimeout {
		t.Errorf("a silent engine after %v: %s", took, caps.Reason)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// makeCertificates writes an authority, and a certificate of it for a server
// on loopback and for a client.
func makeCertificates(t *testing.T, dir string) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	key := newKey(t)
	writeCertificate(t, dir, "ca", "", authority, authority, key, key)
	for i, name := range []string{"server", "client"} {
		usage, file, keyFile := x509.ExtKeyUsageServerAuth, "server", "server-key"
		if name == "client" {
			usage, file, keyFile = x509.ExtKeyUsageClientAuth, "cert", "key"
		}
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
			KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		writeCertificate(t, dir, file, keyFile, cert, authority, newKey(t), key)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeCertificate(t *testing.T, dir, file, keyFile string, cert, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, file+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	if keyFile == "" {
		return
	}
	der, err = x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, filepath.Join(dir, keyFile+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

// TestAdopt turns a sandbox made ahead of time into another's.
func TestAdopt(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host()})
	spec := agentSpec(t, d)
	s := create(t, d, spec)
	want := spec
	want.Project, want.Resources.MemoryMB, want.Resources.PIDs = "another", 128, 96
	if err := d.Adopt(t.Context(), s, want); err != nil {
		t.Fatal(err)
	}
	info, err := d.engine.inspect(t.Context(), s.(*sandbox).container())
	if err != nil {
		t.Fatal(err)
	}
	if info.HostConfig.Memory != 128<<20 || info.HostConfig.PidsLimit == nil || *info.HostConfig.PidsLimit != 96 {
		t.Errorf("the limits are %d bytes and %v processes", info.HostConfig.Memory, info.HostConfig.PidsLimit)
	}
	for what, change := range map[string]func(*faas.Spec){
		"image":     func(s *faas.Spec) { s.Image = "other" },
		"read-only": func(s *faas.Spec) { s.ReadOnly = true },
		"network":   func(s *faas.Spec) { s.Network.Mode = faas.NetworkEgress },
	} {
		other := spec
		change(&other)
		if err := d.Adopt(t.Context(), s, other); !errors.Is(err, faas.ErrFailedPrecondition) {
			t.Errorf("another %s: %v", what, err)
		}
	}
	if err := version(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// TestSweepFindsLateContainer has a container without a record, as an engine
// makes it whose caller died and was swept before.
func TestSweepFindsLateContainer(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host()})
	s := create(t, d, agentSpec(t, d))
	if err := d.removeRecord(s.ID()); err != nil {
		t.Fatal(err)
	}
	removed, err := d.Sweep(t.Context(), func(string) bool { return false })
	if err != nil || !slices.Equal(removed, []string{s.ID()}) {
		t.Errorf("Sweep removed %q, %v", removed, err)
	}
	if err := s.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSweepUnfinished sweeps after processes that were killed while they wrote
// a record, and while the engine made a container that they did not see.
func TestSweepUnfinished(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host()})
	spec := agentSpec(t, d)
	half := filepath.Join(d.unfinishedDir(), "0123456789abcdef.0123")
	writeText(t, half, "{")
	own := d.unfinished()
	writeText(t, own, "{")
	if err := d.writeRecord(spec.ID, record{Owner: "0123456789abcdef", Spec: spec, CreatedAt: time.Now()}); err != nil {
		t.Fatal(err)
	}
	removed, err := d.Sweep(t.Context(), func(string) bool { return false })
	if err != nil || !slices.Equal(removed, []string{spec.ID}) {
		t.Errorf("Sweep removed %q, %v", removed, err)
	}
	if _, err := os.Stat(half); !os.IsNotExist(err) {
		t.Errorf("the half record of a dead process: %v", err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Errorf("the half record of a living process: %v", err)
	}
	if left, err := d.ours(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("in the engine is left: %v, %v", left, err)
	}

	s := create(t, d, spec)
	rec := record{Spec: spec}
	if underWay, err := d.takeName(t.Context(), s.ID(), &rec); err != nil || !underWay {
		t.Errorf("the name of a container that is there: under way %v, %v", underWay, err)
	}
}

// TestNetworkOptions has the configured addresses and name servers inside.
func TestNetworkOptions(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP docker network options: connecting sandboxes needs root")
	}
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host(), Network: network.Options{
		Prefix: netip.MustParsePrefix("10.199.0.0/24"), DNS: []netip.Addr{netip.MustParseAddr("203.0.113.53")},
	}})
	spec := agentSpec(t, d)
	spec.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress}
	s := create(t, d, spec).(*sandbox)
	at := s.snapshotRecord().Network
	if at == nil || !netip.MustParsePrefix("10.199.0.0/24").Contains(at.Address.Addr()) || len(at.DNS) != 1 || at.DNS[0].String() != "203.0.113.53" {
		t.Errorf("the sandbox is connected as %+v", at)
	}
	c := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: s.Channel().Multiplex})
	defer c.Close()
	f, _, err := c.ReadFile(t.Context(), "/etc/resolv.conf", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if inside, err := io.ReadAll(f); err != nil || string(inside) != "nameserver 203.0.113.53\n" {
		t.Errorf("/etc/resolv.conf inside: %q, %v", inside, err)
	}
}

// TestReadOnly has a root file system that takes no writes beside /tmp.
func TestReadOnly(t *testing.T) {
	cleanEnvironment(t)
	e := startEngine(t)
	d := open(t, Options{Host: e.host()})
	spec := agentSpec(t, d)
	spec.ReadOnly = true
	s := create(t, d, spec)
	c := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: s.Channel().Multiplex})
	defer c.Close()
	if _, err := c.WriteFile(t.Context(), "/var/x", strings.NewReader("x"), guest.WriteOptions{}); err == nil {
		t.Error("the root file system takes a write")
	}
	if _, err := c.WriteFile(t.Context(), "/tmp/x", strings.NewReader("x"), guest.WriteOptions{}); err != nil {
		t.Error(err)
	}
}
