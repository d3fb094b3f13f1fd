package contract

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What one language has, and why the other has none.
var only = map[string]string{
	"client.with_options":    "TypeScript takes options with each call",
	"instance.to_json":       "TypeScript's is toJSON, which JSON.stringify calls",
	"instance.to_j_s_o_n":    "see to_json",
	"client.on":              "Python takes callbacks when the client is made",
	"running_command.aclose": "the async client's close",
}

// A method that Python has TypeScript has too, under its own convention, and
// the other way round.
func TestSurface(t *testing.T) {
	python, entry := pythonOf(t), typeScriptOf()
	if python.missing != "" || entry.missing != "" {
		t.Skip(python.missing + entry.missing)
	}
	env := append(os.Environ(), "PYTHONPATH="+filepath.Join("..", "..", "sdk", "python", "src"))
	of := map[string][]string{
		"python":     strings.Fields(shell(t, env, ".", python.program, "testdata/surface.py")),
		"typescript": strings.Fields(shell(t, env, ".", "node", "testdata/surface.mjs", entry.program)),
	}
	for has, misses := range map[string]string{"python": "typescript", "typescript": "python"} {
		if len(of[has]) < 50 {
			t.Errorf("%s shows %d methods only", has, len(of[has]))
		}
		for _, method := range of[has] {
			if only[method] == "" && !slices.Contains(of[misses], method) {
				t.Errorf("%s has %s, and %s has not", has, method, misses)
			}
		}
	}
}
