package main

import (
	"fmt"
	"os"
)

// The agent runs inside Linux sandboxes; it is built for Windows only so that
// the whole tree is.
func serve([]string) int {
	fmt.Fprintln(os.Stderr, "faas-agent runs inside Linux sandboxes only")
	return 2
}

func connect(args []string) int { return serve(args) }
