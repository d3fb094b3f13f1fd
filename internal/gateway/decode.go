package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// maxTimeout bounds timeout_ms: longer work belongs into an instance.
const maxTimeout = 7 * 24 * time.Hour

// execution is a decoded request with what its aliases said.
type execution struct {
	req     faas.Request
	command api.Command
	given   map[string]string // meaning → the field that said it first
	input   []byte            // standard input
	errs    inputError
}

// field decodes one field of an execute request.
type field func(e *execution, name string, raw json.RawMessage) error

// executeFields is every field that POST /api/v1/execute knows; a test holds
// it to api.ExecuteRequest.
var executeFields = map[string]field{
	"command":        (*execution).commandField,
	"image":          text(func(e *execution) *string { return &e.req.Image }),
	"runtime":        oneOf(append(faas.Runtimes(), faas.RuntimeAuto), func(e *execution) *faas.Runtime { return &e.req.Runtime }),
	"mode":           oneOf(modes, func(e *execution) *faas.Mode { return &e.req.Mode }),
	"stdin":          (*execution).stdin,
	"stdin_base64":   (*execution).stdinBase64,
	"payload":        (*execution).payload,
	"env_vars":       (*execution).environment,
	"env":            (*execution).environment,
	"working_dir":    (*execution).workingDir,
	"user":           text(func(e *execution) *string { return &e.req.User }),
	"files":          (*execution).files,
	"timeout_ms":     duration(time.Millisecond, (*execution).setTimeout),
	"timeout_secs":   duration(time.Second, (*execution).setTimeout),
	"cpu_cores":      (*execution).cpuCores,
	"memory_mb":      size(func(e *execution) *int64 { return &e.req.Resources.MemoryMB }),
	"disk_mb":        size(func(e *execution) *int64 { return &e.req.Resources.DiskMB }),
	"pids":           size(func(e *execution) *int64 { return &e.req.Resources.PIDs }),
	"network":        (*execution).network,
	"cache_key":      text(func(e *execution) *string { return &e.req.CacheKey }),
	"cache_ttl_ms":   duration(time.Millisecond, func(e *execution, _ string, d time.Duration) error { e.req.CacheTTL = d; return nil }),
	"cache_failures": (*execution).cacheFailures,
	"snapshot_id":    (*execution).snapshot,
	"checkpoint_id":  (*execution).snapshot,
	"branch_from":    text(func(e *execution) *string { return &e.req.BranchFrom }),
	"allow_degraded": (*execution).allowDegraded,
	"entropy":        oneOf([]faas.Entropy{faas.EntropyReport, faas.EntropyStrict}, func(e *execution) *faas.Entropy { return &e.req.Entropy }),
	"labels":         (*execution).labels,
}

// Fields of routes that run a command in what is there already.
var (
	execFields         = fieldNames(bodyFields(reflect.TypeFor[api.ExecRequest]()))
	snapshotExecFields = fieldNames(bodyFields(reflect.TypeFor[api.SnapshotExecRequest]()))
)

var modes = []faas.Mode{faas.ModeEphemeral, faas.ModeCached, faas.ModeCheckpointed, faas.ModeBranched, faas.ModePersistent}

// decodeExecute reads the body of an execute request. Its error names every
// field that was refused and why.
func decodeExecute(body []byte) (*execution, error) {
	return decodeExecuteWith(body, nil, nil)
}

// decodeExecuteWith takes further fields besides and, when only is not nil,
// just those of the usual ones.
func decodeExecuteWith(body []byte, extra map[string]func(json.RawMessage) error, only []string) (*execution, error) {
	e := &execution{given: map[string]string{}}
	seen := make(map[string]bool, 8)
	err := eachField(body, func(name string, raw json.RawMessage) {
		if seen[name] {
			e.errs.add(name, "is given twice")
			return
		}
		seen[name] = true
		decode, known := executeFields[name]
		other, also := extra[name]
		var err error
		switch {
		case e.errs.full():
		case known && only != nil && !slices.Contains(only, name):
			err = errors.New("cannot be chosen here: it is what the command runs in")
		case !known && !also:
			e.errs.unknown(name, nearest(name, slices.Collect(maps.Keys(executeFields))))
		case string(raw) == "null":
		case also:
			err = other(raw)
		default:
			err = decode(e, name, raw)
		}
		if err != nil {
			e.errs.add(name, err.Error())
		}
	})
	if err != nil {
		return nil, err
	}
	e.req.Command = e.command.Argv()
	if len(e.req.Command) == 0 && !slices.ContainsFunc(e.errs.fields, func(f api.FieldError) bool { return f.Field == "command" }) {
		e.errs.add("command", "is required")
	}
	if e.input != nil {
		e.req.Stdin = bytes.NewReader(e.input)
	}
	return e, e.errs.orNil()
}

