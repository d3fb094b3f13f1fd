package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
)

// frame is one frame of the engine's framing of a container's streams.
func frame(stream byte, data string) []byte {
	head := make([]byte, 8)
	head[0] = stream
	binary.BigEndian.PutUint32(head[4:], uint32(len(data)))
	return append(head, data...)
}

func TestDemux(t *testing.T) {
	var wire bytes.Buffer
	for _, f := range [][]byte{
		frame(streamStdout, "one "), frame(streamStderr, "aside"), frame(streamStdout, ""), frame(streamStdout, strings.Repeat("x", 100_000)),
	} {
		wire.Write(f)
	}
	var aside boundedBuffer
	d := &demux{from: bufio.NewReader(iotestReader{&wire}), aside: &aside}
	out, err := io.ReadAll(d)
	if err != nil || string(out) != "one "+strings.Repeat("x", 100_000) {
		t.Errorf("read %d bytes, %v", len(out), err)
	}
	if aside.String() != "aside" {
		t.Errorf("aside %q", aside.String())
	}
}

// iotestReader returns a few bytes at a time.
type iotestReader struct{ r io.Reader }

func (r iotestReader) Read(p []byte) (int, error) {
	return r.r.Read(p[:min(len(p), 1+rand.IntN(4000))])
}

func TestDemuxRefusesGarbage(t *testing.T) {
	for _, garbage := range []string{"\x07\x00\x00\x00\x00\x00\x00\x01x", "HTTP/1.1 200 OK\r\n"} {
		d := &demux{from: bufio.NewReader(strings.NewReader(garbage)), aside: io.Discard}
		if _, err := d.Read(make([]byte, 10)); err == nil {
			t.Errorf("%q is taken for a frame", garbage)
		}
	}
	d := &demux{from: bufio.NewReader(strings.NewReader("\x01\x00\x00")), aside: io.Discard}
	if _, err := d.Read(make([]byte, 10)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut header: %v", err)
	}
}

// FuzzDemux feeds the framing arbitrary bytes: it ends, and never returns more
// than came in.
func FuzzDemux(f *testing.F) {
	f.Add(frame(streamStdout, "hello"))
	f.Add(append(frame(streamStderr, "x"), frame(streamStdout, "y")...))
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, wire []byte) {
		d := &demux{from: bufio.NewReader(bytes.NewReader(wire)), aside: io.Discard}
		out, _ := io.ReadAll(d)
		if len(out) > len(wire) {
			t.Errorf("%d bytes out of %d", len(out), len(wire))
		}
	})
}

func TestBoundedBuffer(t *testing.T) {
	var b boundedBuffer
	for range 100 {
		if n, err := b.Write(make([]byte, 1000)); n != 1000 || err != nil {
			t.Fatal(n, err)
		}
	}
	if len(b.buf) != maxComplaint {
		t.Errorf("%d bytes are kept", len(b.buf))
	}
}

func TestOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "owners")
	a, err := newOwner(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newOwner(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !a.alive(a.token) || !a.alive(b.token) || !b.alive(a.token) {
		t.Error("a living owner counts as dead")
	}
	for _, dead := range []string{"", "0123456789abcdef", "../x"} {
		if a.alive(dead) {
			t.Errorf("%q counts as alive", dead)
		}
	}
	a.forgetDead()
	if !a.alive(b.token) {
		t.Error("a living owner was forgotten")
	}
	token := a.token
	if err := errors.Join(a.close(), a.close()); err != nil {
		t.Error(err)
	}
	if b.alive(token) {
		t.Error("a closed owner counts as alive")
	}
	// One that crashed leaves its file, without a lock.
	crashed := filepath.Join(dir, "00112233445566aa")
	writeText(t, crashed, "")
	if b.alive("00112233445566aa") {
		t.Error("an owner that crashed counts as alive")
	}
	b.forgetDead()
	if _, err := os.Stat(crashed); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file of an owner that crashed stays")
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
}

func TestOneInstallation(t *testing.T) {
	dir := t.TempDir()
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := openInstallation(dir)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || !validName(id) {
			t.Fatalf("installations %q", ids)
		}
	}
}

func TestNewNeedsNoEngine(t *testing.T) {
	cleanEnvironment(t)
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	d, err := New(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	caps := d.Probe(t.Context())
	if caps.Available || caps.Reason == "" || caps.Remedy == "" || len(caps.Features) != len(faas.Features()) {
		t.Errorf("capabilities without an engine: %+v", caps)
	}
	for _, f := range caps.Features {
		if f.Available || f.Reason == "" {
			t.Errorf("%+v", f)
		}
	}
	if _, err := d.Create(t.Context(), faas.Spec{ID: "a", Image: "busybox"}); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("Create without an engine: %v", err)
	}
	if _, err := d.Sweep(t.Context(), func(string) bool { return false }); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("Sweep without an engine: %v", err)
	}
}

