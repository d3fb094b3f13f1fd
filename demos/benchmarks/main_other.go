//go:build !linux

// Command benchmarks measures the platform beside what else runs a command in
// isolation. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "benchmarks: the figures are taken on Linux only")
	os.Exit(1)
}
