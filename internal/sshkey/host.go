package sshkey

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/faas-platform/faas"
)

// hostTypes are the types of keys that a host has, the preferred one first.
var hostTypes = []string{TypeEd25519, TypeECDSA}

// HostKeys are the keys by which a server is known. They outlive it.
//
// A rotation announces new keys first: clients that connect meanwhile learn
// them (OpenSSH with UpdateHostKeys), and when the overlap is over they take
// the place of the old.
type HostKeys struct {
	dir string

	mu       sync.Mutex
	current  []ssh.Signer
	next     []ssh.Signer
	switchAt time.Time // of next; zero when there are none
}

const (
	nextPrefix = "next_"
	switchFile = "next.json"
)

// OpenHostKeys reads the keys in a directory, which it fills when empty.
func OpenHostKeys(dir string) (*HostKeys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "open the SSH host keys: %w", err)
	}
	h := &HostKeys{dir: dir}
	for _, kind := range hostTypes {
		signer, err := ensurePrivate(h.path("", kind), kind, "")
		if err != nil {
			return nil, faas.Errorf(faas.KindFailedPrecondition, "open the SSH host keys: %w", err)
		}
		h.current = append(h.current, signer)
	}
	if err := h.readNext(); err != nil {
		return nil, err
	}
	return h, h.advance(time.Now())
}

func (h *HostKeys) path(prefix, kind string) string {
	return filepath.Join(h.dir, prefix+"host_"+kind)
}

// announced is what switchFile holds.
type announced struct {
	SwitchAt time.Time `json:"switch_at"`
}

// readNext reads the keys that a rotation has announced. Without the file that
// says when they count, none are.
func (h *HostKeys) readNext() error {
	content, err := os.ReadFile(filepath.Join(h.dir, switchFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var a announced
	if err == nil {
		err = json.Unmarshal(content, &a)
	}
	if err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "read %s: %w", filepath.Join(h.dir, switchFile), err)
	}
	for _, kind := range hostTypes {
		signer, err := readPrivate(h.path(nextPrefix, kind))
		if errors.Is(err, fs.ErrNotExist) {
			signer, err = readPrivate(h.path("", kind)) // a switch that was interrupted
		}
		if err != nil {
			return faas.Errorf(faas.KindFailedPrecondition, "read the announced SSH host keys: %w", err)
		}
		h.next = append(h.next, signer)
	}
	h.switchAt = a.SwitchAt
	return nil
}

// advance puts announced keys into the place of the old when it is time.
func (h *HostKeys) advance(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.advanceLocked(now)
}

func (h *HostKeys) advanceLocked(now time.Time) error {
	if h.next == nil || now.Before(h.switchAt) {
		return nil
	}
	for _, kind := range hostTypes {
		err := os.Rename(h.path(nextPrefix, kind), h.path("", kind))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return faas.Errorf(faas.KindInternal, "put new SSH host keys into place: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(h.dir, switchFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return faas.Errorf(faas.KindInternal, "put new SSH host keys into place: %w", err)
	}
	h.current, h.next, h.switchAt = h.next, nil, time.Time{}
	return nil
}

// Current returns the keys that the host proves itself with now.
func (h *HostKeys) Current() []ssh.Signer {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advanceLocked(time.Now()) //nolint:errcheck // the old ones stay in force, and the next call tries again
	return append([]ssh.Signer(nil), h.current...)
}

// All returns the current keys and those that are announced.
func (h *HostKeys) All() []ssh.Signer {
	current := h.Current()
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(current, h.next...)
}

// Rotate makes new keys. They are announced, and count when the overlap is
// over; a second rotation before that renews the announcement. An overlap of
// zero puts them into place at once.
func (h *HostKeys) Rotate(overlap time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	failed := func(err error) error { return faas.Errorf(faas.KindInternal, "rotate the SSH host keys: %w", err) }
	var made []ssh.Signer
	for _, kind := range hostTypes {
		key, err := Generate(kind, 0)
		if err != nil {
			return failed(err)
		}
		if err := writePrivate(h.path(nextPrefix, kind), key, ""); err != nil {
			return failed(err)
		}
		signer, err := ssh.NewSignerFromSigner(key)
		if err != nil {
			return failed(err)
		}
		made = append(made, signer)
	}
	at := time.Now().Add(overlap).UTC()
	content, err := json.Marshal(announced{SwitchAt: at})
	if err == nil {
		err = writeFile(filepath.Join(h.dir, switchFile), content)
	}
	if err != nil {
		return failed(err)
	}
	h.next, h.switchAt = made, at
	return h.advanceLocked(time.Now())
}

// HostKey is one host key as others see it.
type HostKey struct {
	Type        string     `json:"type"`
	Fingerprint string     `json:"fingerprint"`
	PublicKey   string     `json:"public_key"`
	CountsFrom  *time.Time `json:"counts_from,omitempty"` // of one that is announced
}

// Published describes the current keys and those that are announced.
func (h *HostKeys) Published() []HostKey {
	current := len(h.Current())
	var list []HostKey
	h.mu.Lock()
	switchAt := h.switchAt
	h.mu.Unlock()
	for i, signer := range h.All() {
		key := HostKey{
			Type: signer.PublicKey().Type(), Fingerprint: ssh.FingerprintSHA256(signer.PublicKey()), PublicKey: Line(signer.PublicKey(), ""),
		}
		if i >= current && !switchAt.IsZero() {
			key.CountsFrom = &switchAt
		}
		list = append(list, key)
	}
	return list
}

// KnownHosts returns the lines of a known_hosts file for names of the host:
// an alias, or host:port. Each line ends with a newline.
func (h *HostKeys) KnownHosts(names ...string) string {
	for i, name := range names {
		if _, _, err := net.SplitHostPort(name); err == nil {
			names[i] = knownhosts.Normalize(name)
		}
	}
	var lines strings.Builder
	for _, signer := range h.All() {
		lines.WriteString(knownhosts.Line(names, signer.PublicKey()) + "\n")
	}
	return lines.String()
}
