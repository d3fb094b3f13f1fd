//go:build !linux

package main

import "github.com/faas-platform/faas"

// Run implements the command.
func (c *installKernelCommand) Run(*commands) error {
	return faas.Unavailable("microVMs run beside Linux's control groups", "use the docker runtime here")
}
