package ssh

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// A copy has none of its source's sessions: their commands are hung up in it,
// with what they started, and ports that they forwarded are closed. The
// source's sessions go on as if nothing had been. What no session holds is in
// the copy, which tells that processes came along.
func fork(t *testing.T, s *server) {
	s.needs("native", "snapshot.full")
	source := s.instance(map[string]any{"image": "host", "runtime": "native", "name": "source"})
	key, _ := s.key("id", map[string]any{})
	at := source + "@127.0.0.1"
	output(t, s.ssh(key, at, "setsid sleep 61001 </dev/null >/dev/null 2>&1 &"))

	shell := s.talk(key, "-tt", at, "stty -echo; echo begun; sleep 61002 & cat")
	plain := s.talk(key, "-R", "61080:127.0.0.1:1", "-o", "ExitOnForwardFailure=yes", at, "echo begun; sleep 61003 & cat")
	for _, session := range []*talk{shell, plain} {
		if got := session.line(); got != "begun" {
			t.Fatalf("a session began with %q", got)
		}
	}
	left, sessions, listens := "sleep 61001", []string{"sleep 61002", "sleep 61003", "cat"}, "61080"
	s.until("the sessions in the source", func() bool { return s.runs(source, append(sessions, left)...) == 4 && s.listens(key, source, listens) })

	var forked struct{ Instances []struct{ ID string } }
	s.api(http.MethodPost, "/api/v1/instances/"+source+"/fork", map[string]any{"count": 1, "name": "copy"}, &forked)
	if len(forked.Instances) != 1 {
		t.Fatalf("%d copies", len(forked.Instances))
	}
	made := forked.Instances[0].ID
	t.Cleanup(func() { s.try(http.MethodDelete, "/api/v1/instances/"+made, nil, nil) })

	s.until("the sessions to be gone from the copy", func() bool { return s.runs(made, sessions...) == 0 })
	if s.runs(made, left) != 1 {
		t.Error("the copy does not have what no session holds")
	}
	if s.listens(key, made, listens) {
		t.Error("the copy listens for a session of its source's")
	}
	for i, session := range []*talk{shell, plain} {
		said := fmt.Sprint("still here ", i)
		if got := session.say(said); got != said {
			t.Errorf("session %d of the source says %q after the fork", i, got)
		}
	}
	if got := s.runs(source, append(sessions, left)...); got != 4 {
		t.Errorf("%d of the source's four kinds of processes run after the fork", got)
	}
}

// talk is a client whose session stays open until the test's end.
type talk struct {
	t     testing.TB
	stdin io.Writer
	lines chan string // closed at the end of the session
}

func (s *server) talk(key string, args ...string) *talk {
	s.t.Helper()
	cmd := s.ssh(key, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	out := &talk{s.t, stdin, make(chan string, 16)}
	go func() {
		defer close(out.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			out.lines <- strings.TrimRight(lines.Text(), "\r")
		}
	}()
	s.t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Signal(syscall.SIGTERM)
		for range out.lines {
		}
		cmd.Wait()
	})
	return out
}

// line waits for a line; the program's deadline bounds it.
func (k *talk) line() string { return <-k.lines }

func (k *talk) say(text string) string {
	k.t.Helper()
	if _, err := io.WriteString(k.stdin, text+"\n"); err != nil {
		k.t.Fatal(err)
	}
	return k.line()
}

// runs counts those command lines that a process of the instance has.
func (s *server) runs(instance string, lines ...string) int {
	s.t.Helper()
	var list struct {
		Processes []struct{ Command []string }
	}
	s.api(http.MethodGet, "/api/v1/instances/"+instance+"/processes", nil, &list)
	found := map[string]bool{}
	for _, p := range list.Processes {
		found[strings.Join(p.Command, " ")] = true
	}
	count := 0
	for _, line := range lines {
		if found[line] {
			count++
		}
	}
	return count
}

// listens tells whether something listens on a port in an instance.
func (s *server) listens(key, instance, port string) bool {
	s.t.Helper()
	code, _ := exitCode(s.t, s.ssh(key, instance+"@127.0.0.1", "bash -c '</dev/tcp/127.0.0.1/"+port+"' 2>/dev/null"))
	return code == 0
}
