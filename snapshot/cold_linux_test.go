package snapshot

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/snapshot/chunk"
)

func openCold(t *testing.T, dir, cold string, key []byte) *Store {
	t.Helper()
	c, err := chunk.Open(chunk.Dir(cold), key)
	must(t, err)
	s, err := Open(dir, Options{Cold: c})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func commitFiles(t *testing.T, s *Store, parent string, files map[string]string, memory string) *Manifest {
	t.Helper()
	d, err := s.Begin(Manifest{Project: "p", Kind: faas.SnapshotFull, ParentID: parent})
	must(t, err)
	writeInto(t, d.FS(), files)
	must(t, os.WriteFile(filepath.Join(d.Memory(), "pages-1.img"), []byte(memory), 0o600))
	m, err := d.Commit(t.Context())
	must(t, err)
	return m
}

func TestEvictedSnapshotsComeBackAsTheyWere(t *testing.T) {
	needRoot(t)
	for name, key := range map[string][]byte{"clear": nil, "encrypted": []byte(strings.Repeat("k", chunk.KeySize))} {
		t.Run(name, func(t *testing.T) {
			dir, cold := t.TempDir(), t.TempDir()
			s := openCold(t, dir, cold, key)
			parent := commitFiles(t, s, "", map[string]string{"a": "1", "d/": "opaque", "d/x": "x", "gone": "-", "l": "-> a"}, strings.Repeat("page", 1<<20))
			must(t, os.Link(filepath.Join(s.path(parent.ID), partFS, "a"), filepath.Join(s.path(parent.ID), partFS, "b")))
			child := commitFiles(t, s, parent.ID, map[string]string{"a": "2"}, "m")
			before := describe(t, s.path(parent.ID)+"/"+partFS)
			for _, m := range []*Manifest{parent, child} {
				_, err := s.Archive(t.Context(), m.ID)
				must(t, err)
				_, err = s.Evict(m.ID)
				must(t, err)
			}
			if _, err := s.Acquire("p", child.ID, "sbx"); !errors.Is(err, faas.ErrFailedPrecondition) {
				t.Errorf("acquire while cold: %v", err)
			}
			if key != nil {
				must(t, filepath.WalkDir(cold, func(p string, e fs.DirEntry, err error) error {
					must(t, err)
					if b, _ := os.ReadFile(p); strings.Contains(string(b), "pagepage") {
						t.Errorf("%s holds memory in the clear", p)
					}
					return nil
				}))
			}
			must(t, s.Warm(t.Context(), "p", child.ID))
			if after := describe(t, s.path(parent.ID)+"/"+partFS); !maps.Equal(before, after) {
				t.Errorf("%v\nwas %v", after, before)
			}
			l, err := s.Acquire("p", child.ID, "sbx")
			must(t, err)
			if got := listing(t, l.Layers)["/a"]; got != "2" {
				t.Errorf("/a is %q", got)
			}
			if _, err := s.Evict(parent.ID); !errors.Is(err, faas.ErrConflict) {
				t.Errorf("evict while in use: %v", err)
			}
			for _, m := range []*Manifest{parent, child} {
				problems, err := s.Verify(t.Context(), "p", m.ID)
				must(t, err)
				if len(problems) > 0 {
					t.Errorf("problems: %+v", problems)
				}
			}
		})
	}
}

func TestVerifyFindsEveryDamage(t *testing.T) {
	needRoot(t)
	for _, tc := range []struct {
		name, tier string
		damage     func(t *testing.T, s *Store, m *Manifest, cold string)
	}{
		{"hot byte", "hot", func(t *testing.T, s *Store, m *Manifest, _ string) {
			must(t, os.WriteFile(filepath.Join(s.path(m.ID), partMemory, "pages-1.img"), []byte(strings.Repeat("pagE", 1<<18)), 0o600))
		}},
		{"hot file gone", "hot", func(t *testing.T, s *Store, m *Manifest, _ string) {
			must(t, os.Remove(filepath.Join(s.path(m.ID), partFS, "a")))
		}},
		{"hot file more", "hot", func(t *testing.T, s *Store, m *Manifest, _ string) {
			writeInto(t, filepath.Join(s.path(m.ID), partFS), map[string]string{"evil": "x"})
		}},
		{"cold piece truncated", "cold", func(t *testing.T, _ *Store, _ *Manifest, cold string) {
			eachPiece(t, cold, func(p string) { must(t, os.Truncate(p, 3)) })
		}},
		{"cold piece gone", "cold", func(t *testing.T, _ *Store, _ *Manifest, cold string) {
			eachPiece(t, cold, func(p string) { must(t, os.Remove(p)) })
		}},
		{"cold index gone", "cold", func(t *testing.T, _ *Store, m *Manifest, cold string) {
			must(t, os.Remove(one(t, filepath.Join(cold, "store-*", indexBlobs, m.ID))))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cold := t.TempDir()
			s := openCold(t, t.TempDir(), cold, nil)
			m := commitFiles(t, s, "", map[string]string{"a": "1"}, strings.Repeat("page", 1<<18))
			_, err := s.Archive(t.Context(), m.ID)
			must(t, err)
			tc.damage(t, s, m, cold)
			problems, err := s.Verify(t.Context(), "p", m.ID)
			must(t, err)
			if len(problems) == 0 || problems[0].Tier != tc.tier || problems[0].SnapshotID != m.ID {
				t.Errorf("%+v", problems)
			}
		})
	}
}

// one returns the only path that a pattern matches.
func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("%s matches %v", pattern, found)
	}
	return found[0]
}

