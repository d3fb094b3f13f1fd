package machine

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// What an older host left in the port, a line cut in two included, is not
// taken for what the next one says, and old output is not taken for an answer.
func TestMeetSkipsWhatIsOld(t *testing.T) {
	host, agent := net.Pipe()
	defer host.Close()
	defer agent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	said := make(chan string, 1)
	go func() {
		r := Await(agent, agent)
		b := make([]byte, 5)
		io.ReadFull(r, b)
		said <- string(b)
	}()
	if _, err := host.Write([]byte("faas\x00C of an older session \x00faas port 12")); err != nil {
		t.Fatal(err)
	}
	conn, err := Meet(ctx, host)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := <-said; got != "hello" {
		t.Errorf("the agent reads %q", got)
	}
}
