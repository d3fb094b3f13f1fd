// Package cgroup limits and measures process trees through the kernel's
// control groups, by their plain files: version 1, version 2 and machines that
// have both.
//
// A Tree is the place below which this installation makes its groups: faas/
// at the top of each hierarchy for root, faas/ below the highest group that
// was delegated to the user for everyone else. A Group is one sandbox's part
// of it, one directory per controller in version 1 and one in all in version
// 2. The package starts no processes and holds nothing open.
package cgroup

// Limits bounds one group. A zero field sets no limit.
type Limits struct {
	CPUCores    float64
	MemoryBytes int64 // swap is not given on top of it
	PIDs        int64
}

// Stats is what a group has consumed. What its controllers cannot tell is 0.
type Stats struct {
	CPUMS          int64
	MemoryBytes    int64
	MaxMemoryBytes int64
	PIDs           int64
	OOMKills       int64 // processes killed for want of memory
	PIDsRefused    int64 // forks refused by the pids limit
}

// Controller names one resource that a Tree may be able to limit.
type Controller string

// The controllers that sandboxes use. Freezer and Accounting are part of
// every version 2 group.
const (
	CPU        Controller = "cpu"
	Memory     Controller = "memory"
	PIDs       Controller = "pids"
	Freezer    Controller = "freezer"
	Accounting Controller = "cpuacct"
)
