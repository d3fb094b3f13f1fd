// Package networktest makes small networks in the kernel for tests: a world
// that a sandbox may reach, and a machine of its own for a test that must not
// meddle with the real one's. It needs root on Linux.
package networktest
