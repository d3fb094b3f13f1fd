// Package modes runs the five modes of execution through the real program, on
// every runtime that this machine has.
package modes
