package modes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// daemon is the real program on a data directory of its own.
type daemon struct {
	*client.Client
	t       *testing.T
	dir     string
	program string
	address string
	key     string
	env     []string
	cmd     *exec.Cmd
	ended   chan struct{}
}

// startDaemon builds the program and starts it, with more lines of configuration
// when they are given; it is ended with the test.
func startDaemon(t *testing.T, config string) *daemon {
	t.Helper()
	// A short path: sockets lie below it.
	dir, err := os.MkdirTemp("", "modes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// What some runtimes start is nobody here and must pass through.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, dir: dir, program: filepath.Join(dir, "faas")}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", d.program, "../../cmd/faas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build faas: %v\n%s", err, out)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.address = listener.Addr().String()
	listener.Close()
	file := filepath.Join(dir, "faas.toml")
	if err := os.WriteFile(file, []byte("[log]\nlevel = \"warn\"\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	d.env = append(os.Environ(),
		"FAAS_CONFIG="+file, "FAAS_API_KEY_FILE="+filepath.Join(dir, "key"), "FAAS_SERVER_LISTEN="+d.address,
		"FAAS_DATA_DIR="+filepath.Join(dir, "data"), "FAAS_DATA_RUNTIME_DIR="+filepath.Join(dir, "runtime"))
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(d.program, "serve")
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = d.env, log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait() //nolint:errcheck // its log tells
		close(ended)
	}(d.cmd, d.ended)
	keyFile := filepath.Join(d.dir, "key")
	d.until("the daemon answers", 2*time.Minute, func() error {
		c, err := client.New(client.Options{URL: "http://" + d.address, KeyFile: keyFile})
		if err != nil {
			return err
		}
		d.Client = c
		key, err := os.ReadFile(keyFile)
		if err != nil {
			return err
		}
		d.key = strings.TrimSpace(string(key))
		h, err := c.Health(d.t.Context())
		if err == nil && h.Probing {
			err = errors.New("it still probes")
		}
		return err
	})
}

// stop ends the daemon in order.
func (d *daemon) stop() {
	d.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	select {
	case <-d.ended:
	case <-time.After(time.Minute):
		d.cmd.Process.Kill() //nolint:errcheck // it may have ended
		<-d.ended
		d.t.Errorf("the daemon had to be killed\n%s", d.log())
	}
}

func (d *daemon) log() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// until waits for a condition.
func (d *daemon) until(what string, limit time.Duration, holds func() error) {
	d.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-d.ended:
			d.t.Fatalf("the daemon ended:\n%s", d.log())
		default:
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("waited in vain until %s: %v\n%s", what, err, d.log())
		}
		<-time.After(20 * time.Millisecond)
	}
}

// run executes a request that must succeed.
func (d *daemon) run(t *testing.T, r api.ExecuteRequest) *api.ExecuteResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	got, err := d.Execute(ctx, r)
	if err != nil {
		t.Fatalf("%s: %v\n%s", r.Mode, err, d.log())
	}
	return got
}

// call asks a route that the client does not know, and decodes the answer.
func (d *daemon) call(t *testing.T, method, path string, body, into any) {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+d.address+path, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+d.key)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s, %v: %s", method, path, response.Status, err, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatal(err)
		}
	}
}

// can says whether a runtime is here and has a feature.
func (d *daemon) can(t *testing.T, runtime faas.Runtime, feature faas.Feature) (bool, string) {
	t.Helper()
	all, err := d.Runtimes(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Runtime != runtime {
			continue
		}
		if !c.Available {
			return false, c.Reason
		}
		for _, f := range c.Features {
			if f.Feature == feature {
				return f.Available, f.Reason
			}
		}
	}
	return false, fmt.Sprintf("the runtime %s is not in this build", runtime)
}
