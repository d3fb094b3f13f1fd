package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/internal/gateway"
)

// engine is an executor whose commands are Go functions.
type engine struct {
	gateway.Executor // what no test asks for

	run func(ctx context.Context, req faas.Request) (*faas.Result, error)
}

func (e *engine) Execute(ctx context.Context, req faas.Request) (*faas.Result, error) {
	return e.run(ctx, req)
}
func (e *engine) Runtimes(context.Context, bool) []faas.Capabilities {
	return []faas.Capabilities{{Runtime: faas.RuntimeNative, Available: true}}
}
func (e *engine) Execution(_ context.Context, _, id string) (*faas.Execution, error) {
	return nil, faas.Errorf(faas.KindNotFound, "there is no execution %s", id)
}
func (e *engine) Executions(context.Context, string, int, string) ([]faas.Execution, string, error) {
	return []faas.Execution{{ID: "exec-1"}}, "more", nil
}
func (e *engine) Cancel(context.Context, string, string) error { return nil }

func dial(t *testing.T, run func(context.Context, faas.Request) (*faas.Result, error)) *client.Client {
	t.Helper()
	gate, err := gateway.New(gateway.Options{Executor: &engine{run: run}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = gate.Server()
	server.Start()
	t.Cleanup(func() { gate.Close(); server.Close() })
	c, err := client.New(client.Options{URL: server.URL, Key: "none", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shell(line string) api.ExecuteRequest {
	return api.ExecuteRequest{Command: api.Command{Shell: line}}
}

func TestExecute(t *testing.T) {
	c := dial(t, func(_ context.Context, req faas.Request) (*faas.Result, error) {
		return &faas.Result{ID: req.ID, ExitCode: 3, Stdout: []byte("\xff" + req.Command[2]), RuntimeUsed: "native"}, nil
	})
	r, err := c.Execute(t.Context(), shell("x"))
	if err != nil || r.ExitCode != 3 || string(r.Result().Stdout) != "\xffx" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	for _, kind := range faas.Kinds() {
		c := dial(t, func(context.Context, faas.Request) (*faas.Result, error) {
			return nil, &faas.Error{Kind: kind, Detail: "detail", Remedy: "remedy", RetryAfter: 2 * time.Second}
		})
		want := &faas.Error{Kind: kind}
		_, err := c.Execute(t.Context(), shell("x"))
		_, errTo := c.ExecuteTo(t.Context(), shell("x"), io.Discard)
		_, errRun := c.Run(t.Context(), shell("x"), client.RunOptions{})
		for _, err := range []error{err, errTo, errRun} {
			if !errors.Is(err, want) {
				t.Errorf("%s came as %v", kind, err)
			}
		}
		var e *faas.Error
		if errors.As(err, &e) && kind != faas.KindInternal && (e.Detail != "detail" || e.Remedy != "remedy" || e.RetryAfter != 2*time.Second) {
			t.Errorf("%s lost something: %+v", kind, e)
		}
	}
}

func TestFieldErrors(t *testing.T) {
	c := dial(t, nil)
	_, err := c.Execute(t.Context(), api.ExecuteRequest{Command: api.Command{Shell: "x"}, MemoryMB: -1})
	var e *faas.Error
	if !errors.As(err, &e) || e.Field != "memory_mb" || !errors.Is(err, faas.ErrInvalidArgument) && e.Kind != faas.KindInvalidArgument {
		t.Errorf("%+v", err)
	}
}

func TestExecuteTo(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 3<<20)
	c := dial(t, func(_ context.Context, req faas.Request) (*faas.Result, error) {
		_, err := req.Stdout.Write(big)
		return &faas.Result{ID: req.ID, ExitCode: 1, Stderr: []byte("e")}, err
	})
	var out bytes.Buffer
	r, err := c.ExecuteTo(t.Context(), shell("x"), &out)
	if err != nil || r.ExitCode != 1 || r.Stderr != "e" || !bytes.Equal(out.Bytes(), big) {
		t.Errorf("%+v, %v, %d bytes", r, err, out.Len())
	}
	if _, err := c.ExecuteTo(t.Context(), shell("x"), fullDisk{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the writer's own error came as %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// More input than the window and every byte value, back as it went.
func TestRunStreams(t *testing.T) {
	input := bytes.Repeat([]byte{0, 255, 'a', '\n', 0xc3}, 1<<20)
	c := dial(t, func(_ context.Context, req faas.Request) (*faas.Result, error) {
		if _, err := io.WriteString(req.Stderr, "err\xff"); err != nil {
			return nil, err
		}
		_, err := io.Copy(req.Stdout, req.Stdin)
		return &faas.Result{ID: req.ID, ExitCode: 9, Signal: "SIGX"}, err
	})
	var out, errs bytes.Buffer
	r, err := c.Run(t.Context(), shell("x"), client.RunOptions{Stdin: bytes.NewReader(input), Stdout: &out, Stderr: &errs})
	if err != nil || r.ExitCode != 9 || r.Signal != "SIGX" {
		t.Fatalf("%+v, %v", r, err)
	}
	if !bytes.Equal(out.Bytes(), input) || errs.String() != "err\xff" {
		t.Errorf("%d bytes of %d, stderr %q", out.Len(), len(input), errs.String())
	}
}

// A command that does not read its input still gets signals and sizes.
func TestRunControl(t *testing.T) {
	c := dial(t, func(ctx context.Context, req faas.Request) (*faas.Result, error) {
		if req.TTY == nil || *req.TTY != (faas.TerminalSize{Cols: 100, Rows: 40}) {
			return nil, faas.Errorf(faas.KindInternal, "tty %v", req.TTY)
		}
		for done := 0; done < 2; done++ {
			select {
			case size := <-req.Resize:
				if size != (faas.TerminalSize{Cols: 7, Rows: 8}) {
					return nil, faas.Errorf(faas.KindUnavailable, "size %v", size)
				}
			case sig := <-req.Signals:
				if sig != syscall.SIGINT {
					return nil, faas.Errorf(faas.KindUnavailable, "signal %v", sig)
				}
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return &faas.Result{ID: req.ID, ExitCode: 130}, nil
	})
	resize, signals := make(chan faas.TerminalSize, 1), make(chan syscall.Signal, 1)
	resize <- faas.TerminalSize{Cols: 7, Rows: 8}
	signals <- syscall.SIGINT
	r, err := c.Run(t.Context(), shell("x"), client.RunOptions{
		Stdin: strings.NewReader(strings.Repeat("x", 5*api.StdinWindow)), TTY: &faas.TerminalSize{Cols: 100, Rows: 40},
		Resize: resize, Signals: signals,
	})
	if err != nil || r.ExitCode != 130 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRunIsCancelled(t *testing.T) {
	running, ended := make(chan struct{}), make(chan struct{})
	c := dial(t, func(ctx context.Context, _ faas.Request) (*faas.Result, error) {
		close(running)
		<-ctx.Done()
		close(ended)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-running; cancel() }()
	if _, err := c.Run(ctx, shell("x"), client.RunOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("the command goes on")
	}
}

func TestQuestions(t *testing.T) {
	c := dial(t, nil)
	if h, err := c.Health(t.Context()); err != nil || h.Status != "ok" {
		t.Errorf("%+v, %v", h, err)
	}
	if r, err := c.Runtimes(t.Context(), true); err != nil || len(r) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if p, err := c.Executions(t.Context(), 5, "c"); err != nil || len(p.Executions) != 1 || p.NextCursor != "more" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := c.Execution(t.Context(), faas.NewID("exec")); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
	if _, err := c.Cancel(t.Context(), faas.NewID("exec")); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
	if m, err := c.Metrics(t.Context()); err != nil || m.TotalRequests != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	c, err := client.New(client.Options{URL: server.URL, Key: "k", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Health(t.Context()); !errors.Is(err, faas.ErrUnavailable) && faas.KindOf(err) != faas.KindUnavailable {
		t.Errorf("a stranger's answer: %v", err)
	}
	server.Close()
	for _, call := range []func() error{
		func() error { _, err := c.Health(t.Context()); return err },
		func() error { _, err := c.Run(t.Context(), shell("x"), client.RunOptions{}); return err },
	} {
		if err := call(); faas.KindOf(err) != faas.KindUnavailable || !strings.Contains(err.Error(), "faas serve") {
			t.Errorf("nobody there: %v", err)
		}
	}
}

func TestKeyIsFound(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("FAAS_API_KEY", "")
	t.Setenv("FAAS_API_KEY_FILE", "")
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{}`))
	}))
	defer server.Close()
	t.Setenv("FAAS_API_URL", server.URL)
	ask := func(opts client.Options) string {
		c, err := client.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if key := ask(client.Options{}); key != "" {
		t.Errorf("without a key: %q", key)
	}
	if err := os.MkdirAll(filepath.Join(dir, "faas"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "faas", "key"), []byte("file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key := ask(client.Options{}); key != "Bearer file" {
		t.Errorf("from the file: %q", key)
	}
	t.Setenv("FAAS_API_KEY", "env")
	if key := ask(client.Options{}); key != "Bearer env" {
		t.Errorf("from the environment: %q", key)
	}
	if key := ask(client.Options{Key: "given"}); key != "Bearer given" {
		t.Errorf("given: %q", key)
	}
	if _, err := client.New(client.Options{URL: "nonsense"}); faas.KindOf(err) != faas.KindInvalidArgument {
		t.Errorf("a bad URL: %v", err)
	}
}

func (*engine) Instances(context.Context, string, faas.InstanceFilter) ([]faas.Instance, string, error) {
	return nil, "", nil
}
