package agent

import "golang.org/x/sys/unix"

func deviceNumbers(dev uint64) (major, minor int64) {
	return int64(unix.Major(dev)), int64(unix.Minor(dev))
}
