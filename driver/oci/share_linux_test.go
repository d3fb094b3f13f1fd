package oci

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// saved is a full snapshot that a test took.
func saveAll(t *testing.T, s *sandbox, below ...string) driver.State {
	t.Helper()
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret()})
	defer client.Close() //nolint:errcheck // connections only
	if err := client.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, memory := t.TempDir(), t.TempDir()
	saved, err := s.Snapshot(t.Context(), faas.SnapshotFull, files, memory)
	if err != nil {
		t.Fatal(err)
	}
	return driver.State{Kind: faas.SnapshotFull, Layers: append([]string{files}, below...), Memory: memory,
		Requires: saved.Requires, Data: saved.Data}
}

func restoreAll(t *testing.T, n *Native, from driver.State, spec faas.Spec) *sandbox {
	t.Helper()
	spec.ID = faas.NewID(faas.PrefixSandbox)
	s, err := n.Restore(t.Context(), from, spec, func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() {
		if err := s.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.(*sandbox)
}

func needCRIU(t *testing.T, n *Native) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIP native snapshot.full: saving memory needs root")
	}
	if _, err := n.criuTool(t.Context()); err != nil {
		t.Skipf("SKIP native snapshot.full: %v", err)
	}
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("SKIP native snapshot.full: this machine has no /usr/bin/python3 to fill memory with")
	}
}

