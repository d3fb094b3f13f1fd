package config

import (
	"bytes"
	"os"
	"testing"
)

// The page of settings knows every setting.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Load(Options{Environment: Environment{Getenv: func(string) string { return "" }, Home: t.TempDir(), TempDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Show() {
		if !bytes.Contains(page, []byte("`"+s.Key+"`")) && s.Key != "pools" {
			t.Errorf("docs/configuration.md does not tell of %s: %s", s.Key, s.Help)
		}
	}
}
