package snapshot

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// A flattened stack shows on an image what the stack shows on it, to the kernel.
func TestFlattenedLayersShowTheSame(t *testing.T) {
	needRoot(t)
	const seed = 11
	r := rand.New(rand.NewPCG(seed, seed))
	for round := range 30 {
		image := layer(t, randomLayer(r))
		var stack []string
		for range 2 + r.IntN(4) {
			stack = append(stack, layer(t, randomLayer(r)))
		}
		flat := t.TempDir()
		must(t, flatten(t.Context(), stack, flat))
		want, got := mounted(t, append(slices.Clone(stack), image)), mounted(t, []string{flat, image})
		if !maps.Equal(got, want) {
			t.Fatalf("seed %d, round %d: %v, the stack shows %v", seed, round, got, want)
		}
	}
}

func TestCompactBoundsTheChain(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	s := openCold(t, dir, t.TempDir(), nil)
	chain := []*Manifest{commitFiles(t, s, "", map[string]string{"f0": "0", "gone": "x"}, "m")}
	for i := 1; i < 6; i++ {
		files := map[string]string{fmt.Sprintf("f%d", i): fmt.Sprint(i)}
		if i == 3 {
			files["gone"] = "-"
		}
		chain = append(chain, commitFiles(t, s, chain[i-1].ID, files, "m"))
	}
	head, sibling := chain[5], commitFiles(t, s, chain[4].ID, map[string]string{"s": "s"}, "m")
	l, err := s.Acquire("p", head.ID, "runs")
	must(t, err)
	before := mounted(t, l.Layers)
	_, err = s.Archive(t.Context(), chain[2].ID)
	must(t, err)
	did, err := s.Compact(t.Context(), "p", head.ID)
	must(t, err)
	if !did {
		t.Fatal("nothing was compacted")
	}
	for _, id := range []string{head.ID, sibling.ID} {
		m, err := s.Get("p", id)
		must(t, err)
		if len(m.Layers) != 2 {
			t.Errorf("%s lies on %v", id, m.Layers)
		}
	}
	again, err := s.Acquire("p", head.ID, "restored")
	must(t, err)
	if after := mounted(t, again.Layers); !maps.Equal(before, after) {
		t.Errorf("%v, was %v", after, before)
	}
	// Those above need none of the old layers; who runs on them keeps them.
	for _, m := range chain[:5] {
		_, err := s.Annotate("p", m.ID, func(a *Annotations) {})
		must(t, err)
	}
	_, err = s.Remove("p", chain[0].ID, true)
	must(t, err)
	if got := mounted(t, l.Layers); !maps.Equal(before, got) {
		t.Errorf("the running one sees %v, was %v", got, before)
	}
	must(t, l.Release())
	must(t, again.Release())
	if entries, _ := os.ReadDir(filepath.Join(dir, dirSnapshots)); len(entries) > 0 {
		t.Errorf("%d directories left", len(entries))
	}
}

// Two processes change one store: what one leases the other does not take.
func TestProcessesShareAStore(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	here, there := open(t, dir), open(t, dir)
	for round := range 40 {
		m := commit(t, here, "")
		var lease *Lease
		var leaseErr, removeErr error
		var both sync.WaitGroup
		both.Go(func() { lease, leaseErr = here.Acquire("p", m.ID, "sbx") })
		both.Go(func() { _, removeErr = there.Remove("p", m.ID, false) })
		both.Wait()
		must(t, removeErr)
		if leaseErr != nil {
			continue // it went first
		}
		if _, err := os.Stat(filepath.Join(lease.Layers[0], "file")); err != nil {
			t.Fatalf("round %d: a leased layer is gone: %v", round, err)
		}
		must(t, lease.Release())
	}
	for _, d := range []string{dirSnapshots, dirTrash, dirLeases} {
		if entries, _ := os.ReadDir(filepath.Join(dir, d)); len(entries) > 0 {
			t.Errorf("%s: %d entries left", d, len(entries))
		}
	}
}

// A manifest that cannot be read may name any layer: none is taken away, and
// it is a problem that is told.
func TestDamagedManifestLosesNothing(t *testing.T) {
	needRoot(t)
	s := open(t, t.TempDir())
	root := commit(t, s, "")
	child := commit(t, s, root.ID)
	must(t, os.WriteFile(filepath.Join(s.path(child.ID), fileManifest), []byte("{"), 0o600))
	if _, err := s.Get("p", child.ID); err == nil || !strings.Contains(err.Error(), child.ID) {
		t.Errorf("get: %v", err)
	}
	_, err := s.Remove("p", root.ID, true)
	must(t, err)
	if _, err := os.Stat(filepath.Join(s.path(root.ID), partFS, "file")); err != nil {
		t.Errorf("its layer is gone: %v", err)
	}
	problems, err := s.VerifyOwn(t.Context(), child.ID)
	must(t, err)
	if len(problems) != 1 || problems[0].Path != fileManifest || s.Damaged()[child.ID] == nil {
		t.Errorf("%+v", problems)
	}
}

// What a merge makes is usable as a root directory, and what tells sandboxes
// apart is nobody's change.
func TestMergeLeavesIdentityAlone(t *testing.T) {
	needRoot(t)
	base := layer(t, map[string]string{"etc/machine-id": "base", "f": "f"})
	must(t, os.Chmod(base, 0o751))
	one := layer(t, map[string]string{"etc/machine-id": "one", "run/faas/instance.json": "1", "one": "1"})
	two := layer(t, map[string]string{"etc/machine-id": "two", "run/faas/instance.json": "2", "two": "2"})
	to := filepath.Join(t.TempDir(), "fs")
	must(t, os.Mkdir(to, 0o700))
	conflicts, err := Merge(t.Context(), []string{base}, [][]string{{one, base}, {two, base}}, Union, to)
	must(t, err)
	got := mounted(t, []string{to, base})
	if len(conflicts) > 0 || got["/etc/machine-id"] != "base" || got["/one"] != "1" || got["/two"] != "2" || got["/run/faas/instance.json"] != "" {
		t.Errorf("conflicts %v, %v", conflicts, got)
	}
	if st, err := os.Stat(to); err != nil || st.Mode().Perm() != 0o751 {
		t.Errorf("the root is %v, %v", st.Mode(), err)
	}
}

// A copy of 1 GiB shares its blocks where the file system can.
func TestCopyLayerSharesBlocks(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mkfs, err := exec.LookPath("mkfs.btrfs")
	if err != nil {
		t.Skip("SKIP shared blocks: mkfs.btrfs is not installed")
	}
	disk := filepath.Join(dir, "disk")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 400<<20))
	if out, err := exec.Command(mkfs, "-q", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := filepath.Join(dir, "at")
	must(t, os.Mkdir(at, 0o700))
	if out, err := exec.Command("mount", "-o", "loop", disk, at).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	defer func() { must(t, unix.Unmount(at, 0)) }()
	s, err := Open(filepath.Join(at, "store"), Options{})
	must(t, err)
	defer s.Close()
	from := filepath.Join(at, "upper")
	must(t, os.Mkdir(from, 0o755))
	// More than half of the disk: a second copy has no room.
	must(t, os.WriteFile(filepath.Join(from, "big"), make([]byte, 200<<20), 0o600))
	d, err := s.Begin(Manifest{Project: "p", Kind: faas.SnapshotFS})
	must(t, err)
	must(t, CopyLayer(t.Context(), from, d.FS()))
	_, err = d.Commit(t.Context())
	must(t, err)
}
