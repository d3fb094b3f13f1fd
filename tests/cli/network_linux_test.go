package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas/network/networktest"
)

// machine is a network that stands for this machine's, with the program.
type machine struct {
	*networktest.Machine
	dir string
}

func newMachine(t *testing.T, runtime string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("SKIP %s network: needs root to make network namespaces", runtime)
	}
	if ok, err := condition(t, runtime); err != nil || !ok {
		t.Skipf("SKIP %s network: the runtime is not available: %v", runtime, err)
	}
	m, err := networktest.NewMachine()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "fn-") // short: sockets lie below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // gVisor's processes pass through as nobody
		t.Fatal(err)
	}
	return &machine{m, dir}
}

// faas runs the program there and returns what it printed, and its exit code.
func (m *machine) faas(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "FAAS_CONFIG="+os.DevNull, "FAAS_API_URL=", "FAAS_DATA_DIR="+filepath.Join(m.dir, "d"),
		"FAAS_NETWORK_PREFIX=10.99.0.0/24", "FAAS_NETWORK_DNS="+m.World.Neighbour.Addr().String())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := m.Start(cmd); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// TestRunWithNetwork runs commands that reach what they may, and nothing else,
// in a network that the test made.
func TestRunWithNetwork(t *testing.T) {
	for _, runtime := range []string{"native", "gvisor"} {
		t.Run(runtime, func(t *testing.T) { runWithNetwork(t, runtime) })
	}
}

func runWithNetwork(t *testing.T, runtime string) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skipf("SKIP %s network: the host image has no bash, whose connections this test uses", runtime)
	}
	m := newMachine(t, runtime)
	var own net.Listener
	err := m.Do(func() (err error) {
		own, err = net.Listen("tcp4", "0.0.0.0:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	server, neighbour := m.World.Server, m.World.Neighbour
	const connect = "for to in \"$@\"; do if (exec 3<>/dev/tcp/$to) 2>/dev/null; then echo $to yes; else echo $to no; fi; done"
	targets := map[string]string{
		"server":    fmt.Sprintf("%s/%d", server.Addr(), server.Port()),
		"neighbour": fmt.Sprintf("%s/%d", neighbour.Addr(), neighbour.Port()),
		"machine":   fmt.Sprintf("%s/%d", server.Addr().Prev(), own.Addr().(*net.TCPAddr).Port),
		"metadata":  "169.254.169.254/80",
	}
	for name, test := range map[string]struct {
		flags   []string
		reaches []string
	}{
		"any public address": {[]string{"--network", "egress"}, []string{"server", "neighbour"}},
		"one network":        {[]string{"--network", "egress", "--allow", server.Addr().String() + "/32"}, []string{"server"}},
		"not the machine":    {[]string{"--network", "egress", "--allow", "0.0.0.0/0"}, []string{"server", "neighbour"}},
		"no network":         {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"run", "--runtime", runtime}, test.flags...)
			args = append(args, "--", "bash", "-c", connect, "bash")
			for _, address := range targets {
				args = append(args, address)
			}
			out, code := m.faas(t, args...)
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, out)
			}
			for target, address := range targets {
				want := "no"
				for _, r := range test.reaches {
					if r == target {
						want = "yes"
					}
				}
				if !strings.Contains(out, address+" "+want+"\n") {
					t.Errorf("%s: want %s %s in\n%s", target, address, want, out)
				}
			}
		})
	}
	if out, code := m.faas(t, "run", "--runtime", runtime, "--network", "egress", "--", "cat", "/etc/resolv.conf"); code != 0 ||
		out != "nameserver "+neighbour.Addr().String()+"\n" {
		t.Errorf("exit code %d, resolv.conf: %s", code, out)
	}
	if out, code := m.faas(t, "run", "--network", "egress", "--allow", "example.org", "--", "true"); code != 125 || !strings.Contains(out, "network.allow[0]") {
		t.Errorf("exit code %d: %s", code, out)
	}
	names, err := m.Interfaces()
	if err != nil || strings.Contains(strings.Join(names, " "), "fsv") {
		t.Errorf("interfaces that are left: %v, %v", names, err)
	}
}
