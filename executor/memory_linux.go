package executor

import "golang.org/x/sys/unix"

// totalMemoryMB is the machine's memory in MiB, 0 when it cannot be told.
func totalMemoryMB() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit) >> 20)
}
