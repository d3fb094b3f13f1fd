package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// decodeBody reads a JSON object into a struct of package api by the tags that
// describe it: json names the fields, of which those without omitempty are
// required; enum, minimum, maximum, minLength, maxLength, minItems and maxItems
// bound them as the OpenAPI document says; alias names the field that says the
// same, into which the value goes. A field that is null is absent. The error
// names every field that was refused and why.
func decodeBody(raw []byte, into any) error {
	d := &bodyDecoder{}
	if err := d.object(raw, reflect.ValueOf(into).Elem(), ""); err != nil {
		return err
	}
	return d.errs.orNil()
}

type bodyDecoder struct{ errs inputError }

// bodyField is one field of a body.
type bodyField struct {
	name     string
	index    []int
	tag      reflect.StructTag
	required bool
	alias    string // the field that says the same
}

// bodyShapes are the fields of every type that was decoded.
var bodyShapes sync.Map // reflect.Type → []bodyField

// bodyFields lists the fields of a struct, those of embedded structs included.
func bodyFields(t reflect.Type) []bodyField {
	if known, ok := bodyShapes.Load(t); ok {
		return known.([]bodyField) //nolint:forcetypeassert // nothing else is stored
	}
	var fields []bodyField
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "-" || name == "" {
			continue
		}
		fields = append(fields, bodyField{
			name: name, index: f.Index, tag: f.Tag, alias: f.Tag.Get("alias"),
			required: !slices.Contains(strings.Split(options, ","), "omitempty"),
		})
	}
	bodyShapes.Store(t, fields)
	return fields
}

// object decodes an object into a struct; path is where it stands, "" for the
// body itself. The error is for what is no object at all.
func (d *bodyDecoder) object(raw []byte, into reflect.Value, path string) error {
	fields := bodyFields(into.Type())
	given := map[string]bool{}
	before := len(d.errs.fields)
	err := eachField(raw, func(name string, raw json.RawMessage) {
		at := path + name
		i := slices.IndexFunc(fields, func(f bodyField) bool { return f.name == name })
		switch {
		case d.errs.full():
		case i < 0:
			d.errs.unknown(at, nearest(name, fieldNames(fields)))
		case given[name]:
			d.errs.add(at, "is given twice")
		case string(raw) != "null":
			given[name] = true
			d.value(raw, into.FieldByIndex(fields[i].index), fields[i].tag, at)
		}
	})
	if err != nil {
		return err
	}
	if len(d.errs.fields) > before {
		return nil // what is missing is not the first thing to say
	}
	d.aliases(into, fields, given, path)
	for _, f := range fields {
		if f.required && !given[f.name] {
			d.errs.add(path+f.name, "is required")
		}
	}
	return nil
}

// aliases moves what aliases say into the fields that they stand for.
func (d *bodyDecoder) aliases(into reflect.Value, fields []bodyField, given map[string]bool, path string) {
	for _, f := range fields {
		if f.alias == "" || !given[f.name] {
			continue
		}
		i := slices.IndexFunc(fields, func(other bodyField) bool { return other.name == f.alias })
		to := into.FieldByIndex(fields[i].index)
		from := into.FieldByIndex(f.index).Convert(to.Type())
		if given[f.alias] && !reflect.DeepEqual(to.Interface(), from.Interface()) {
			d.errs.add(path+f.name, "contradicts "+f.alias)
			continue
		}
		to.Set(from)
		given[f.alias] = true
	}
}