func TestCheckSpec(t *testing.T) {
	good := faas.Spec{ID: "sbx-1", Image: "x", Resources: faas.Resources{CPUCores: 0.5, MemoryMB: 64, PIDs: 64, DiskMB: 64}}
	if err := checkSpec(good); err != nil {
		t.Error(err)
	}
	for field, change := range map[string]func(*faas.Spec){
		"id":        func(s *faas.Spec) { s.ID = "../x" },
		"cpu_cores": func(s *faas.Spec) { s.Resources.CPUCores = 0.001 },
		"memory_mb": func(s *faas.Spec) { s.Resources.MemoryMB = 1 },
		"disk_mb":   func(s *faas.Spec) { s.Resources.DiskMB = -1 },
		"pids":      func(s *faas.Spec) { s.Resources.PIDs = 2 },
		"hostname":  func(s *faas.Spec) { s.Hostname = "a\nb" },
	} {
		spec := good
		change(&spec)
		var e *faas.Error
		if err := checkSpec(spec); !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestGroupStats(t *testing.T) {
	unified := map[string]string{
		"cgroup.controllers": "cpu memory pids\n", "cpu.stat": "usage_usec 5000\nuser_usec 1\n", "memory.current": "10\n",
		"memory.peak": "20\n", "memory.events": "low 0\noom 3\noom_kill 2\n", "pids.current": "4\n", "pids.events": "max 7\n",
	}
	legacy := map[string]string{
		"cpuacct/cpuacct.usage": "5000000\n", "memory/memory.usage_in_bytes": "10\n", "memory/memory.max_usage_in_bytes": "20\n",
		"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "pids/pids.current": "4\n", "pids/pids.events": "max 7\n",
	}
	for what, files := range map[string]map[string]string{"version 2": unified, "version 1": legacy} {
		st, err := groupStats(func(name string) (string, error) {
			if text, ok := files[strings.TrimPrefix(name, cgroupRoot)]; ok {
				return text, nil
			}
			return "", os.ErrNotExist
		})
		if err != nil || st.CPUMS != 5 || st.MemoryBytes != 10 || st.MaxMemoryBytes != 20 || st.OOMKills != 2 || st.PIDs != 4 || st.PIDsRefused != 7 {
			t.Errorf("control groups of %s: %+v, %v", what, st, err)
		}
	}
}

func TestAgentTar(t *testing.T) {
	b, err := agentTar([]byte("agent"), "digest")
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(bytes.NewReader(b))
	var names []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if strings.Join(names, " ") != "faas-agent digest" {
		t.Errorf("entries %q; the marker must come last", names)
	}
}

// TestUnsuitableEngines has engines answer that the driver cannot use.
func TestUnsuitableEngines(t *testing.T) {
	cleanEnvironment(t)
	for version, want := range map[string]string{
		`1.40 {"Version":"19.03","Os":"linux","Arch":"amd64"}`:  "speaks API 1.40",
		`1.30 {"Version":"17.06","Os":"linux","Arch":"amd64"}`:  "1.30",
		`1.47 {"Version":"27.0","Os":"windows","Arch":"amd64"}`: "windows containers",
		`1.47 this is not the answer of an engine`:              "invalid character",
	} {
		api, body, _ := strings.Cut(version, " ")
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", api)
			w.Header().Set("Content-Type", "application/json")
			if strings.HasSuffix(r.URL.Path, "/version") {
				fmt.Fprint(w, body)
			}
		}))
		d, err := New(Options{Dir: t.TempDir(), Host: "tcp://" + server.Listener.Addr().String()})
		if err != nil {
			t.Fatal(err)
		}
		caps := d.Probe(t.Context())
		if caps.Available || !strings.Contains(caps.Reason, want) {
			t.Errorf("API %s: %q, want a reason with %q", api, caps.Reason, want)
		}
		server.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestVersionIsNegotiated agrees on the client's own version with an engine that
// speaks a newer one.
func TestVersionIsNegotiated(t *testing.T) {
	cleanEnvironment(t)
	for engine, want := range map[string]string{"1.41": "1.41", "1.44": "1.44", "9.99": client.MaxAPIVersion} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Api-Version", engine)
			fmt.Fprint(w, `{"Version":"1","Os":"linux","Arch":"amd64"}`)
		}))
		conn, err := openConnection(t.Context(), "tcp://"+server.Listener.Addr().String(), "")
		if err != nil || conn.api.ClientVersion() != want {
			t.Errorf("engine of API %s: %v, %+v", engine, err, conn)
		}
		server.Close()
	}
}
