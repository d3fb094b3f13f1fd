package auth_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/meta"
)

// open opens a store of accounts, the one that servers use.
func open(t *testing.T) (store *meta.Accounts, dir string) {
	t.Helper()
	dir = t.TempDir()
	store, err := meta.OpenAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, dir
}

var here = netip.MustParseAddr("127.0.0.1")

func TestAuthenticate(t *testing.T) {
	store, dir := open(t)
	key, plain, err := auth.NewKey(t.Context(), store, auth.Key{Name: "ci", Project: "team", Role: auth.RoleUser, Scopes: []string{"images"}, Quota: auth.Quota{Concurrency: 3}})
	if err != nil {
		t.Fatal(err)
	}
	again, err := meta.OpenAccounts(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	content, err := os.ReadFile(filepath.Join(dir, "meta.db-wal"))
	if err != nil || strings.Contains(string(content), plain) || !strings.Contains(string(content), string(key.Hash)) {
		t.Errorf("the plain key is kept, or nothing is: %v", err)
	}
	want := auth.Identity{KeyID: key.ID, Project: "team", Role: auth.RoleUser, Scopes: []string{"images"}, Quota: auth.Quota{Concurrency: 3}}
	for _, s := range []auth.Store{store, again} {
		a := auth.New(s)
		for range 2 { // looked up, then known
			if got, err := a.Authenticate(t.Context(), plain, here); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v", got, err)
			}
		}
		for _, wrong := range []string{"", "x", plain + "a", strings.ToUpper(plain), auth.NewSecret(), string(key.Hash)} {
			if _, err := a.Authenticate(t.Context(), wrong, here); !errors.Is(err, faas.ErrUnauthenticated) {
				t.Errorf("%q: %v", wrong, err)
			}
		}
	}
	if used, err := again.Key(t.Context(), key.ID); err != nil || used.LastUsedAt == nil {
		t.Errorf("the last use is not kept: %+v, %v", used, err)
	}
	if err := store.DeleteKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.New(store).Authenticate(t.Context(), plain, here); !errors.Is(err, faas.ErrUnauthenticated) {
		t.Errorf("a revoked key: %v", err)
	}
	if err := store.DeleteKey(t.Context(), key.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

// A key that was revoked or has expired is refused though it was just used: at
// once where the authenticator is told, within a second where it is not.
func TestKnownKeysEnd(t *testing.T) {
	store, _ := open(t)
	soon := time.Now().Add(300 * time.Millisecond)
	for name, test := range map[string]struct {
		expires *time.Time
		end     func(a *auth.Authenticator, id string)
	}{
		"expired": {&soon, func(*auth.Authenticator, string) {}},
		"revoked": {nil, func(a *auth.Authenticator, id string) {
			if err := store.DeleteKey(context.Background(), id); err != nil {
				t.Error(err)
			}
			a.Forget(id)
		}},
		"revoked elsewhere": {nil, func(_ *auth.Authenticator, id string) {
			if err := store.DeleteKey(context.Background(), id); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := auth.New(store)
			key, plain, err := auth.NewKey(t.Context(), store, auth.Key{Project: "p", Role: auth.RoleUser, ExpiresAt: test.expires})
			if err != nil {
				t.Skip("the machine is too slow for a key of so short a life:", err)
			}
			_, first := a.Authenticate(t.Context(), plain, here)
			if first != nil && test.expires == nil {
				t.Fatal(first)
			}
			test.end(a, key.ID)
			if name == "revoked" {
				if _, err := a.Authenticate(t.Context(), plain, here); !errors.Is(err, faas.ErrUnauthenticated) {
					t.Error(err)
				}
			}
			for until := time.Now().Add(20 * time.Second); ; {
				_, err := a.Authenticate(t.Context(), plain, here)
				if errors.Is(err, faas.ErrUnauthenticated) {
					return
				}
				if err != nil || time.Now().After(until) {
					t.Fatalf("it goes on: %v", err)
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	}
}

// Whoever guesses is made to wait, longer each time; a key in use is not.
func TestGuessingIsSlowed(t *testing.T) {
	store, _ := open(t)
	_, unused, err := auth.NewKey(t.Context(), store, auth.Key{Project: "p", Role: auth.RoleUser})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a := auth.New(store)
		guess := func() error {
			_, err := a.Authenticate(t.Context(), auth.NewSecret(), here)
			return err
		}
		var waited []time.Duration
		for range 10 + 4 {
			err := guess()
			var slowed *faas.Error
			if !errors.As(err, &slowed) {
				t.Fatal(err)
			}
			if slowed.Kind == faas.KindResourceExhausted {
				waited = append(waited, slowed.RetryAfter)
				time.Sleep(slowed.RetryAfter)
				if err := guess(); !errors.Is(err, faas.ErrUnauthenticated) {
					t.Errorf("after the wait: %v", err)
				}
			}
		}
		if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}; !slices.Equal(waited, want) {
			t.Errorf("waited %v, want %v", waited, want)
		}
		if _, err := a.Authenticate(t.Context(), unused, here); !errors.Is(err, faas.ErrResourceExhausted) {
			t.Errorf("a key from an address that must wait: %v", err)
		}
		if _, err := a.Authenticate(t.Context(), unused, netip.MustParseAddr("10.0.0.1")); err != nil {
			t.Errorf("another address: %v", err)
		}
		time.Sleep(2 * time.Second) // longer than it is taken as valid without a look
		for guess() == nil || !errors.Is(guess(), faas.ErrResourceExhausted) {
			time.Sleep(time.Second)
		}
		if _, err := a.Authenticate(t.Context(), unused, here); err != nil {
			t.Errorf("a key in use: %v", err)
		}
	})
}

func TestPutKeyRefuses(t *testing.T) {
	store, _ := open(t)
	key, _, err := auth.NewKey(t.Context(), store, auth.Key{Name: "a", Project: "p", Role: auth.RoleAdmin})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.PutKey(t.Context(), key); !errors.Is(err, faas.ErrConflict) {
		t.Error(err)
	}
	past := time.Now().Add(-time.Hour)
	for field, bad := range map[string]auth.Key{
		"name":        {Name: strings.Repeat("x", 200), Project: "p", Role: auth.RoleUser},
		"project":     {Project: "No Project", Role: auth.RoleUser},
		"role":        {Project: "p", Role: "boss"},
		"expires_at":  {Project: "p", Role: auth.RoleUser, ExpiresAt: &past},
		"quota":       {Project: "p", Role: auth.RoleUser, Quota: auth.Quota{MemoryMB: -1}},
		"quota.burst": {Project: "p", Role: auth.RoleUser, Quota: auth.Quota{Burst: 1}},
	} {
		_, _, err := auth.NewKey(t.Context(), store, bad)
		var refused *faas.Error
		if !errors.As(err, &refused) || refused.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// What earlier versions kept in a file is in the database after a start.
func TestMigrateFile(t *testing.T) {
	store, dir := open(t)
	plain := auth.NewSecret()
	path := filepath.Join(dir, "keys.json")
	old := fmt.Sprintf(`{"format":1,"keys":[{"id":%q,"name":"n","project":"p","role":"member","hash":%q,"created_at":"2026-01-02T03:04:05Z"}]}`, faas.NewID(faas.PrefixKey), auth.HashOf(plain))
	for range 2 { // a start that was cut short before the file went
		if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := auth.MigrateFile(t.Context(), store, path); err != nil {
			t.Fatal(err)
		}
		if who, err := auth.New(store).Authenticate(t.Context(), plain, here); err != nil || who.Role != auth.RoleUser || who.Project != "p" {
			t.Errorf("%+v, %v", who, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is there still: %v", err)
		}
	}
	if err := auth.MigrateFile(t.Context(), store, path); err != nil {
		t.Errorf("no file: %v", err)
	}
	for content, want := range map[string]error{"{": faas.ErrInternal, `{"format":99}`: faas.ErrFailedPrecondition} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := auth.MigrateFile(t.Context(), store, path); !errors.Is(err, want) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

func TestScopes(t *testing.T) {
	for _, test := range []struct {
		scopes []string
		area   string
		change bool
		want   bool
	}{
		{nil, "images", true, true},
		{[]string{"images"}, "images", true, true},
		{[]string{"images:read"}, "images", true, false},
		{[]string{"images:read"}, "images", false, true},
		{[]string{"images"}, "instances", false, false},
	} {
		if got := (auth.Identity{Scopes: test.scopes}).InScope(test.area, test.change); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

func TestRoles(t *testing.T) {
	for _, test := range []struct {
		have, need auth.Role
		want       bool
	}{
		{auth.RoleAdmin, auth.RoleAdmin, true}, {auth.RoleAdmin, auth.RoleReadOnly, true}, {auth.RoleUser, auth.RoleAdmin, false},
		{auth.RoleReadOnly, auth.RoleUser, false}, {"", auth.RoleReadOnly, false}, {"boss", auth.RoleReadOnly, false},
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
	made, err := auth.EnsureLocal(t.Context(), first, path)
	if err != nil || !made {
		t.Fatalf("%v, %v", made, err)
	}
	plain, err := auth.ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if made, err := auth.EnsureLocal(t.Context(), first, path); err != nil || made {
		t.Errorf("a second start: %v, %v", made, err)
	}
	// Another server of the same user takes the same key in.
	if made, err := auth.EnsureLocal(t.Context(), second, path); err != nil || !made {
		t.Errorf("another server: %v, %v", made, err)
	}
	for _, s := range []auth.Store{first, second} {
		if who, err := auth.New(s).Authenticate(t.Context(), plain, here); err != nil || who.Role != auth.RoleAdmin || who.Project != faas.DefaultProject {
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
			if _, err := auth.EnsureLocal(t.Context(), store, path); err != nil && !errors.Is(err, faas.ErrConflict) {
				t.Error(err)
			}
		})
	}
	starts.Wait()
	plain, err := auth.ReadKeyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := auth.New(store).Authenticate(t.Context(), plain, here); err != nil {
		t.Error(err)
	}
}

func TestReadKeyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	exposedFile := filepath.Join(dir, "exposed")
	if err := os.WriteFile(exposedFile, []byte(auth.NewSecret()), 0o644); err != nil {
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
		if _, err := auth.ReadKeyFile(path); !errors.Is(err, faas.ErrFailedPrecondition) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := auth.ReadKeyFile(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
