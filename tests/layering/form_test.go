package layering

import (
	"bytes"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Names that say nothing of what is inside.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared", "lib", "pkg", "manager"}

func TestPackages(t *testing.T) {
	for _, p := range list(t, "linux", "amd64") {
		if len(p.GoFiles) > 0 && strings.TrimSpace(p.Doc) == "" {
			t.Errorf("%s has no doc comment", p.ImportPath)
		}
		for element := range strings.SplitSeq(p.path(), "/") {
			if slices.Contains(emptyNames, element) {
				t.Errorf("%s: %q says nothing of what the package is for", p.ImportPath, element)
			}
		}
	}
}

func TestGoFilesAreFormatted(t *testing.T) {
	for _, file := range sources(t) {
		if !strings.HasSuffix(file, ".go") {
			continue
		}
		have, err := os.ReadFile(filepath.Join(root(t), file))
		if os.IsNotExist(err) {
			continue // removed and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := format.Source(have)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is not formatted: run gofmt -w", file)
		}
	}
}

func TestLicence(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("LICENSE does not hold %q", want)
		}
	}
}

// url finds addresses with a host name.
var url = regexp.MustCompile(`\bhttps?://([A-Za-z0-9.-]+)`)

// ownHosts are the names that a script may contain: this very machine's.
var ownHosts = []string{"localhost", "127.0.0.1"}

// Scripts work on every machine: mirrors and registries are those that the
// machine is configured for, and no file knows where it was written.
func TestNoFileNamesAMachine(t *testing.T) {
	var places []string
	for _, place := range []string{root(t), os.Getenv("HOME"), os.Getenv("GOMODCACHE"), os.Getenv("GOCACHE")} {
		// Short ones (/root, /app) are ordinary words of Unix.
		if strings.Count(place, "/") > 2 {
			places = append(places, place)
		}
	}
	for _, file := range sources(t) {
		text, err := os.ReadFile(filepath.Join(root(t), file))
		if err != nil || bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 {
			continue // removed, a link to a directory, or not text
		}
		for _, place := range places {
			if i := bytes.Index(text, []byte(place)); i >= 0 {
				t.Errorf("%s:%d names a path of one machine: %s", file, 1+bytes.Count(text[:i], []byte("\n")), place)
			}
		}
		if !isScript(file) {
			continue
		}
		for _, found := range url.FindAllSubmatch(text, -1) {
			if !slices.Contains(ownHosts, string(found[1])) {
				t.Errorf("%s names the host %s: take addresses from the machine's own configuration", file, found[1])
			}
		}
	}
}

func isScript(file string) bool {
	return file == "Makefile" || strings.HasPrefix(file, "scripts/") || strings.HasPrefix(file, ".ci/")
}

// The program in the README is the one that builds.
func TestReadmeShowsARealProgram(t *testing.T) {
	program, err := os.ReadFile(filepath.Join(root(t), "demos/embed/main.go"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := bytes.Cut(readme, []byte("```go\n"))
	shown, _, found := bytes.Cut(shown, []byte("\n```\n"))
	if !found || !bytes.Contains(program, shown) {
		t.Error("README.md does not show the main function of demos/embed/main.go")
	}
}
