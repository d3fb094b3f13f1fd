//go:build !unix

package main

import (
	"context"
	"os"
	"syscall"
	"time"
)

// forwarded are the signals that a command gets from us.
var forwarded = []os.Signal{os.Interrupt, syscall.SIGTERM}

func linuxNumber(s os.Signal) syscall.Signal {
	if s == syscall.SIGTERM {
		return syscall.SIGTERM
	}
	return syscall.SIGINT
}

// watchSize looks at the terminal's size now and then: nothing tells here.
func watchSize(ctx context.Context, changed func()) {
	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			changed()
		}
	}
}
