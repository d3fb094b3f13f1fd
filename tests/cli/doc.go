// Package cli holds the end-to-end tests of the real binary: each file of
// testdata is a script for testscript, run with directories of its own.
package cli
