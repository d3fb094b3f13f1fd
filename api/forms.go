package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/faas-platform/faas"
)

// Types of fields that take more than one form on the wire. They encode as the
// first of them.

// Variables is an environment: an object, or an array of [name, value] pairs.
type Variables map[string]string

// UnmarshalJSON accepts both forms.
func (v *Variables) UnmarshalJSON(raw []byte) error {
	wrong := errors.New("must be an object of strings or an array of [name, value] pairs")
	var object map[string]string
	if bytes.HasPrefix(raw, []byte("{")) && json.Unmarshal(raw, &object) == nil {
		*v = object
		return nil
	}
	var list [][]string
	if json.Unmarshal(raw, &list) != nil {
		return wrong
	}
	object = make(map[string]string, len(list))
	for _, pair := range list {
		if len(pair) != 2 {
			return wrong
		}
		if _, again := object[pair[0]]; again {
			return fmt.Errorf("%q is given twice", pair[0])
		}
		object[pair[0]] = pair[1]
	}
	*v = object
	return nil
}

// Network says what a sandbox may reach: an object, or the bare mode as a
// string.
type Network faas.NetworkPolicy

// UnmarshalJSON accepts both forms.
func (n *Network) UnmarshalJSON(raw []byte) error {
	*n = Network{}
	if bytes.HasPrefix(raw, []byte(`"`)) {
		return json.Unmarshal(raw, &n.Mode)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode((*faas.NetworkPolicy)(n)); err != nil {
		if unknown, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return errors.New("there is no such field in it: " + unknown)
		}
		return errors.New(`must be {"mode": "none"}, {"mode": "egress", "allow": [CIDR …]} or the mode as a string`)
	}
	return nil
}

// Policy returns the network as the domain's own type; nil stays nil.
func (n *Network) Policy() *faas.NetworkPolicy { return (*faas.NetworkPolicy)(n) }

// Bytes is binary content: standard base64, or an array of numbers from 0 to
// 255.
type Bytes []byte

// UnmarshalJSON accepts both forms.
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	wrong := errors.New("must be standard base64 or an array of bytes, 0 to 255")
	if bytes.HasPrefix(raw, []byte(`"`)) {
		var content []byte
		if json.Unmarshal(raw, &content) != nil {
			return wrong
		}
		*b = content
		return nil
	}
	var numbers []uint16 // not bytes: those encoding/json reads as base64
	if json.Unmarshal(raw, &numbers) != nil {
		return wrong
	}
	content := make([]byte, len(numbers))
	for i, n := range numbers {
		if n > math.MaxUint8 {
			return wrong
		}
		content[i] = byte(n)
	}
	*b = content
	return nil
}
