package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/faas-platform/faas"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 1 << 20

// Loaded is a configuration with the origin of its values.
type Loaded struct {
	Config
	File    string            // the file that was read; "" when there was none
	sources map[string]string // setting → "default", "file …", "environment …", "flag …"
}

// Options says what to read.
type Options struct {
	File        string // must exist when set; otherwise the usual place may be empty
	Environment Environment
	// Flags holds settings given on the command line: the setting's name, its
	// value as text, and how the flag is called.
	Flags []Flag
}

// Flag is a setting from the command line.
type Flag struct{ Key, Value, Name string }

// Load reads the configuration. Errors are KindInvalidArgument and name the
// file and line, the variable or the flag at fault.
func Load(opts Options) (*Loaded, error) {
	l := &Loaded{Config: defaults(opts.Environment), sources: map[string]string{}}
	settings := l.settings()
	for _, s := range settings {
		l.sources[s.key] = "default"
	}
	if err := l.readFile(opts); err != nil {
		return nil, err
	}
	for _, s := range settings {
		value := opts.Environment.Getenv(s.variable())
		if value == "" {
			continue
		}
		if err := s.set(value); err != nil {
			return nil, faas.InvalidField(s.variable(), "%v", err)
		}
		l.sources[s.key] = "environment " + s.variable()
	}
	for _, flag := range opts.Flags {
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key == flag.Key })
		if i < 0 {
			return nil, faas.InvalidField(flag.Name, "there is no setting %q", flag.Key)
		}
		if err := settings[i].set(flag.Value); err != nil {
			return nil, faas.InvalidField(flag.Name, "%v", err)
		}
		l.sources[flag.Key] = "flag " + flag.Name
	}
	if err := l.Validate(); err != nil {
		return nil, l.blame(err)
	}
	return l, nil
}

// blame adds to the error of a bad value where the value came from.
func (l *Loaded) blame(err error) error {
	var e *faas.Error
	if errors.As(err, &e) {
		if source := l.sources[e.Field]; source != "" {
			e.Detail += " (from " + source + ")"
		}
	}
	return err
}

func (l *Loaded) readFile(opts Options) error {
	path := opts.File
	if path == "" {
		path = opts.Environment.Getenv("FAAS_CONFIG")
	}
	named := path != ""
	if !named {
		path = Path(opts.Environment)
	}
	content, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return nil
	case err != nil:
		return &faas.Error{Kind: faas.KindInvalidArgument, Op: "read configuration", Detail: path, Err: err}
	case len(content) > maxFileBytes:
		return faas.Errorf(faas.KindInvalidArgument, "read configuration: %s is larger than %d bytes", path, maxFileBytes)
	}
	if err := decode(content, &l.Config); err != nil {
		return faas.Errorf(faas.KindInvalidArgument, "configuration %s: %v", path, err)
	}
	l.File = path
	return l.markFile(content, path)
}

// decode parses strictly; its errors name line and setting.
func decode(content []byte, into *Config) error {
	decoder := toml.NewDecoder(bytes.NewReader(content)).DisallowUnknownFields()
	err := decoder.Decode(into)
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var all []string
		for _, e := range strict.Errors {
			row, _ := e.Position()
			all = append(all, fmt.Sprintf("line %d: there is no setting %s", row, strings.Join(e.Key(), ".")))
		}
		return errors.New(strings.Join(all, "; "))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, column := bad.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, bad)
	}
	return err
}

// markFile notes which settings the file holds.
func (l *Loaded) markFile(content []byte, path string) error {
	var present map[string]any
	if err := toml.Unmarshal(content, &present); err != nil {
		return faas.Errorf(faas.KindInvalidArgument, "configuration %s: %v", path, err)
	}
	for section, body := range present {
		if section == "pools" {
			l.sources["pools"] = "file " + path
			continue
		}
		keys, ok := body.(map[string]any)
		if !ok {
			continue
		}
		for key := range keys {
			l.sources[section+"."+key] = "file " + path
		}
	}
	return nil
}

// setting is one value of the configuration with its name.
type setting struct {
	key   string
	help  string
	field reflect.Value
}

// settings lists every value in the order of the sections.
func (l *Loaded) settings() []setting {
	var all []setting
	config := reflect.ValueOf(&l.Config).Elem()
	for section, value := range config.Fields() {
		if value.Kind() != reflect.Struct {
			continue // pools: a list, in the file only
		}
		for field, v := range value.Fields() {
			key := section.Tag.Get("toml") + "." + field.Tag.Get("toml")
			all = append(all, setting{key: key, help: field.Tag.Get("help"), field: v})
		}
	}
	return all
}

// variable is the setting's environment variable.
func (s setting) variable() string {
	return "FAAS_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// set parses a value from the environment or the command line.
func (s setting) set(text string) error {
	switch target := s.field.Addr().Interface().(type) {
	case *string:
		*target = text
	case *[]string:
		*target = nil
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*target = append(*target, part)
			}
		}
	case *bool:
		parsed, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is not true or false", text)
		}
		*target = parsed
	case *int64:
		parsed, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		*target = parsed
	case *float64:
		parsed, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*target = parsed
	case *Duration:
		return target.UnmarshalText([]byte(text))
	default:
		return fmt.Errorf("setting %s cannot be given as text", s.key)
	}
	return nil
}

// Shown is one setting for display.
type Shown struct {
	Key      string `json:"key"`
	Value    any    `json:"value"`
	Source   string `json:"source"`
	Variable string `json:"variable,omitempty"`
	Help     string `json:"help,omitempty"`
}

// secrets are settings whose values are not shown.
var secrets = []string{"api.key", "snapshots.s3_secret_key"}

// Show lists every setting with its value and where that came from. Secrets
// are not shown.
func (l *Loaded) Show() []Shown {
	var all []Shown
	for _, s := range l.settings() {
		value := s.field.Interface()
		if text, ok := value.(string); ok && text != "" && slices.Contains(secrets, s.key) {
			value = "(set, not shown)"
		}
		if list, ok := value.([]string); ok && list == nil {
			value = []string{}
		}
		all = append(all, Shown{Key: s.key, Value: value, Source: l.sources[s.key], Variable: s.variable(), Help: s.help})
	}
	pools := l.Pools
	if pools == nil {
		pools = []Pool{}
	}
	source := l.sources["pools"]
	if source == "" {
		source = "default"
	}
	return append(all, Shown{Key: "pools", Value: pools, Source: source, Help: "warm sandboxes, one [[pools]] table each"})
}
