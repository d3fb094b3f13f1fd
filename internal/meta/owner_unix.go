//go:build unix

package meta

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxOwner bounds what is read of a lock file, in bytes.
const maxOwner = 256

// signOwner notes in a lock file which process holds it.
func signOwner(lock *os.File) error {
	_, err := fmt.Fprintf(lock, "%d %s\n", os.Getpid(), processSpace())
	return err
}

// ownerEnded says that the process that signed a lock file has certainly
// ended, although its lock may still be held: by a process that it was
// starting when it was killed, and which has a copy of everything that its
// parent had open until it executes its program.
func ownerEnded(lock *os.File) bool {
	b, err := io.ReadAll(io.NewSectionReader(lock, 0, maxOwner))
	if err != nil {
		return false
	}
	var pid int
	var space string
	n, _ := fmt.Sscanf(string(b), "%d %s\n", &pid, &space) // the space may be empty
	if n == 0 || pid <= 0 || space != processSpace() {
		return false
	}
	return errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// processSpace names that in which this process's number means something;
// empty where there is one only.
func processSpace() string {
	space, _ := os.Readlink("/proc/self/ns/pid") // not there: one only
	return space
}
