package auth

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/faas-platform/faas"
)

func open(t *testing.T) (*FileStore, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sub", "keys.json")
	store, err := OpenFileStore(path)
	if err != nil {
		t.Fatal(err)
	}
	return store, path
}

func TestAuthenticate(t *testing.T) {
	store, path := open(t)
	key, plain, err := NewKey(t.Context(), store, "ci", "team", RoleMember)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(content), plain) {
		t.Errorf("the plain key is kept, or nothing is: %v", err)
	}
	again, err := OpenFileStore(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Store{store, again} {
		got, err := New(s).Authenticate(t.Context(), plain)
		if err != nil || got != (Identity{KeyID: key.ID, Project: "team", Role: RoleMember}) {
			t.Errorf("%+v, %v", got, err)
		}
		for _, wrong := range []string{"", "x", plain + "a", strings.ToUpper(plain), NewSecret(), string(key.Hash)} {
			if _, err := New(s).Authenticate(t.Context(), wrong); !errors.Is(err, faas.ErrUnauthenticated) {
				t.Errorf("%q: %v", wrong, err)
			}
		}
	}
	if err := store.DeleteKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := New(store).Authenticate(t.Context(), plain); !errors.Is(err, faas.ErrUnauthenticated) {
		t.Errorf("a revoked key: %v", err)
	}
	if err := store.DeleteKey(t.Context(), key.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestPutKeyConflicts(t *testing.T) {
	store, _ := open(t)
	key, _, err := NewKey(t.Context(), store, "a", "p", RoleAdmin)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutKey(t.Context(), key); !errors.Is(err, faas.ErrConflict) {
		t.Error(err)
	}
}

func TestDamagedStore(t *testing.T) {
	for content, want := range map[string]error{"{": faas.ErrInternal, `{"format":99}`: faas.ErrFailedPrecondition} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenFileStore(path); !errors.Is(err, want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, test := range []struct {
		have, need Role
		want       bool
	}{
		{RoleAdmin, RoleAdmin, true}, {RoleAdmin, RoleViewer, true}, {RoleMember, RoleAdmin, false},
		{RoleViewer, RoleMember, false}, {"", RoleViewer, false}, {"boss", RoleViewer, false},
	} {
		if got := test.have.Allows(test.need); got != test.want {
			t.Errorf("%q for %q: %v", test.have, test.need, got)
		}
	}
}

func TestEnsureLocal(t *testing.T) {
	first, _ := open(t)
	second, _ := open(t)
	path := filepath.Join(t.TempDir(), "config", "faas", "key")
	made, err := EnsureLocal(t.Context(), first, path)
	if err != nil || !made {
		t.Fatalf("%v, %v", made, err)
	}
	plain, err := ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if made, err := EnsureLocal(t.Context(), first, path); err != nil || made {
		t.Errorf("a second start: %v, %v", made, err)
	}
	// Another server of the same user takes the same key in.
	if made, err := EnsureLocal(t.Context(), second, path); err != nil || !made {
		t.Errorf("another server: %v, %v", made, err)
	}
	for _, s := range []Store{first, second} {
		if who, err := New(s).Authenticate(t.Context(), plain); err != nil || who.Role != RoleAdmin || who.Project != faas.DefaultProject {
			t.Errorf("%+v, %v", who, err)
		}
	}
}

func TestEnsureLocalRace(t *testing.T) {
	store, _ := open(t)
	path := filepath.Join(t.TempDir(), "key")
	var starts sync.WaitGroup
	for range 8 {
		starts.Go(func() {
			if _, err := EnsureLocal(t.Context(), store, path); err != nil && !errors.Is(err, faas.ErrConflict) {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	plain, err := ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(store).Authenticate(t.Context(), plain); err != nil {
		t.Error(err)
	}
}

func TestReadKeyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	exposedFile := filepath.Join(dir, "exposed")
	if err := os.WriteFile(exposedFile, []byte(NewSecret()), 0o644); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	paths := []string{bad, dir}
	if runtime.GOOS != "windows" {
		paths = append(paths, exposedFile)
	}
	for _, path := range paths {
		if _, err := ReadKeyFile(path); !errors.Is(err, faas.ErrFailedPrecondition) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := ReadKeyFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
