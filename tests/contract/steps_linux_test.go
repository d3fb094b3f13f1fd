package contract

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// step is one step of a scenario. Exactly one of the first group says what is
// done.
type step struct {
	Call    string          `json:"call"`
	Stream  string          `json:"stream"`
	List    string          `json:"list"`
	Cancel  string          `json:"cancel"`
	Until   string          `json:"until"`
	Faults  json.RawMessage `json:"faults"`
	Metrics map[string]any  `json:"metrics"`
	Events  []any           `json:"events"`

	On     string         `json:"on"` // the value whose method it is
	Args   map[string]any `json:"args"`
	Client *struct {
		APIKey     string `json:"api_key"`
		MaxRetries *int   `json:"max_retries"`
		TimeoutMS  int    `json:"timeout_ms"`
	} `json:"client"`
	Limit      int `json:"limit"`
	AfterMS    int `json:"after_ms"`
	InputBytes int `json:"input_bytes"`

	As           string `json:"as"`
	Expect       any    `json:"expect"`
	ExpectAny    any    `json:"expect_any"`
	ExpectEvents []any  `json:"expect_events"`
	Count        *int   `json:"count"`
	Written      *int   `json:"written"`
	Error        *struct {
		Code  string `json:"code"` // or several, separated by |
		Field string `json:"field"`
	} `json:"error"`
}

// check compares what was got with what is wanted: of objects the named
// fields, "*" for anything that is not empty.
func check(want, got any, where string) error {
	switch w := want.(type) {
	case map[string]any:
		for key, inner := range w {
			if err := check(inner, entry(got, key), where+"."+key); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for i, inner := range w {
			if err := check(inner, entry(got, strconv.Itoa(i)), fmt.Sprintf("%s.%d", where, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if want == "*" && (got == nil || got == "") || want != "*" && want != got {
		return fmt.Errorf("%s is %v, not %v", where, got, want)
	}
	return nil
}

// entry is one field or element of a value of JSON; nil when there is none.
func entry(value any, key string) any {
	switch v := value.(type) {
	case map[string]any:
		return v[key]
	case []any:
		if i, err := strconv.Atoi(key); err == nil && i < len(v) {
			return v[i]
		}
	}
	return nil
}

// plain turns a value into what JSON makes of it.
func plain(value any) (any, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var decoded any
	return decoded, json.Unmarshal(encoded, &decoded)
}

// fill puts the values of earlier steps where $NAME.PATH stands.
func fill(value any, values map[string]any) any {
	switch v := value.(type) {
	case map[string]any:
		filled := map[string]any{}
		for key, inner := range v {
			filled[key] = fill(inner, values)
		}
		return filled
	case []any:
		filled := make([]any, len(v))
		for i, inner := range v {
			filled[i] = fill(inner, values)
		}
		return filled
	case string:
		path := strings.Split(strings.TrimPrefix(v, "$"), ".")
		if found, ok := values[path[0]]; ok && strings.HasPrefix(v, "$") {
			for _, key := range path[1:] {
				found = entry(found, key)
			}
			return found
		}
		return strings.ReplaceAll(v, "$run", fmt.Sprint(values["run"]))
	}
	return value
}

// known says whether the Go SDK has what the scenario calls: instances,
// snapshots, branches, forks and keys come with their routes' own clients.
func (s scenario) known() bool {
	for _, step := range s.Steps {
		area, _, _ := strings.Cut(step.Call+step.List, ".")
		if step.On != "" || slices.Contains([]string{"instances", "snapshots", "branches", "keys", "ssh_keys", "fork", "fork_execution"}, area) {
			return false
		}
	}
	return true
}