// eachField walks the fields of a JSON object in their order.
func eachField(body []byte, visit func(name string, raw json.RawMessage)) error {
	refuse := func(err error) error {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too early")
		}
		return faas.InvalidField("body", "is not a JSON object: %v", err)
	}
	if !utf8.Valid(body) {
		return refuse(errors.New("it is not UTF-8"))
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	start, err := decoder.Token()
	if err != nil {
		return refuse(err)
	}
	if start != json.Delim('{') {
		return refuse(errors.New("it begins with something else"))
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return refuse(err)
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return refuse(err)
		}
		visit(name.(string), raw) //nolint:forcetypeassert // a decoder gives only strings as keys
	}
	if _, err := decoder.Token(); err != nil {
		return refuse(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return refuse(errors.New("something follows it"))
	}
	return nil
}

// once notes that a meaning was given by a field, and refuses a second field
// that says something else.
func (e *execution) once(meaning, name string, agrees func() bool) (first bool, err error) {
	before, again := e.given[meaning]
	if !again {
		e.given[meaning] = name
		return true, nil
	}
	if !agrees() {
		return false, fmt.Errorf("contradicts %s", before)
	}
	return false, nil
}

func (e *execution) commandField(_ string, raw json.RawMessage) error {
	if err := json.Unmarshal(raw, &e.command); err != nil {
		return errors.New("must be a string or an array of strings")
	}
	argv := e.command.Argv()
	if len(argv) == 0 || argv[0] == "" {
		return errors.New("must not be empty")
	}
	if slices.ContainsFunc(argv, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		return errors.New("must not contain NUL")
	}
	return nil
}

func (e *execution) setInput(name string, input []byte) error {
	first, err := e.once("standard input", name, func() bool { return bytes.Equal(e.input, input) })
	if first {
		e.input = input
	}
	return err
}

func (e *execution) stdin(name string, raw json.RawMessage) error {
	var input string
	if err := json.Unmarshal(raw, &input); err != nil {
		return errors.New("must be a string")
	}
	return e.setInput(name, []byte(input))
}

func (e *execution) stdinBase64(name string, raw json.RawMessage) error {
	var input []byte
	if raw[0] != '"' || json.Unmarshal(raw, &input) != nil {
		return errors.New("must be standard base64")
	}
	return e.setInput(name, input)
}

func (e *execution) payload(name string, raw json.RawMessage) error {
	var input api.Bytes
	if raw[0] == '"' || input.UnmarshalJSON(raw) != nil {
		return errors.New("must be an array of bytes, 0 to 255")
	}
	return e.setInput(name, input)
}

func (e *execution) environment(name string, raw json.RawMessage) error {
	var env api.Variables
	if err := env.UnmarshalJSON(raw); err != nil {
		return err
	}
	for variable, value := range env {
		if variable == "" || strings.ContainsAny(variable, "=\x00") || strings.ContainsRune(value, 0) {
			return fmt.Errorf("%q is not a variable: names are not empty and hold no =, and neither names nor values hold NUL", variable)
		}
	}
	first, err := e.once("environment", name, func() bool { return maps.Equal(e.req.Env, map[string]string(env)) })
	if first {
		e.req.Env = env
	}
	return err
}

func (e *execution) workingDir(_ string, raw json.RawMessage) error {
	if json.Unmarshal(raw, &e.req.WorkingDir) != nil || !path.IsAbs(e.req.WorkingDir) || strings.ContainsRune(e.req.WorkingDir, 0) {
		return errors.New("must be an absolute path")
	}
	return nil
}

