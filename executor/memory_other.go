//go:build !linux

package executor

// totalMemoryMB is the machine's memory in MiB, 0 when it cannot be told.
func totalMemoryMB() int64 { return 0 }

// availableMemoryMB cannot be told here.
func availableMemoryMB() (mb int64, ok bool) { return 0, false }
