package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

// serverPort is where the web server listens inside.
const serverPort = "8000"

func snapshotRequest() faas.SnapshotRequest { return faas.SnapshotRequest{Kind: faas.SnapshotFull} }

// serveOn forks a web server with a warm cache and asks every fork through a
// port of its own on this machine.
func (d *demo) serveOn(ctx context.Context) error {
	fmt.Println("\n== a web server with a cache that took it a while to fill")
	begun := time.Now()
	source, err := d.start(ctx, server)
	if err != nil {
		return err
	}
	fmt.Printf("warm after %v\n", time.Since(begun).Round(time.Millisecond))
	forks, err := d.fork(ctx, source)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	defer group.Wait()
	for i, id := range append([]string{source}, forks...) {
		l, err := d.expose(ctx, id, &group)
		if err != nil {
			return err
		}
		defer l.Close() //nolint:errcheck // ends what serves it
		asked := time.Now()
		told, err := ask(ctx, "http://"+l.Addr().String()+"/4242")
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		fmt.Printf("%s behind %s: %q in %v\n", id, l.Addr(), told, time.Since(asked).Round(100*time.Microsecond))
		if !strings.Contains(told, "hit") || !strings.Contains(told, id) {
			return fmt.Errorf("copy %d answers %q", i, told)
		}
	}
	return nil
}

// expose carries the connections of a free port here to the server inside.
func (d *demo) expose(ctx context.Context, id string, group *sync.WaitGroup) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			group.Go(func() {
				if err := d.carry(ctx, id, conn); err != nil {
					fmt.Println(id, err)
				}
			})
		}
	})
	return l, nil
}

func (d *demo) carry(ctx context.Context, id string, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // its peer is told by the end of the stream
	return d.Guest(ctx, "", id, func(c *guest.Client) error {
		inside, err := c.DialPort(ctx, "tcp", serverPort)
		if err != nil {
			return err
		}
		defer inside.Close()     //nolint:errcheck // as above
		go io.Copy(inside, conn) //nolint:errcheck // ends with the connection
		_, err = io.Copy(conn, inside)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		return err
	})
}

func ask(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return string(b), err
}