// value decodes one value and holds it to its tags.
func (d *bodyDecoder) value(raw json.RawMessage, into reflect.Value, tag reflect.StructTag, path string) {
	if into.Kind() == reflect.Pointer {
		into.Set(reflect.New(into.Type().Elem()))
		d.value(raw, into.Elem(), tag, path)
		return
	}
	_, own := into.Addr().Interface().(json.Unmarshaler)
	switch {
	case own:
		if err := json.Unmarshal(raw, into.Addr().Interface()); err != nil {
			d.errs.add(path, err.Error())
			return
		}
	case into.Kind() == reflect.Struct:
		if err := d.object(raw, into, path+"."); err != nil {
			d.errs.add(path, "must be an object")
		}
		return
	case into.Kind() == reflect.Slice && into.Type().Elem().Kind() == reflect.Struct:
		if !d.list(raw, into, path) {
			return
		}
	default:
		if json.Unmarshal(raw, into.Addr().Interface()) != nil {
			d.errs.add(path, "must be "+kindText(into.Type()))
			return
		}
	}
	if err := checkTags(into, tag); err != nil {
		d.errs.add(path, err.Error())
	}
}

// list decodes an array of objects.
func (d *bodyDecoder) list(raw json.RawMessage, into reflect.Value, path string) bool {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		d.errs.add(path, "must be an array of objects")
		return false
	}
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	for i, item := range items {
		d.value(item, into.Index(i), "", path+"["+strconv.Itoa(i)+"]")
	}
	return true
}

// kindText says what a type looks like in JSON.
func kindText(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Map:
		return "an object whose values are each " + kindText(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "standard base64"
		}
		return "an array, each of its items " + kindText(t.Elem())
	default:
		return "another type"
	}
}

// checkTags holds a value to what its field's tags promise.
func checkTags(v reflect.Value, tag reflect.StructTag) error {
	switch v.Kind() {
	case reflect.String:
		return checkText(v.String(), tag)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return checkNumber(float64(v.Int()), tag)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return checkNumber(float64(v.Uint()), tag)
	case reflect.Float32, reflect.Float64:
		return checkNumber(v.Float(), tag)
	case reflect.Slice:
		if low, ok := numberTag(tag, "minItems"); ok && float64(v.Len()) < low {
			return fmt.Errorf("needs at least %v items", low)
		}
		if high, ok := numberTag(tag, "maxItems"); ok && float64(v.Len()) > high {
			return fmt.Errorf("must not have more than %v items", high)
		}
	default:
	}
	return nil
}

func checkText(text string, tag reflect.StructTag) error {
	if strings.ContainsRune(text, 0) {
		return errors.New("must not contain NUL")
	}
	if words := tag.Get("enum"); words != "" && !slices.Contains(strings.Split(words, ","), text) {
		return fmt.Errorf("must be one of %s", strings.ReplaceAll(words, ",", ", "))
	}
	if low, ok := numberTag(tag, "minLength"); ok && float64(len(text)) < low {
		return errors.New("must not be empty")
	}
	if high, ok := numberTag(tag, "maxLength"); ok && float64(len(text)) > high {
		return fmt.Errorf("must not be longer than %v bytes", high)
	}
	return nil
}

func checkNumber(n float64, tag reflect.StructTag) error {
	if low, ok := numberTag(tag, "minimum"); ok && n < low {
		return fmt.Errorf("must be at least %v", low)
	}
	if high, ok := numberTag(tag, "maximum"); ok && n > high {
		return fmt.Errorf("must be at most %v", high)
	}
	if low, ok := numberTag(tag, "exclusiveMinimum"); ok && n <= low {
		return fmt.Errorf("must be above %v", low)
	}
	return nil
}

func numberTag(tag reflect.StructTag, name string) (float64, bool) {
	text, ok := tag.Lookup(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

func fieldNames(fields []bodyField) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// nearest returns the field that a misspelt name may have meant, "" when none
// is near.
func nearest(name string, fields []string) string {
	best, found := math.MaxInt, ""
	for _, field := range slices.Sorted(slices.Values(fields)) {
		if d := distance(name, field); d < best {
			best, found = d, field
		}
	}
	if best > 2 || best >= len(name) {
		return ""
	}
	return found
}

// distance counts the letters to change, add or drop between two names; long
// ones are far from everything.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
