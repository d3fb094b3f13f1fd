package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/faas-platform/faas"
)

// serveProfiles serves the runtime's profiles until the function that it
// returns is called. They tell what the server does, and whoever asks for them
// costs it time, so they are for this machine only.
func serveProfiles(log *slog.Logger, address string) (stop func(), err error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, faas.InvalidField("--profile", "%q is not a loopback address and port, such as 127.0.0.1:6060", address)
	}
	listener, err := listen(context.Background(), address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(listener) //nolint:errcheck // it ends with Close
	}()
	log.Info("serving profiles", "address", "http://"+listener.Addr().String()+"/debug/pprof/")
	return func() {
		server.Close() //nolint:errcheck // nothing was written
		<-ended
	}, nil
}
