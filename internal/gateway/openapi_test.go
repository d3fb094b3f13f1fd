package gateway

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/faas-platform/faas/api"
)

var update = flag.Bool("update", false, "write api/openapi.yaml anew")

func TestOpenAPIGolden(t *testing.T) {
	gate, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	got, err := gate.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "api", "openapi.yaml")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("api/openapi.yaml is not what the handlers say: go test ./internal/gateway -run OpenAPI -update")
	}
}

// Every operation says what it does, how it fails, and shows an example.
func TestOperationsAreDescribed(t *testing.T) {
	gate, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	var spec struct {
		OpenAPI    string
		Components struct {
			Schemas map[string]json.RawMessage
		}
		Paths map[string]map[string]struct {
			OperationID string
			Summary     string
			Responses   map[string]struct {
				Description string
				Content     map[string]json.RawMessage
			}
			RequestBody *struct {
				Content map[string]struct{ Examples map[string]any }
			}
		}
	}
	if err := json.Unmarshal(gate.openapi, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.OpenAPI != "3.1.0" || len(spec.Paths) < 7 {
		t.Errorf("OpenAPI %s with %d paths", spec.OpenAPI, len(spec.Paths))
	}
	for name := range spec.Components.Schemas {
		if strings.HasPrefix(name, "Error") {
			t.Errorf("there is a second form of error: %s", name)
		}
	}
	for path, item := range spec.Paths {
		for method, op := range item {
			if op.Summary == "" || op.OperationID == "" {
				t.Errorf("%s %s has no summary or id", method, path)
			}
			for status, answer := range op.Responses {
				_, isProblem := answer.Content[problemType]
				if (status >= "400") != isProblem || answer.Description == "" {
					t.Errorf("%s %s: %s %q with %v", method, path, status, answer.Description, answer.Content)
				}
			}
			if op.Responses["500"].Description == "" {
				t.Errorf("%s %s cannot fail", method, path)
			}
			if op.RequestBody != nil {
				body, isJSON := op.RequestBody.Content["application/json"]
				if isJSON && len(body.Examples) == 0 || len(op.RequestBody.Content) == 0 {
					t.Errorf("%s %s shows no example", method, path)
				}
			}
			if path != api.PathHealth && method != "get" && op.Responses["401"].Description == "" {
				t.Errorf("%s %s needs a key and does not say so", method, path)
			}
		}
	}
}
