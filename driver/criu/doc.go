// Package criu drives the CRIU program through its RPC, one process for each
// operation: bounded by a context, started where its caller wants it (a
// restored tree lands in the control groups of the CRIU that restores it), its
// log read back into the error when it fails.
package criu