func (e *execution) files(_ string, raw json.RawMessage) error {
	var contents map[string]json.RawMessage
	if json.Unmarshal(raw, &contents) != nil {
		return errors.New("must be an object of path to content")
	}
	e.req.Files = make(map[string][]byte, len(contents))
	for name, content := range contents {
		if name == "" || strings.HasSuffix(name, "/") || strings.ContainsRune(name, 0) {
			return fmt.Errorf("%q is not the path of a file", name)
		}
		var file api.File
		if err := file.UnmarshalJSON(content); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.req.Files[name] = file
	}
	return nil
}

func (e *execution) setTimeout(name string, timeout time.Duration) error {
	if timeout > maxTimeout {
		return fmt.Errorf("must be at most %v", maxTimeout)
	}
	first, err := e.once("time-out", name, func() bool { return e.req.Timeout == timeout })
	if first {
		e.req.Timeout = timeout
	}
	return err
}

func (e *execution) cpuCores(_ string, raw json.RawMessage) error {
	var cores float64
	if json.Unmarshal(raw, &cores) != nil || cores <= 0 || cores > 4096 {
		return errors.New("must be a number above 0 and at most 4096")
	}
	e.req.Resources.CPUCores = cores
	return nil
}

func (e *execution) network(_ string, raw json.RawMessage) error {
	var network api.Network
	if err := network.UnmarshalJSON(raw); err != nil {
		return err
	}
	policy := *network.Policy()
	if err := checkNetwork(policy); err != nil {
		return err
	}
	e.req.Network = policy
	return nil
}

func (e *execution) snapshot(name string, raw json.RawMessage) error {
	var id string
	if json.Unmarshal(raw, &id) != nil {
		return errors.New("must be a string")
	}
	first, err := e.once("snapshot", name, func() bool { return e.req.SnapshotID == id })
	if first {
		e.req.SnapshotID = id
	}
	return err
}

func (e *execution) allowDegraded(_ string, raw json.RawMessage) error {
	if json.Unmarshal(raw, &e.req.AllowDegraded) != nil {
		return errors.New("must be true or false")
	}
	return nil
}

func (e *execution) cacheFailures(_ string, raw json.RawMessage) error {
	if json.Unmarshal(raw, &e.req.CacheFailures) != nil {
		return errors.New("must be true or false")
	}
	return nil
}

func (e *execution) labels(_ string, raw json.RawMessage) error {
	if json.Unmarshal(raw, &e.req.Labels) != nil {
		return errors.New("must be an object of strings")
	}
	return nil
}

// text decodes a string.
func text(into func(*execution) *string) field {
	return func(e *execution, _ string, raw json.RawMessage) error {
		target := into(e)
		if json.Unmarshal(raw, target) != nil || strings.ContainsRune(*target, 0) {
			return errors.New("must be a string without NUL")
		}
		return nil
	}
}

// size decodes a positive whole number.
func size(into func(*execution) *int64) field {
	return func(e *execution, _ string, raw json.RawMessage) error {
		target := into(e)
		if json.Unmarshal(raw, target) != nil || *target < 1 || *target > math.MaxInt64>>20 {
			return errors.New("must be a whole number, at least 1")
		}
		return nil
	}
}

// duration decodes a positive number of units.
func duration(unit time.Duration, set func(*execution, string, time.Duration) error) field {
	return func(e *execution, name string, raw json.RawMessage) error {
		var count float64
		if json.Unmarshal(raw, &count) != nil || count <= 0 || count > float64(math.MaxInt64/unit) {
			return errors.New("must be a number above 0")
		}
		if unit == time.Millisecond && count != math.Trunc(count) {
			return errors.New("must be a whole number of milliseconds")
		}
		return set(e, name, time.Duration(count*float64(unit)))
	}
}

// oneOf decodes one of a closed set of words.
func oneOf[T ~string](words []T, into func(*execution) *T) field {
	return func(e *execution, _ string, raw json.RawMessage) error {
		target := into(e)
		if json.Unmarshal(raw, target) != nil || !slices.Contains(words, *target) {
			return fmt.Errorf("must be one of %s", joinWords(words))
		}
		return nil
	}
}

func joinWords[T ~string](words []T) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = string(word)
	}
	return strings.Join(all, ", ")
}
