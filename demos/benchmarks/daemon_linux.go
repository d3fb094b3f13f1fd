package main

import (
	"bytes"
	"cmp"
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
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// daemon is a gateway of the benchmarks' own, with its own data directory.
type daemon struct {
	program string
	dir     string
	url     string
	key     string
	env     []string
	cmd     *exec.Cmd
	ended   chan struct{}
	client  *http.Client
}

// daemonOptions says what differs between two gateways.
type daemonOptions struct {
	program string
	dir     string       // made; holds data, runtime files, configuration, key and log
	image   string       // default image of requests
	runtime faas.Runtime // of the pool; empty: native
	pool    int          // warm sandboxes of image; 0: none
	refill  int          // sandboxes made at once; 0: the default
}

// prepareDaemon writes the configuration of a gateway; images may be imported
// before it starts.
func prepareDaemon(o daemonOptions) (*daemon, error) {
	for _, sub := range []string{"data", "runtime", "config"} {
		if err := os.MkdirAll(filepath.Join(o.dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("[log]\nlevel = \"warn\"\n[execution]\nimage = %q\n", o.image)
	if o.refill > 0 {
		config += fmt.Sprintf("[pooling]\nrefill = %d\n", o.refill)
	}
	if o.pool > 0 {
		config += fmt.Sprintf("[[pools]]\nruntime = %q\nimage = %q\nmin = %d\n", cmp.Or(o.runtime, faas.RuntimeNative), o.image, o.pool)
	}
	file := filepath.Join(o.dir, "config/faas.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	d := &daemon{
		program: o.program, dir: o.dir, url: "http://" + address,
		env: append(os.Environ(),
			"FAAS_CONFIG="+file,
			"FAAS_DATA_DIR="+filepath.Join(o.dir, "data"),
			"FAAS_DATA_RUNTIME_DIR="+filepath.Join(o.dir, "runtime"),
			"FAAS_API_KEY_FILE="+filepath.Join(o.dir, "config/key"),
			"FAAS_SERVER_LISTEN="+address,
		),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	return d, nil
}

// freeAddress asks the kernel for a port. Another program may take it before
// the gateway does; the gateway then does not start and says so.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// faas runs a command of the same installation to its end.
func (d *daemon) faas(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("faas %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts the gateway and waits until it answers.
func (d *daemon) start(ctx context.Context) error {
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(d.program, "serve")
	d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = d.env, log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.ended = make(chan struct{})
	go func() {
		d.cmd.Wait() //nolint:errcheck // the log says why it ended
		close(d.ended)
	}()
	if err := d.ready(ctx); err != nil {
		return errors.Join(err, d.stop())
	}
	key, err := os.ReadFile(filepath.Join(d.dir, "config/key"))
	d.key = strings.TrimSpace(string(key))
	if err != nil {
		return errors.Join(err, d.stop())
	}
	return nil
}

// ready polls /health for at most 30 seconds.
func (d *daemon) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var health api.Health
		if err := d.get(ctx, api.PathHealth, &health); err == nil && !health.Probing {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("the gateway ended: %s", d.log())
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not answer: %s", d.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// log is the end of what the gateway wrote.
func (d *daemon) log() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b[max(0, len(b)-2000):]))
}

// stop ends the gateway in an orderly way, or by force after 30 seconds.
func (d *daemon) stop() error {
	d.client.CloseIdleConnections()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(30 * time.Second):
	}
	d.cmd.Process.Kill() //nolint:errcheck // it may have ended just now
	<-d.ended
	return errors.New("the gateway did not end within 30 s of SIGTERM: " + d.log())
}

func (d *daemon) get(ctx context.Context, path string, into any) error {
	return d.call(ctx, http.MethodGet, path, nil, into)
}

// execute runs one request and checks that its command succeeded.
func (d *daemon) execute(ctx context.Context, request *api.ExecuteRequest) (*api.ExecuteResponse, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	var answer api.ExecuteResponse
	if err := d.call(ctx, http.MethodPost, api.PathExecute, body, &answer); err != nil {
		return nil, err
	}
	if answer.ExitCode != 0 {
		return nil, fmt.Errorf("exit code %d", answer.ExitCode)
	}
	return &answer, nil
}

func (d *daemon) call(ctx context.Context, method, path string, body []byte, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if d.key != "" {
		request.Header.Set("Authorization", "Bearer "+d.key)
	}
	response, err := d.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(answer))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}
