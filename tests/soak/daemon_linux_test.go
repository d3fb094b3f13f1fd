package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/client"
)

const poolSize = 8

// daemon is the real program with a warm pool.
type daemon struct {
	*client.Client
	t       *testing.T
	dir     string
	address string // of the API
	debug   string // of its profiles
	cmd     *exec.Cmd
	started time.Time
	ended   chan struct{}
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: t.TempDir(), address: freeAddress(t), debug: freeAddress(t)}
	program := filepath.Join(d.dir, "faas")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "../../cmd/faas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build faas: %v\n%s", err, out)
	}
	file := filepath.Join(d.dir, "faas.toml")
	config := fmt.Sprintf("[log]\nlevel = \"warn\"\n[policy]\nallowed = [\"native\"]\n[[pools]]\nruntime = \"native\"\nimage = \"host\"\nmin = %d\nmax = %d\n", poolSize, 2*poolSize)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(program, "serve", "--profile", d.debug)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.Env = append(os.Environ(),
		"FAAS_CONFIG="+file, "FAAS_API_KEY_FILE="+filepath.Join(d.dir, "key"), "FAAS_SERVER_LISTEN="+d.address,
		"FAAS_DATA_DIR="+filepath.Join(d.dir, "data"), "FAAS_DATA_RUNTIME_DIR="+filepath.Join(d.dir, "runtime"))
	d.started = time.Now()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.ended = make(chan struct{})
	go func() {
		d.cmd.Wait() //nolint:errcheck // its log tells
		close(d.ended)
	}()
	t.Cleanup(d.stop)
	d.until("the daemon answers", func() error {
		c, err := client.New(client.Options{URL: "http://" + d.address, KeyFile: filepath.Join(d.dir, "key")})
		if err != nil {
			return err
		}
		d.Client = c
		h, err := c.Health(t.Context())
		if err == nil && h.Probing {
			err = errors.New("it still probes")
		}
		return err
	})
	return d
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

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

func (d *daemon) until(what string, holds func() error) {
	d.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
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
		<-time.After(50 * time.Millisecond)
	}
}

// native says whether the runtime is available.
func (d *daemon) native() bool {
	all, err := d.Runtimes(d.t.Context(), false)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range all {
		if c.Runtime == faas.RuntimeNative {
			return c.Available
		}
	}
	return false
}

// quiet waits until nothing is being made or destroyed.
func (d *daemon) quiet() {
	d.until("the pool is full and nothing else is left", func() error {
		pools, err := d.Pools(d.t.Context())
		if err != nil {
			return err
		}
		idle := 0
		for _, p := range pools {
			if p.Making > 0 || p.Idle != p.Target {
				return fmt.Errorf("%+v", p)
			}
			idle += p.Idle
		}
		left, err := os.ReadDir(filepath.Join(d.dir, "data", "native", "sandboxes"))
		if err == nil && len(left) != idle {
			err = fmt.Errorf("%d sandboxes, %d idle", len(left), idle)
		}
		return err
	})
}

// state is what must not grow.
type state struct {
	memoryKiB, descriptors, goroutines, threads, mounts, groups, processes int
}

func (s state) String() string {
	return fmt.Sprintf("%d KiB, %d descriptors, %d goroutines, %d threads, %d mounts, %d control groups, %d processes",
		s.memoryKiB, s.descriptors, s.goroutines, s.threads, s.mounts, s.groups, s.processes)
}

// look reads the state of the daemon and what the machine has of it.
func (d *daemon) look() (s state) {
	d.t.Helper()
	d.profile("heap?gc=1") // what is garbage is no growth
	proc := "/proc/" + strconv.Itoa(d.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		number, _ := strconv.Atoi(strings.Fields(value + " 0")[0]) //nolint:errcheck // of the two below it is one
		switch name {
		case "VmRSS":
			s.memoryKiB = number
		case "Threads":
			s.threads = number
		}
	}
	open, err := os.ReadDir(proc + "/fd")
	if err != nil {
		d.t.Fatal(err)
	}
	s.descriptors = len(open)
	mounts, err := os.ReadFile(proc + "/mountinfo")
	if err != nil {
		d.t.Fatal(err)
	}
	s.mounts = bytes.Count(mounts, []byte(d.dir))
	goroutines := d.profile("goroutine?debug=1")
	if _, err := fmt.Sscanf(string(goroutines), "goroutine profile: total %d", &s.goroutines); err != nil {
		d.t.Fatalf("%v: %.100s", err, goroutines)
	}
	s.groups, s.processes = d.sandboxGroups(), d.children()
	return s
}

func (d *daemon) profile(name string) []byte {
	d.t.Helper()
	response, err := http.Get("http://" + d.debug + "/debug/pprof/" + name)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		d.t.Fatalf("%s: %s, %v", name, response.Status, err)
	}
	return content
}

// sandboxGroups counts the control groups that were made since the daemon
// started and have no process: left behind, or about to go.
func (d *daemon) sandboxGroups() (count int) {
	groups, err := filepath.Glob("/sys/fs/cgroup/*/faas/sbx-*")
	if err != nil {
		d.t.Fatal(err)
	}
	unified, err := filepath.Glob("/sys/fs/cgroup/faas/sbx-*")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, group := range append(groups, unified...) {
		info, err := os.Stat(group)
		if err != nil || info.ModTime().Before(d.started) {
			continue
		}
		if inside, err := os.ReadFile(filepath.Join(group, "cgroup.procs")); err == nil && len(inside) == 0 {
			count++
		}
	}
	return count
}

// children counts the processes that descend from the daemon, its sandboxes'
// among them.
func (d *daemon) children() (count int) {
	parents := map[int]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, file := range stats {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file))) //nolint:errcheck // the pattern has digits only
		fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1]) //nolint:errcheck // the kernel's own form
	}
	for pid := range parents {
		for p := pid; p > 1; p = parents[p] {
			if parents[p] == d.cmd.Process.Pid {
				count++
				break
			}
		}
	}
	return count
}
