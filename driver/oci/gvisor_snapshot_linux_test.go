package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/network"
	"github.com/faas-platform/faas/snapshot"
)

// gvisorBox is a sandbox of a test.
type gvisorBox struct {
	*gvisorSandbox
	t      testing.TB
	client *guest.Client
}

func boxed(t testing.TB, s driver.Sandbox) *gvisorBox {
	t.Helper()
	b := &gvisorBox{s.(*gvisorSandbox), t, guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: true})}
	t.Cleanup(func() {
		b.client.Close()
		if err := s.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *gvisorBox) sh(script string) string {
	b.t.Helper()
	var out, errs strings.Builder
	exit, err := b.client.Run(b.t.Context(), guest.Command{Args: []string{"sh", "-c", script}}, nil, &out, &errs)
	if err != nil || exit.Code != 0 {
		b.t.Fatalf("%s: %v, %+v: %s", script, err, exit, errs.String())
	}
	return strings.TrimSpace(out.String())
}

// save takes a snapshot on top of layers.
func (b *gvisorBox) save(kind faas.SnapshotKind, below ...string) (driver.State, time.Duration) {
	b.t.Helper()
	dir := b.t.TempDir()
	files, memory := filepath.Join(dir, "files"), filepath.Join(dir, "memory")
	for _, d := range []string{files, memory} {
		if err := os.Mkdir(d, 0o700); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := b.client.Quiesce(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	saved, err := b.Snapshot(b.t.Context(), kind, files, memory)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.client.Resume(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return driver.State{Kind: kind, Layers: append([]string{files}, below[saved.Covers:]...), Memory: memory, Requires: saved.Requires, Data: saved.Data}, saved.Pause
}

func (g *GVisor) restoreTest(t testing.TB, from driver.State, spec faas.Spec) *gvisorBox {
	t.Helper()
	s, err := g.Restore(t.Context(), from, spec, func(context.Context, driver.Sandbox) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return boxed(t, s)
}

func newGVisorBox(t testing.TB, g *GVisor, change ...func(*faas.Spec)) *gvisorBox {
	t.Helper()
	s, err := g.Create(t.Context(), gvisorTestSpec(change...))
	if err != nil {
		t.Fatal(err)
	}
	return boxed(t, s)
}

func gvisorTestSpec(change ...func(*faas.Spec)) faas.Spec {
	spec := probeSpec()
	spec.Resources.MemoryMB, spec.Resources.DiskMB, spec.Resources.PIDs = 256, 512, 200
	for _, c := range change {
		c(&spec)
	}
	return spec
}

// listTree says what a directory of a sandbox holds.
const listTree = `cd /data && find . | sort | while read f; do stat -c '%n %F %a %u %g %h' "$f"; [ -d "$f" ] || stat -c %s "$f"; done; cat /data/text /data/sub/kept`

// TestGVisorSnapshotFiles saves every kind of file that a layer can hold.
func TestGVisorSnapshotFiles(t *testing.T) {
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	b.sh(`mkdir -p /data/sub /data/opaque && cd /data && echo hello > text && chmod 4750 text && ln text hard && ln -s text soft &&
		mkfifo pipe && echo kept > sub/kept && chown 12:34 sub/kept && : > empty && touch -d '2001-02-03 04:05:06' sub/kept &&
		dd if=/dev/zero of=sparse bs=1 count=1 seek=300M 2>/dev/null && dd if=/dev/urandom of=large bs=1M count=20 2>/dev/null &&
		rm -rf /etc/hostname /mnt && mkdir /mnt && echo new > /mnt/new`)
	want, sum := b.sh(listTree), b.sh("sha256sum < /data/large; stat -c %Y /data/sub/kept")
	from, pause := b.save(faas.SnapshotFS)
	t.Logf("paused for %v", pause)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(from.Layers[0], "data/sparse"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("a sparse file takes %d bytes in the layer, %v", st.Blocks*512, err)
	}
	if _, err := os.Lstat(filepath.Join(from.Layers[0], spacerPath)); err == nil {
		t.Error("the layer holds the driver's own whiteout")
	}
	c := g.restoreTest(t, from, gvisorTestSpec())
	if got := c.sh(listTree); got != want {
		t.Errorf("restored:\n%s\nwant:\n%s", got, want)
	}
	if got := c.sh("sha256sum < /data/large; stat -c %Y /data/sub/kept"); got != sum {
		t.Errorf("restored: %s, want %s", got, sum)
	}
	if got := c.sh("ls /mnt; ls -A /tmp"); got != "new" {
		t.Errorf("/mnt and /tmp: %q", got)
	}
}

// TestGVisorSnapshotLargeFile saves a file that is larger than the sandbox's
// memory.
func TestGVisorSnapshotLargeFile(t *testing.T) {
	g := gvisorHere(t)
	b := newGVisorBox(t, g, func(s *faas.Spec) { s.Resources.MemoryMB = 64 })
	b.sh("dd if=/dev/zero bs=1M count=300 2>/dev/null | tr '\\0' x > /large")
	from, pause := b.save(faas.SnapshotFS)
	t.Logf("paused for %v", pause)
	if info, err := os.Stat(filepath.Join(from.Layers[0], "large")); err != nil || info.Size() != 300<<20 {
		t.Errorf("%v, %v", info, err)
	}
	b.sh("test $(stat -c %s /large) = 314572800")
}

// TestGVisorLayersOfCopies compares what a chain of full snapshots, of which
// each gVisor kernel holds all changes itself, says as layers.
func TestGVisorLayersOfCopies(t *testing.T) {
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	b.sh("mkdir -p /data/dir/deep /data/again && echo 1 > /data/dir/deep/one && echo 1 > /data/both && echo 1 > /data/again/old && rm -rf /mnt")
	base, _ := b.save(faas.SnapshotFS)
	c := g.restoreTest(t, base, gvisorTestSpec())
	c.sh("echo 2 > /data/two && rm /data/both")
	first, _ := c.save(faas.SnapshotFull, base.Layers...)
	d := g.restoreTest(t, first, gvisorTestSpec())
	d.sh("rm /data/two && rm -r /data/dir/deep && echo 3 > /data/dir/deep && rm -r /data/again && mkdir /data/again && echo 3 > /data/again/new")
	second, _ := d.save(faas.SnapshotFull, first.Layers...)
	e := g.restoreTest(t, second, gvisorTestSpec())
	e.sh("rm /data/again/new && mkdir /mnt")
	third, _ := e.save(faas.SnapshotFull, second.Layers...)

	const look = "cd / && find data mnt | sort; cat /data/dir/deep"
	for _, x := range []struct {
		running *gvisorBox
		state   driver.State
	}{{d, second}, {e, third}} {
		want := x.running.sh(look)
		if got := g.restoreTest(t, x.state, gvisorTestSpec()).sh(look); got != want {
			t.Errorf("memory and files:\n%s\nwant:\n%s", got, want)
		}
		x.state.Kind = faas.SnapshotFS
		if got := g.restoreTest(t, x.state, gvisorTestSpec()).sh(look); got != want {
			t.Errorf("the files alone:\n%s\nwant:\n%s", got, want)
		}
	}
	changes, err := snapshot.Diff(t.Context(), first.Layers, second.Layers)
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprint(changes); !strings.Contains(all, "data/two") || strings.Contains(all, "data/both") {
		t.Errorf("the difference names what had changed before, or not what was removed: %v", all)
	}
}

// TestGVisorSnapshotKeepsStops sees that a process which a signal had stopped
// stays stopped, in the source and in copies, and that others notice nothing.
func TestGVisorSnapshotKeepsStops(t *testing.T) {
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	b.sh(`setsid sh -c 'exec sleep 1000' </dev/null >/dev/null 2>&1 & echo $! > /stopped; kill -STOP $(cat /stopped)
		setsid sh -c 'trap "echo continued >> /noticed" CONT CHLD; while :; do read x < /never; done' </dev/null >/dev/null 2>&1 &
		mkfifo /never; setsid sh -c 'while :; do date +%s%N > /now; sleep 0.05; done' </dev/null >/dev/null 2>&1 &
		while [ ! -s /now ]; do sleep 0.05; done`)
	const state = "awk '{print $3}' /proc/$(cat /stopped)/stat"
	if got := b.sh(state); got != "T" {
		t.Fatalf("before: %s", got)
	}
	from, _ := b.save(faas.SnapshotFull)
	c := g.restoreTest(t, from, gvisorTestSpec())
	for _, x := range []*gvisorBox{b, c} {
		if got := x.sh(state); got != "T" {
			t.Errorf("a stopped process is %s", got)
		}
		x.sh("a=$(cat /now); i=0; while [ $i -lt 100 ]; do [ \"$(cat /now)\" != \"$a\" ] && exit 0; sleep 0.05; i=$((i+1)); done; exit 1")
	}
}

// TestGVisorSnapshotCutOff takes over a sandbox that stands still since the
// process that held it has ended.
func TestGVisorSnapshotCutOff(t *testing.T) {
	for _, when := range []string{"before", "still", "signalled", "after"} {
		t.Run(when, func(t *testing.T) {
			g := gvisorHere(t)
			b := newGVisorBox(t, g)
			b.sh("setsid sh -c 'while :; do date +%s%N > /now; sleep 0.05; done' </dev/null >/dev/null 2>&1 & while [ ! -s /now ]; do sleep 0.05; done")
			b.client.Close()
			ctx := t.Context()
			err := b.update(func(r *record) { r.Still = true })
			if err == nil && when != "before" {
				err = b.still(ctx)
			}
			if err == nil && when == "after" {
				err = b.goOn(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			if when == "signalled" {
				list, err := b.processList(ctx)
				if err == nil {
					err = b.signalAll(ctx, awake(list), unix.SIGSTOP)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			other := openGVisor(t, filepath.Dir(g.opts.Dir))
			defer other.Close()
			again, err := other.Recover(ctx, b.Handle())
			if err != nil {
				t.Fatal(err)
			}
			client := guest.NewClient(again.Dial, guest.Options{Secret: again.Channel().Secret, Multiplex: true})
			x := &gvisorBox{again.(*gvisorSandbox), t, client}
			defer client.Close()
			x.sh("a=$(cat /now); i=0; while [ $i -lt 100 ]; do [ \"$(cat /now)\" != \"$a\" ] && exit 0; sleep 0.05; i=$((i+1)); done; exit 1")
			if r, err := other.work.Load(b.id); err != nil || r.Still {
				t.Errorf("the record: %+v, %v", r, err)
			}
		})
	}
}

// TestGVisorRandomNumbers draws from every source of a Python that was saved,
// threads included, in the source and in copies.
func TestGVisorRandomNumbers(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("SKIP gvisor python: python3 is not installed")
	}
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	b.sh(`cat > /draw.py <<'E'
import os, secrets, uuid, threading
def spin():
    while True: threading.Event().wait(0.01)
for _ in range(3): threading.Thread(target=spin, daemon=True).start()
data = {i: str(i) for i in range(100000)}
os.mkfifo('/ask'); os.mkfifo('/answer')
while True:
    open('/ask').read()
    with open('/answer', 'w') as f:
        f.write(' '.join([os.urandom(8).hex(), secrets.token_hex(8), str(uuid.uuid4()), os.getrandom(8).hex(), str(len(data))]))
E
		setsid python3 /draw.py </dev/null >/dev/null 2>/err & while [ ! -p /answer ]; do sleep 0.05; done`)
	const draw = "echo > /ask; cat /answer"
	b.sh(draw)
	from, pause := b.save(faas.SnapshotFull)
	t.Logf("paused for %v", pause)
	seen := map[string]bool{}
	boxes := []*gvisorBox{b}
	for range 3 {
		boxes = append(boxes, g.restoreTest(t, from, gvisorTestSpec()))
	}
	for _, x := range boxes {
		fields := strings.Fields(x.sh(draw))
		if len(fields) != 5 || fields[4] != "100000" {
			t.Fatalf("drawn: %v", fields)
		}
		for _, f := range fields[:4] {
			if seen[f] {
				t.Errorf("%s was drawn twice", f)
			}
			seen[f] = true
		}
	}
}

// TestGVisorNodeRandomNumbers sees the agent renew what OpenSSL keeps in a
// Node's memory.
func TestGVisorNodeRandomNumbers(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("SKIP gvisor node: node is not installed")
	}
	g := gvisorHere(t)
	b := newGVisorBox(t, g, func(s *faas.Spec) { s.Resources.MemoryMB = 512 })
	b.sh(`mkfifo /ask /answer; cat > /draw.js <<'E'
const fs = require('fs'), crypto = require('crypto')
crypto.randomBytes(8)
for (;;) { fs.readFileSync('/ask'); fs.writeFileSync('/answer', crypto.randomBytes(16).toString('hex')) }
E
		setsid node /draw.js </dev/null >/dev/null 2>/err &`)
	const draw = "echo > /ask; cat /answer"
	b.sh(draw)
	from, _ := b.save(faas.SnapshotFull)
	seen := map[string]bool{b.sh(draw): true}
	for range 2 {
		s, err := g.Restore(t.Context(), from, gvisorTestSpec(func(s *faas.Spec) { s.Resources.MemoryMB = 512 }),
			func(ctx context.Context, s driver.Sandbox) error {
				client := guest.NewClient(s.Dial, guest.Options{Secret: s.Channel().Secret, Multiplex: true})
				defer client.Close()
				out, err := client.Configure(ctx, guest.Configuration{Entropy: newSecret(), Reseed: true})
				t.Logf("%+v", out)
				return err
			})
		if err != nil {
			t.Fatal(err)
		}
		drawn := boxed(t, s).sh(draw)
		if seen[drawn] {
			t.Errorf("%s was drawn twice", drawn)
		}
		seen[drawn] = true
	}
}

// TestGVisorEgressAfterRestore connects a copy by its own policy.
func TestGVisorEgressAfterRestore(t *testing.T) {
	m, _ := newMachine(t)
	g := gvisorHere(t)
	err := m.Do(func() (err error) {
		g.opts.Network, err = network.New(network.Options{Installation: "gvtest", DNS: []netip.Addr{m.World.Neighbour.Addr()}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	reach := func(b *gvisorBox) (got [2]int) {
		for i, address := range []netip.AddrPort{m.World.Server, m.World.Neighbour} {
			exit, err := b.client.Run(t.Context(), guest.Command{Args: []string{"bash", "-c",
				fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", address.Addr(), address.Port())}}, nil, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			got[i] = exit.Code
		}
		return got
	}
	connected := func(s *faas.Spec) {
		s.Network = faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{m.World.Server.Addr().String()}}
	}
	sources := []*gvisorBox{newGVisorBox(t, g), newGVisorBox(t, g, connected)}
	for i, b := range sources {
		from, _ := b.save(faas.SnapshotFull)
		if got := reach(g.restoreTest(t, from, gvisorTestSpec(connected))); got != [2]int{0, 1} {
			t.Errorf("source %d, connected copy: %v", i, got)
		}
		if got := reach(g.restoreTest(t, from, gvisorTestSpec())); got != [2]int{1, 1} {
			t.Errorf("source %d, copy without a network: %v", i, got)
		}
	}
	if got := reach(sources[1]); got != [2]int{0, 1} {
		t.Errorf("the source afterwards: %v", got)
	}
}

// TestGVisorSnapshotWithStrayConnections saves while a process inside holds
// connections to the host that are none of the agent's.
func TestGVisorSnapshotWithStrayConnections(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("SKIP gvisor python: python3 is not installed")
	}
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	b.sh(`cat > /stray.py <<'E'
import socket, time
held = []
for _ in range(40):
    s = socket.socket(socket.AF_UNIX); s.connect('` + channelDir + "/" + hostSocket + `'); s.send(b'x'); held.append(s)
open('/ready', 'w').close()
time.sleep(1000)
E
		setsid python3 /stray.py </dev/null >/dev/null 2>/err & while [ ! -e /ready ] && [ ! -s /err ]; do sleep 0.05; done; cat /err`)
	from, _ := b.save(faas.SnapshotFull)
	b.sh("true")
	g.restoreTest(t, from, gvisorTestSpec()).sh("true")
}

// TestGVisorRestoreRefused names what a saved memory cannot become.
func TestGVisorRestoreRefused(t *testing.T) {
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	from, _ := b.save(faas.SnapshotFull)
	never := func(context.Context, driver.Sandbox) error { return fmt.Errorf("prepared") }
	for field, change := range map[string]func(*faas.Spec){
		"read_only":         func(s *faas.Spec) { s.ReadOnly = true },
		"resources.disk_mb": func(s *faas.Spec) { s.Resources.DiskMB++ },
	} {
		_, err := g.Restore(t.Context(), from, gvisorTestSpec(change), never)
		var known *faas.Error
		if !errors.As(err, &known) || known.Kind != faas.KindFailedPrecondition || known.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	other := from
	other.Data = []byte(strings.Replace(string(from.Data), `"runsc":"runsc`, `"runsc":"other`, 1))
	if err := g.CheckRestore(t.Context(), other); faas.KindOf(err) != faas.KindFailedPrecondition {
		t.Errorf("of another version: %v", err)
	}
	other = from
	other.Requires.CPUFeatures = append(slices.Clone(from.Requires.CPUFeatures), "telepathy")
	if err := g.CheckRestore(t.Context(), other); err == nil || !strings.Contains(err.Error(), "telepathy") {
		t.Errorf("with another processor: %v", err)
	}
}

// TestGVisorRestoreAhead restores into what was made before, and removes what
// was not used.
func TestGVisorRestoreAhead(t *testing.T) {
	g := gvisorHere(t)
	b := newGVisorBox(t, g)
	b.sh("echo saved > /data; setsid sh -c 'while :; do date +%s%N > /now; sleep 0.05; done' </dev/null >/dev/null 2>&1 & while [ ! -s /now ]; do sleep 0.05; done")
	from, _ := b.save(faas.SnapshotFull)
	none := func(context.Context, driver.Sandbox) error { return nil }

	used := gvisorTestSpec(func(s *faas.Spec) { s.Resources.MemoryMB = 200 })
	if _, err := g.RestoreAhead(t.Context(), from, used); err != nil {
		t.Fatal(err)
	}
	if removed, err := g.Sweep(t.Context(), nil); err != nil || len(removed) > 0 {
		t.Errorf("a sweep removed %v, %v", removed, err)
	}
	if _, err := g.Create(t.Context(), used); faas.KindOf(err) != faas.KindConflict {
		t.Errorf("the id was given again: %v", err)
	}
	used.Resources.MemoryMB, used.Resources.PIDs = 300, 77
	s, err := g.Restore(t.Context(), from, used, none)
	if err != nil {
		t.Fatal(err)
	}
	c := boxed(t, s)
	if got := c.sh("cat /data; hostname"); got != "saved\n"+used.ID {
		t.Errorf("restored: %q", got)
	}
	c.sh("a=$(cat /now); i=0; while [ $i -lt 100 ]; do [ \"$(cat /now)\" != \"$a\" ] && exit 0; sleep 0.05; i=$((i+1)); done; exit 1")
	c.sh("grep -q . /proc/net/dev && ping -c1 -W2 127.0.0.1 >/dev/null 2>&1 || grep -q '^ *lo:' /proc/net/dev")

	unfit, wasted := gvisorTestSpec(), gvisorTestSpec()
	if _, err := g.RestoreAhead(t.Context(), from, unfit); err != nil {
		t.Fatal(err)
	}
	other, _ := b.save(faas.SnapshotFull)
	if s, err = g.Restore(t.Context(), other, unfit, none); err != nil {
		t.Fatal(err)
	}
	boxed(t, s).sh("cat /data")
	discard, err := g.RestoreAhead(t.Context(), from, wasted)
	if err != nil {
		t.Fatal(err)
	}
	if err := discard(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(g.work.Path(wasted.ID)); !errors.Is(err, os.ErrNotExist) || g.tree.Group(wasted.ID).Exists() {
		t.Errorf("after discarding: %v", err)
	}
}
