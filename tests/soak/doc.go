// Package soak keeps the real program under load and watches that nothing
// grows: its memory, descriptors and goroutines, and the machine's mounts,
// control groups and processes.
//
// In make test it runs for half a minute. FAAS_SOAK says how long otherwise,
// and FAAS_SOAK_RATE at which rate, in executions per second; left out, it is
// 80 % of what the machine sustains, which is measured before.
//
//	FAAS_SOAK=10m go test ./tests/soak -v -timeout 20m
package soak
