package binary

import (
	"os"
	"testing"
)

// What the build noted is what hashing gives.
func TestNotedDigests(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		b, err := Bytes(arch)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := AgentDigest(arch); err != nil || got != Digest(b) {
			t.Errorf("%s: %s, %v, want %s", arch, got, err, Digest(b))
		}
	}
}

func TestInstallOnce(t *testing.T) {
	dir := t.TempDir()
	path, digest, err := Install(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || Digest(content) != digest || first.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", first.Mode(), err)
	}
	if _, _, err := Install(dir); err != nil {
		t.Fatal(err)
	}
	if second, err := os.Stat(path); err != nil || !os.SameFile(first, second) {
		t.Errorf("an installed agent was replaced: %v", err)
	}
}

// A sandbox of every size has one: what it weighs is a promise.
func TestAgentIsSmall(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		if b, err := Bytes(arch); err != nil || len(b) >= 6_000_000 {
			t.Errorf("%s: %d bytes, %v", arch, len(b), err)
		}
	}
}

func BenchmarkInstall(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		if _, _, err := Install(dir); err != nil {
			b.Fatal(err)
		}
	}
}
