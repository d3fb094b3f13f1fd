package cli

import "github.com/rogpeppe/go-internal/testscript"

// terminal is not there: the scripts that need it run on Unix.
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	ts.Fatalf("there is no terminal to test with on this system")
}
