package main

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
)

// takeover is how long a taken address is waited for: a daemon that was killed
// while it started a process leaves a copy of itself for a moment, on its way
// to the program that it never became, and that holds the address.
const takeover = 2 * time.Second

// listen takes an address.
func listen(ctx context.Context, address string) (net.Listener, error) {
	waiting, cancel := context.WithTimeout(ctx, takeover)
	defer cancel()
	for {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return listener, nil
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-waiting.Done():
			}
		}
		return nil, &faas.Error{Kind: faas.KindUnavailable, Op: "serve", Detail: "cannot listen on " + address,
			Remedy: "another server may be running; --listen names another address", Err: err}
	}
}