func eachPiece(t *testing.T, cold string, do func(path string)) {
	t.Helper()
	must(t, filepath.WalkDir(one(t, filepath.Join(cold, "store-*", "chunks")), func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			do(p)
		}
		return err
	}))
}

func TestCollectColdKeepsWhatIsNeeded(t *testing.T) {
	needRoot(t)
	cold := t.TempDir()
	s := openCold(t, t.TempDir(), cold, nil)
	shared := strings.Repeat("shared", 1<<18)
	kept := commitFiles(t, s, "", map[string]string{"a": "1"}, shared)
	gone := commitFiles(t, s, "", map[string]string{"a": "other"}, shared)
	for _, m := range []*Manifest{kept, gone} {
		_, err := s.Archive(t.Context(), m.ID)
		must(t, err)
	}
	_, err := s.Remove("p", gone.ID, false)
	must(t, err)
	freed, err := s.CollectCold(t.Context())
	must(t, err)
	if freed == 0 {
		t.Error("nothing was freed")
	}
	problems, err := s.Verify(t.Context(), "p", kept.ID)
	must(t, err)
	if len(problems) > 0 {
		t.Errorf("%+v", problems)
	}
	again, err := s.CollectCold(t.Context())
	must(t, err)
	if again != 0 {
		t.Errorf("%d bytes freed the second time", again)
	}
}

// An index is input: it comes from a remote tier or another machine.
func TestUnpackRefusesHostileEntries(t *testing.T) {
	needRoot(t)
	store, err := chunk.Open(chunk.Dir(t.TempDir()), nil)
	must(t, err)
	root := entry{Path: ".", Mode: 0o040755}
	for name, entries := range map[string][]entry{
		"dots":             {root, {Path: "../evil", Mode: 0o100644}},
		"inner dots":       {root, {Path: "a/../../evil", Mode: 0o100644}},
		"absolute":         {root, {Path: "/evil", Mode: 0o100644}},
		"through a link":   {root, {Path: "l", Mode: 0o120777, Target: "/tmp"}, {Path: "l/evil", Mode: 0o100644}},
		"twice":            {root, {Path: "l", Mode: 0o120777, Target: "/tmp/evil"}, {Path: "l", Mode: 0o100644}},
		"link outside":     {root, {Path: "l", Link: "../../etc/passwd"}},
		"link to later":    {root, {Path: "l", Link: "m"}, {Path: "m", Mode: 0o100644}},
		"device":           {root, {Path: "sda", Mode: 0o020666, Device: 0x801}},
		"block device":     {root, {Path: "sda", Mode: 0o060666, Device: 0}},
		"no parent":        {root, {Path: "a/b", Mode: 0o100644}},
		"impossible size":  {root, {Path: "a", Mode: 0o100644, Size: -1}},
		"piece not stored": {root, {Path: "a", Mode: 0o100644, Size: 1, Extents: []extent{{0, []piece{{"00", 1}}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := unpack(t.Context(), store, entries, t.TempDir(), nil); err == nil {
				t.Error("unpacked")
			}
		})
	}
}
