package gateway

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// describeForms tells the registry what the types of package api look like
// that take more than one form.
func describeForms(registry huma.Registry) {
	registry.RegisterTypeAlias(reflect.TypeFor[api.Variables](), reflect.TypeFor[variablesForm]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Network](), reflect.TypeFor[networkForm]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Bytes](), reflect.TypeFor[bytesForm]())
}

func stringForm() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }

func listOf(of *huma.Schema) *huma.Schema { return &huma.Schema{Type: huma.TypeArray, Items: of} }

type variablesForm struct{}

func (*variablesForm) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeObject, AdditionalProperties: stringForm()}, listOf(listOf(stringForm())),
	}}
}

type networkForm struct{}

func (*networkForm) Schema(r huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{
		r.Schema(reflect.TypeFor[faas.NetworkPolicy](), true, "NetworkPolicy"),
		{Type: huma.TypeString, Enum: []any{faas.NetworkNone, faas.NetworkEgress}},
	}}
}

type bytesForm struct{}

func (*bytesForm) Schema(huma.Registry) *huma.Schema {
	low, high := 0.0, 255.0
	return &huma.Schema{OneOf: []*huma.Schema{
		{Type: huma.TypeString, ContentEncoding: "base64"},
		listOf(&huma.Schema{Type: huma.TypeInteger, Minimum: &low, Maximum: &high}),
	}}
}
