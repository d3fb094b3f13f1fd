package oci

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onOwnThread runs f on a thread of its own that ends with it, so that f may
// change the thread's namespaces. It is never the process's first thread,
// whose namespaces stand for the process's in /proc.
func onOwnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the first thread, the next one gets
			// another.
			err := onOwnThread(f)
			runtime.UnlockOSThread()
			result <- err
			return
		}
		result <- f() // never unlocked: the thread ends with the goroutine
	}()
	return <-result
}
