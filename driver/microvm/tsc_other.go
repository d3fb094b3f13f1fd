//go:build linux && !amd64

package microvm

// tscArgument is needed on amd64 only.
func tscArgument() string { return "" }
