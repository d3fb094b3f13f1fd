package snapshot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SNAPSHOT_TEST_CRASH"); dir != "" {
		crash(dir)
	}
	os.Exit(m.Run())
}

// crash leaves a draft behind as a killed process does.
func crash(dir string) {
	s, err := Open(dir, Options{})
	if err == nil {
		_, err = s.Begin(Manifest{Project: "p"})
	}
	fmt.Println(err)
	os.Exit(0)
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func commit(t *testing.T, s *Store, parent string) *Manifest {
	t.Helper()
	d, err := s.Begin(Manifest{Project: "p", Kind: faas.SnapshotFS, ParentID: parent, Annotations: Annotations{Name: "n"}})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(d.FS(), "file"), []byte(parent), 0o644))
	m, err := d.Commit(t.Context())
	must(t, err)
	return m
}

func TestCommittedSnapshotsAreFoundAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	root := commit(t, s, "")
	child := commit(t, s, root.ID)
	if want := []string{child.ID, root.ID}; !slices.Equal(child.Layers, want) {
		t.Errorf("layers %v, want %v", child.Layers, want)
	}
	again := open(t, dir)
	got, err := again.Get("p", child.ID)
	must(t, err)
	if got.ParentID != root.ID || got.SizeBytes != int64(len(root.ID)) || got.Name != "n" {
		t.Errorf("%+v", got)
	}
	if n := len(again.List("p", nil)); n != 2 {
		t.Errorf("%d snapshots, want 2", n)
	}
}

func TestProjectsDoNotSeeOneAnother(t *testing.T) {
	s := open(t, t.TempDir())
	m := commit(t, s, "")
	_, err := s.Get("other", m.ID)
	_, err2 := s.Remove("other", m.ID, false)
	_, err3 := s.Acquire("other", m.ID, "sbx")
	_, err4 := s.Begin(Manifest{Project: "other", ParentID: m.ID})
	for i, err := range []error{err, err2, err3, err4} {
		if !errors.Is(err, faas.ErrNotFound) {
			t.Errorf("%d: %v, want not found", i, err)
		}
	}
	if n := len(s.List("other", nil)); n != 0 {
		t.Errorf("%d snapshots listed", n)
	}
}

func TestRemoveRespectsDescendants(t *testing.T) {
	s := open(t, t.TempDir())
	root := commit(t, s, "")
	child := commit(t, s, root.ID)
	grandchild := commit(t, s, child.ID)
	if _, err := s.Remove("p", root.ID, false); !errors.Is(err, faas.ErrConflict) {
		t.Fatalf("remove a parent: %v, want conflict", err)
	}
	removed, err := s.Remove("p", root.ID, true)
	must(t, err)
	if want := []string{grandchild.ID, child.ID, root.ID}; !slices.Equal(removed, want) {
		t.Errorf("removed %v, want %v", removed, want)
	}
	if entries, _ := os.ReadDir(filepath.Join(s.dir, dirSnapshots)); len(entries) > 0 {
		t.Errorf("%d directories left", len(entries))
	}
}

func TestLeasesKeepFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	root := commit(t, s, "")
	child := commit(t, s, root.ID)
	l, err := s.Acquire("p", child.ID, "sbx-1")
	must(t, err)
	_, err = s.Remove("p", root.ID, true)
	must(t, err)
	if _, err := s.Get("p", child.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("get a removed snapshot: %v", err)
	}
	for _, layer := range l.Layers {
		if _, err := os.Stat(filepath.Join(layer, "file")); err != nil {
			t.Errorf("a leased layer is gone: %v", err)
		}
	}
	// Nobody else ends the leases of a process that lives. The holder outlives
	// the process; then it ends while nobody looks.
	again := open(t, dir)
	must(t, again.Sweep(func(string) bool { return false }))
	must(t, s.Close())
	must(t, again.Sweep(func(holder string) bool { return holder == "sbx-1" }))
	if _, err := os.Stat(l.Layers[0]); err != nil {
		t.Errorf("a sweep took a leased layer: %v", err)
	}
	must(t, again.Sweep(func(string) bool { return false }))
	for _, d := range []string{dirSnapshots, dirLeases, dirTrash} {
		if entries, _ := os.ReadDir(filepath.Join(dir, d)); len(entries) > 0 {
			t.Errorf("%s: %d entries left", d, len(entries))
		}
	}
	must(t, l.Release())
}

func TestDraftsOfTheDeadAreSwept(t *testing.T) {
	dir := t.TempDir()
	alive := open(t, dir)
	draft, err := alive.Begin(Manifest{Project: "p"})
	must(t, err)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SNAPSHOT_TEST_CRASH="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "<nil>" {
		t.Fatalf("crash: %v: %s", err, out)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, dirStaging)); len(entries) != 2 {
		t.Fatalf("%d owners' drafts before, want 2", len(entries))
	}
	open(t, dir)
	if _, err := os.Stat(draft.FS()); err != nil {
		t.Errorf("the draft of a living process was swept: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, dirStaging)); len(entries) != 1 {
		t.Errorf("%d owners' drafts left, want 1", len(entries))
	}
}

func TestCommitNeedsItsParent(t *testing.T) {
	s := open(t, t.TempDir())
	root := commit(t, s, "")
	d, err := s.Begin(Manifest{Project: "p", ParentID: root.ID})
	must(t, err)
	_, err = s.Remove("p", root.ID, false)
	must(t, err)
	if _, err := d.Commit(t.Context()); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("commit: %v, want conflict", err)
	}
	if _, err := os.Stat(d.FS()); err == nil {
		t.Error("the draft is left")
	}
}

func TestAnnotate(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	m := commit(t, s, "")
	_, err := s.Annotate("p", m.ID, func(a *Annotations) { a.Labels = map[string]string{"k": "v"} })
	must(t, err)
	got, err := open(t, dir).Get("p", m.ID)
	must(t, err)
	if got.Labels["k"] != "v" || got.Name != "n" {
		t.Errorf("%+v", got.Annotations)
	}
}
