//go:build !linux

package main

import "context"

// virtualisation has no interface to ask here.
func virtualisation(context.Context) string { return "and its microVMs need Linux" }
