package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// schema is the part of JSON Schema that the API's description uses.
type schema struct {
	Ref         string             `yaml:"$ref"`
	Type        any                `yaml:"type"` // a name, or a list of names
	Format      string             `yaml:"format"`
	Encoding    string             `yaml:"contentEncoding"`
	Description string             `yaml:"description"`
	Enum        []string           `yaml:"enum"`
	Const       string             `yaml:"const"`
	OneOf       []*schema          `yaml:"oneOf"`
	AnyOf       []*schema          `yaml:"anyOf"`
	Items       *schema            `yaml:"items"`
	Properties  map[string]*schema `yaml:"properties"`
	Required    []string           `yaml:"required"`
	Additional  additional         `yaml:"additionalProperties"`
}

// additional is false, true, or the schema of the values.
type additional struct{ of *schema }

func (a *additional) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return nil
	}
	a.of = new(schema)
	return n.Decode(a.of)
}

// kind is the schema's type without "null", and whether null is allowed.
func (s *schema) kind() (name string, nullable bool) {
	switch t := s.Type.(type) {
	case string:
		return t, false
	case []any:
		for _, each := range t {
			if each == "null" {
				nullable = true
			} else {
				name = fmt.Sprint(each)
			}
		}
	}
	return name, nullable
}

// target is the name of the schema that this one refers to, or "".
func (s *schema) target() string {
	return strings.TrimPrefix(s.Ref, "#/components/schemas/")
}

// parts are the schemas directly inside.
func (s *schema) parts() []*schema {
	all := slices.Concat(s.OneOf, s.AnyOf, slices.Collect(maps.Values(s.Properties)))
	for _, one := range []*schema{s.Items, s.Additional.of} {
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

type media struct {
	Schema *schema `yaml:"schema"`
}

type operation struct {
	RequestBody struct {
		Content map[string]media `yaml:"content"`
	} `yaml:"requestBody"`
	Responses map[string]struct {
		Content map[string]media `yaml:"content"`
	} `yaml:"responses"`
}

// document is the API's description.
type document struct {
	Components struct {
		Schemas map[string]*schema `yaml:"schemas"`
	} `yaml:"components"`
	Paths map[string]map[string]operation `yaml:"paths"`

	// The schemas that are whole bodies of requests, that clients send at all,
	// and that they receive.
	bodies, sent, received map[string]bool
}

func parse(text []byte) (*document, error) {
	doc := &document{bodies: map[string]bool{}, sent: map[string]bool{}, received: map[string]bool{}}
	if err := yaml.Unmarshal(text, doc); err != nil {
		return nil, err
	}
	for _, methods := range doc.Paths {
		for _, op := range methods {
			for _, m := range op.RequestBody.Content {
				doc.markBody(m.Schema)
			}
			for _, response := range op.Responses {
				for _, m := range response.Content {
					doc.mark(m.Schema, doc.received)
				}
			}
		}
	}
	// What no operation names is spoken over WebSockets, or kept for others.
	for name := range doc.Components.Schemas {
		if !doc.bodies[name] && !doc.sent[name] && !doc.received[name] {
			doc.mark(&schema{Ref: "#/components/schemas/" + name}, doc.received)
		}
	}
	return doc, nil
}

// markBody notes what a request's body is made of.
func (d *document) markBody(s *schema) {
	if s == nil {
		return
	}
	name := s.target()
	if name == "" {
		d.mark(s, d.sent)
		return
	}
	d.bodies[name] = true
	for _, part := range d.Components.Schemas[name].parts() {
		d.mark(part, d.sent)
	}
}

// mark notes the named schemas that s reaches.
func (d *document) mark(s *schema, in map[string]bool) {
	if s == nil {
		return
	}
	if name := s.target(); name != "" {
		if in[name] {
			return
		}
		in[name] = true
		d.mark(d.Components.Schemas[name], in)
		return
	}
	for _, part := range s.parts() {
		d.mark(part, in)
	}
}

// names returns the schemas' names in order.
func (d *document) names() []string {
	return slices.Sorted(maps.Keys(d.Components.Schemas))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
