//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// forwarded are the signals that a command gets from us.
var forwarded = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// linuxNumber returns the signal's number, which for those of forwarded is the
// same on every Unix.
func linuxNumber(s os.Signal) syscall.Signal {
	if number, ok := s.(syscall.Signal); ok {
		return number
	}
	return syscall.SIGINT
}

// watchSize calls changed whenever the terminal's size has changed.
func watchSize(ctx context.Context, changed func()) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGWINCH)
	defer signal.Stop(caught)
	for {
		select {
		case <-ctx.Done():
			return
		case <-caught:
			changed()
		}
	}
}
