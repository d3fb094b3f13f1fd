package main

import (
	"os"

	"github.com/faas-platform/faas/internal/gateway"
)

type openapiCommand struct{}

// Run implements the command. api/openapi.yaml is its output.
func (c *openapiCommand) Run() error {
	gate, err := gateway.New(gateway.Options{})
	if err != nil {
		return err
	}
	defer gate.Close()
	text, err := gate.OpenAPI()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