// inside runs a script and returns what it prints.
func inside(t *testing.T, s *sandbox, script string) string {
	t.Helper()
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret()})
	defer client.Close() //nolint:errcheck // connections only
	var out strings.Builder
	exit, err := client.Run(t.Context(), guest.Command{Args: []string{"sh", "-c", script}, Timeout: 20 * time.Second}, nil, &out, &out)
	if err != nil || exit.Code != 0 {
		t.Fatalf("%s: %v %v: %s", script, exit, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// python starts a program in the background that says ready in a file.
func python(t *testing.T, s *sandbox, code string) {
	t.Helper()
	pythonIn(t, s, "/tmp", code)
}

// pythonIn does so with everything in a directory of the sandbox.
func pythonIn(t *testing.T, s *sandbox, dir, code string) {
	t.Helper()
	client := guest.NewClient(s.Dial, guest.Options{Secret: s.channelSecret()})
	defer client.Close() //nolint:errcheck // connections only
	_, err := client.WriteFile(t.Context(), dir+"/program.py", strings.NewReader(code), guest.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	exit, err := client.Run(t.Context(), guest.Command{Args: []string{"sh", "-c",
		"setsid /usr/bin/python3 " + dir + "/program.py </dev/null >" + dir + "/log 2>&1 & while [ ! -e " + dir + "/ready ]; do sleep 0.02; done"}},
		nil, io.Discard, io.Discard)
	if err != nil || exit.Code != 0 {
		t.Fatalf("start program: %v %v", exit, err)
	}
}

// proportional sums what a sandbox's processes take of memory, in bytes, each
// shared page by its share.
func proportional(t *testing.T, s *sandbox) (total int64) {
	t.Helper()
	err := eachDescendant(s.process.ID.PID, func(pid int) error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return ignoreMissing(err)
		}
		for line := range strings.Lines(string(b)) {
			var kb int64
			if _, err := fmt.Sscanf(line, "Pss: %d kB", &kb); err == nil {
				total += kb << 10
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// Ten forks of a program with much memory together take less than it does, a
// snapshot of a fork holds little, and its own forks go on from there.
func TestForksShareMemory(t *testing.T) {
	n := newNative(t, "")
	needCRIU(t, n)
	spec := testSpec()
	spec.Resources.MemoryMB = 512
	source := create(t, n, spec)
	python(t, source, `
import time
table = {i: str(i) * 8 for i in range(400000)}
held = open('/tmp/held', 'w')
n = 0
while True:
    n += 1
    held.write(str(n) + "\n"); held.flush()
    open('/tmp/now', 'w').write(table[n])
    open('/tmp/ready', 'w').close()
    time.sleep(0.02)
`)
	state := saveAll(t, source)
	size := proportional(t, source)
	const forks = 10
	copies := make([]*sandbox, forks)
	var group sync.WaitGroup
	for i := range copies {
		group.Go(func() { copies[i] = restoreAll(t, n, state, spec) })
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var all int64
	for _, c := range copies {
		all += proportional(t, c)
		if wrong := inside(t, c, `awk '$1 != NR {print NR; exit}' /tmp/held`); wrong != "" {
			t.Errorf("a copy did not go on from where it was saved: line %s", wrong)
		}
	}
	t.Logf("%d forks take %d MiB, one source %d MiB", forks, all>>20, size>>20)
	if all > size {
		t.Errorf("%d forks take %d bytes, one source %d", forks, all, size)
	}
	again := saveAll(t, copies[0], state.Layers...)
	var changed int64
	for _, path := range glob(t, filepath.Join(again.Memory, imagesDir, "pages-*.img")) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		changed += info.Size()
	}
	if changed > size/2 {
		t.Errorf("a snapshot of a fork holds %d bytes of pages, the source has %d", changed, size)
	}
	last := restoreAll(t, n, again, spec)
	if wrong := inside(t, last, `test -s /tmp/now && awk '$1 != NR {print NR; exit}' /tmp/held`); wrong != "" {
		t.Errorf("a fork's copy did not go on: line %s", wrong)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) == 0 {
		t.Fatalf("%s: %v, %v", pattern, list, err)
	}
	return list
}

// What programs do with anonymous memory works in shared memory too, or is
// refused: it never shows what was saved where zeros are due.
func TestSharedMemoryBehaves(t *testing.T) {
	n := newNative(t, "")
	needCRIU(t, n)
	source := create(t, n, testSpec())
	python(t, source, `
import ctypes, mmap, os, time
size = 2 << 20
anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
dropped = mmap.mmap(-1, size, anonymous); dropped[:] = b'd' * size
written = mmap.mmap(-1, size, anonymous); written[:] = b'w' * size
sparse = mmap.mmap(-1, size, anonymous); sparse[0:4096] = b's' * 4096; sparse[size-1:size] = b'e'
for i in range(64): sparse[i * 4096:i * 4096 + 1] = b's'
grown = mmap.mmap(-1, size, anonymous); grown[:] = b'g' * size
large = bytearray(b'l' * size)
libc = ctypes.CDLL(None, use_errno=True)
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
address = ctypes.addressof(ctypes.c_char.from_buffer(grown))
open('/tmp/ready', 'w').close()
while not os.path.exists('/tmp/go'):
    time.sleep(0.01)
result = []
try:
    dropped.madvise(mmap.MADV_DONTNEED)
    result.append('dropped ' + str(dropped[0]))
except OSError as e:
    result.append('refused ' + str(e.errno))
result.append('kept ' + str(dropped[:] == b'd' * size))
written[100:200] = b'x' * 100
result.append('written ' + str(written[100:200] == b'x' * 100 and written[200:300] == b'w' * 100))
result.append('sparse ' + str(sparse[size-1] == ord('e') and sparse[size-4096] == 0 and sparse[1 << 20] == 0))
moved = libc.mremap(address, size, 4 * size, 1)
result.append('not grown ' + str(moved == 2 ** 64 - 1 and ctypes.get_errno()))
shrunk = libc.mremap(address, size, size // 2, 1)
result.append('shrunk ' + str(shrunk == address and grown[0:10] == b'g' * 10))
large += bytes(16 << 20)
result.append('large ' + str(large[:size] == b'l' * size and large[size:] == bytes(16 << 20)))
child = os.fork()
if child == 0:
    written[0:4] = b'kid!'
    os._exit(0 if written[0:4] == b'kid!' else 1)
result.append('child ' + str(os.waitpid(child, 0)[1] == 0 and written[0:4] == b'wwww'))
open('/tmp/result.new', 'w').write('\n'.join(result)); os.rename('/tmp/result.new', '/tmp/result')
time.sleep(1000)
`)
	state := saveAll(t, source)
	for range 2 {
		c := restoreAll(t, n, state, testSpec())
		got := inside(t, c, "cat /proc/[0-9]*/maps 2>/dev/null | grep -c "+memoryDir+"/; touch /tmp/go; while [ ! -e /tmp/result ]; do sleep 0.02; done; cat /tmp/result")
		shared, rest, _ := strings.Cut(got, "\n")
		if shared == "0" {
			t.Error("nothing is shared")
		}
		const want = "refused 22\nkept True\nwritten True\nsparse True\nnot grown 12\nshrunk True\nlarge True\nchild True"
		if rest != want {
			t.Errorf("%s\nwant %s", rest, want)
		}
	}
}

// Trees of processes, threads, huge pages and a read-only root share memory
// like a plain program's, and each process keeps its own content.
func TestSharedMemoryOfATree(t *testing.T) {
	n := newNative(t, "")
	needCRIU(t, n)
	spec := testSpec()
	spec.ReadOnly, spec.Resources.MemoryMB = true, 256
	source := create(t, n, spec)
	pythonIn(t, source, "/dev/shm", `
import mmap, os, threading, time
size = 8 << 20
def region(mark, huge):
    m = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge: m.madvise(mmap.MADV_HUGEPAGE)
    m[:] = mark * size
    return m
common = region(b'c', True)
os.mkdir('/dev/shm/told')
def tell(name, mine, mark):
    while not os.path.exists('/dev/shm/go'): time.sleep(0.02)
    ok = common[:] == b'c' * size and mine[:] == mark * size
    mine[0:4] = b'next'
    open('/dev/shm/told/' + name, 'w').write(str(ok and mine[0:8] == b'next' + mark * 4))
for i in range(2):
    if os.fork() == 0:
        mine = region(str(i).encode(), i == 0)
        if i == 0 and os.fork() == 0:
            tell('grandchild', region(b'g', False), b'g'); os._exit(0)
        open('/dev/shm/child%d' % i, 'w').close()
        tell('child%d' % i, mine, str(i).encode())
        time.sleep(1000)
for i in range(3):
    mark = 'xyz'[i].encode()
    threading.Thread(target=tell, args=('thread%d' % i, region(mark, False), mark)).start()
while not (os.path.exists('/dev/shm/child0') and os.path.exists('/dev/shm/child1')): time.sleep(0.02)
open('/dev/shm/ready', 'w').close()
time.sleep(1000)
`)
	state := saveAll(t, source)
	for round := range 2 { // of the source, and of a copy of it
		c := restoreAll(t, n, state, spec)
		if t.Failed() {
			return
		}
		if round == 0 {
			state = saveAll(t, c, state.Layers...)
		}
		got := inside(t, c, "grep -l "+memoryDir+"/ /proc/[0-9]*/maps 2>/dev/null | wc -l; touch /dev/shm/go; while [ $(ls /dev/shm/told | wc -l) -lt 6 ]; do sleep 0.02; done; sleep 0.1; cat /dev/shm/told/*")
		shared, rest, _ := strings.Cut(got, "\n")
		if shared != "4" {
			t.Errorf("%s processes share memory, want all four", shared)
		}
		if rest != strings.Repeat("True", 6) {
			t.Errorf("the programs say %s", rest)
		}
	}
}
