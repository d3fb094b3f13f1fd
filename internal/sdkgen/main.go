// Command sdkgen writes what the SDKs have from the API's description, which is
// api/openapi.yaml: their types. It needs Go alone, so that whoever changes the
// API can bring the SDKs along.
//
//	go run ./internal/sdkgen           writes what changed
//	go run ./internal/sdkgen -check    says what would change, and fails
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// output is one generated file, by path below the root of the repository.
type output struct {
	path    string
	content []byte
}

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a file is not as it would be written")
	root := flag.String("root", ".", "directory of the repository")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "sdkgen:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	outputs, err := generate(root)
	if err != nil {
		return err
	}
	stale := 0
	for _, o := range outputs {
		path := filepath.Join(root, o.path)
		have, err := os.ReadFile(path)
		if err == nil && bytes.Equal(have, o.content) {
			continue
		}
		stale++
		if check {
			fmt.Fprintf(os.Stderr, "%s is not what its source says: run scripts/generate\n", o.path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, o.content, 0o644); err != nil {
			return err
		}
	}
	if check && stale > 0 {
		return fmt.Errorf("%d generated files are out of date", stale)
	}
	return nil
}

// generate returns every generated file.
func generate(root string) ([]output, error) {
	text, err := os.ReadFile(filepath.Join(root, "api", "openapi.yaml"))
	if err != nil {
		return nil, err
	}
	doc, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("api/openapi.yaml: %w", err)
	}
	outputs := []output{
		{"sdk/python/src/faas_sdk/models.py", pythonModels(doc)},
		{"sdk/typescript/src/types.ts", typeScriptTypes(doc)},
	}
	return outputs, nil
}
