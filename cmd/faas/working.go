package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// workingAfter is how long work may take before it is said that it goes on.
const workingAfter = 500 * time.Millisecond

// working shows on a terminal, while work goes on, what is being done and for
// how long; the function that it returns ends that. Elsewhere it shows nothing.
func working(what string) (done func()) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func() {}
	}
	started, stop, stopped := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		timer := time.NewTimer(workingAfter)
		defer timer.Stop()
		shown := false
		for {
			select {
			case <-timer.C:
				fmt.Fprintf(os.Stderr, "\r\x1b[K%s … %.0f s", what, time.Since(started).Seconds())
				shown = true
				timer.Reset(time.Second)
			case <-stop:
				if shown {
					fmt.Fprint(os.Stderr, "\r\x1b[K")
				}
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}
