package reseed

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// The tracer must be a process that reaps no others, so the tests trace from
// this binary started anew, as the agent does.
func TestMain(m *testing.M) {
	if pid := os.Getenv("RESEED_TEST_PID"); pid != "" {
		n, _ := strconv.Atoi(pid)
		json.NewEncoder(os.Stdout).Encode(Process(n)) //nolint:errcheck // a reader that is gone is the test's failure
		return
	}
	os.Exit(m.Run())
}

func reseed(t *testing.T, pid int) []Outcome {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("RESEED_TEST_PID=%d", pid))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tracer: %v: %s", err, out)
	}
	var outcomes []Outcome
	if err := json.Unmarshal(out, &outcomes); err != nil {
		t.Fatalf("tracer said %q: %v", out, err)
	}
	return outcomes
}

// program is an interpreter that answers each line that it reads.
type program struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func start(t *testing.T, interpreter, flag, code string) *program {
	t.Helper()
	path, err := exec.LookPath(interpreter)
	if err != nil {
		t.Skipf("SKIP reseed %s: this machine has no %s", interpreter, interpreter)
	}
	cmd := exec.Command(path, flag, code)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // killed
	})
	p.line() // it says that it is ready
	return p
}

func (p *program) line() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the program ended: %v", p.out.Err())
	}
	return p.out.Text()
}

func (p *program) ask() string {
	p.t.Helper()
	fmt.Fprintln(p.in, "next")
	return p.line()
}

const pythonIdle = `
import ssl, sys
ssl.RAND_bytes(8)
print("ready", flush=True)
for line in sys.stdin:
    print(ssl.RAND_bytes(16).hex(), flush=True)
`

// Threads that draw all the time, so that the lock is often held.
const pythonBusy = `
import hashlib, ssl, sys, threading
def draw():
    while True:
        hashlib.sha256(ssl.RAND_bytes(64))
for _ in range(3):
    threading.Thread(target=draw, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    print(ssl.RAND_bytes(16).hex(), flush=True)
`

const pythonComputing = `
import ssl, sys, threading
ssl.RAND_bytes(8)
print("ready", flush=True)
n = 0
while True:
    n += 1
    if n % 500000 == 0:
        print(n, flush=True)
`

const nodeIdle = `
const crypto = require('crypto')
crypto.randomBytes(8)
console.log('ready')
require('readline').createInterface({input: process.stdin}).on('line', () => console.log(crypto.randomBytes(16).toString('hex')))
`

const nodeComputing = `
const crypto = require('crypto')
crypto.randomBytes(8)
console.log('ready')
for (let n = 1; ; n++) if (n % 2e7 === 0) console.log(n + crypto.randomBytes(4).toString('hex'))
`

func TestProgramsAreRenewedAndGoOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP reseed: tracing needs root, as the agent has inside its sandbox")
	}
	for _, tc := range []struct {
		name, interpreter, flag, code string
		library                       string
		talks                         bool
	}{
		{"python idle", "/usr/bin/python3", "-c", pythonIdle, "libcrypto", true},
		{"python drawing on threads", "/usr/bin/python3", "-c", pythonBusy, "libcrypto", true},
		{"python computing", "/usr/bin/python3", "-c", pythonComputing, "libcrypto", false},
		{"node idle", "node", "-e", nodeIdle, "node", true},
		{"node computing", "node", "-e", nodeComputing, "node", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, tc.interpreter, tc.flag, tc.code)
			for range 8 {
				outcomes := reseed(t, p.cmd.Process.Pid)
				var poll *Outcome
				for i := range outcomes {
					if outcomes[i].Method == MethodRandPoll && strings.Contains(outcomes[i].Library, tc.library) {
						poll = &outcomes[i]
					}
				}
				if poll == nil || !poll.Done {
					t.Fatalf("not renewed: %+v", outcomes)
				}
				if tc.talks {
					p.ask()
				} else {
					p.line()
				}
			}
		})
	}
}

func TestProcessWithoutGenerators(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()         //nolint:errcheck // killed
	defer cmd.Process.Kill() //nolint:errcheck // running
	if got := reseed(t, cmd.Process.Pid); len(got) != 0 {
		t.Errorf("%+v, want nothing", got)
	}
}

func TestProcessThatIsGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if got := reseed(t, cmd.Process.Pid); len(got) != 0 {
		t.Errorf("%+v, want nothing", got)
	}
}

// A page that programs use to notice forks reads as zero afterwards.
func TestWipeOnForkPage(t *testing.T) {
	p := start(t, "/usr/bin/python3", "-c", `
import mmap, sys
m = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(18)  # MADV_WIPEONFORK
m[0] = 7
print("ready", flush=True)
for line in sys.stdin:
    print(m[0], flush=True)
`)
	if got := p.ask(); got != "7" {
		t.Fatalf("before: %s", got)
	}
	for _, o := range reseed(t, p.cmd.Process.Pid) {
		if o.Method == MethodWipe && o.Done {
			if got := p.ask(); got != "0" {
				t.Errorf("after: %s, want 0", got)
			}
			return
		}
	}
	t.Error("the page was not found")
}

func FuzzParseMapping(f *testing.F) {
	f.Add("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/dbus-daemon")
	f.Add("7fff-1 rw-p 0 0:0 0")
	f.Fuzz(func(_ *testing.T, line string) { parseMapping(line) })
}

func FuzzOpenImage(f *testing.F) {
	if b, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(b[:4096])
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		if im, err := openImage(strings.NewReader(string(b)), 0); err == nil {
			im.lookup("RAND_poll")
		}
	})
}
