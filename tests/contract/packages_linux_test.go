package contract

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// examples are the programs that a README shows in one language.
func examples(t *testing.T, readme, language string) []string {
	t.Helper()
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, found := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
		all = append(all, string(found[1]))
	}
	if len(all) == 0 {
		t.Fatalf("%s shows no program", readme)
	}
	return all
}

// shell runs a program in a directory and returns what it wrote.
func shell(t *testing.T, env []string, dir string, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// size is how many bytes lie below a directory, or in a file.
func size(t *testing.T, path string) int64 {
	t.Helper()
	var total int64
	err := filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			info, statErr := d.Info()
			err, total = statErr, total+info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

// testPythonPackage builds the wheel, installs it into a new environment and
// runs the README's programs there.
func testPythonPackage(t *testing.T, g *gateway, python string) {
	dir := t.TempDir()
	source := filepath.Join("..", "..", "sdk", "python")
	shell(t, os.Environ(), source, python, "-m", "build", "--no-isolation", "--wheel", "--outdir", dir)
	wheel := one(t, filepath.Join(dir, "*.whl"))
	clean := filepath.Join(dir, "clean")
	shell(t, os.Environ(), dir, "python3", "-m", "venv", clean)
	shell(t, os.Environ(), dir, filepath.Join(clean, "bin", "pip"), "install", "-q", "--disable-pip-version-check", wheel)
	installed := one(t, filepath.Join(clean, "lib", "python*", "site-packages", "faas_sdk"))
	t.Logf("the wheel has %d bytes, installed %d", size(t, wheel), size(t, installed))
	for i, program := range examples(t, filepath.Join(source, "README.md"), "python") {
		t.Run(fmt.Sprint("example-", i+1), func(t *testing.T) {
			t.Log(shell(t, g.environ(), dir, filepath.Join(clean, "bin", "python"), "-c", program))
		})
	}
}

// testTypeScriptPackage packs the package, installs it into a new project and
// runs the README's programs there.
func testTypeScriptPackage(t *testing.T, g *gateway) {
	dir := t.TempDir()
	source, err := filepath.Abs(filepath.Join("..", "..", "sdk", "typescript"))
	if err != nil {
		t.Fatal(err)
	}
	shell(t, os.Environ(), source, "npm", "pack", "--silent", "--pack-destination", dir)
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type": "module"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	packed := one(t, filepath.Join(dir, "*.tgz"))
	shell(t, os.Environ(), dir, "npm", "install", "--silent", "--offline", "--no-audit", "--no-fund", packed)
	t.Logf("the package has %d bytes, installed %d", size(t, packed), size(t, filepath.Join(dir, "node_modules", "@faas-platform", "sdk")))
	for i, program := range examples(t, filepath.Join(source, "README.md"), "js") {
		t.Run(fmt.Sprint("example-", i+1), func(t *testing.T) {
			t.Log(shell(t, g.environ(), dir, "node", "--input-type=module", "-e", program))
		})
	}
}
