package stream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestInput(t *testing.T) {
	b := NewInput()
	b.Add(bytes.Repeat([]byte("x"), Window))
	added := make(chan struct{})
	go func() {
		b.Add([]byte("y")) // waits for a reader
		b.End()
		b.Add([]byte("late"))
		close(added)
	}()
	select {
	case <-added:
		t.Error("more than the window was taken")
	default:
	}
	all, err := io.ReadAll(b)
	if err != nil || len(all) != Window+1 || !strings.HasSuffix(string(all), "xy") {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	<-added
	full := NewInput()
	full.Add(make([]byte, Window))
	dropped := make(chan struct{})
	go func() { full.Add([]byte("y")); close(dropped) }()
	full.Close() //nolint:errcheck // cannot fail
	<-dropped
	if n, err := full.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d, %v", n, err)
	}
}
