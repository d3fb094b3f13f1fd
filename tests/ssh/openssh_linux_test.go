package ssh

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
)

// What needs nothing of its own of a server shares one.
func TestServer(t *testing.T) {
	shared := start(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *server)
	}{
		{"OpenSSH", openSSH}, {"keys", keys}, {"life", instanceLife}, {"fork", fork}, {"floods", floods},
	} {
		t.Run(test.name, func(t *testing.T) {
			own := *shared
			own.t = t
			test.run(t, &own)
		})
	}
}

// What OpenSSH's programs do with an instance of every runtime.
func openSSH(t *testing.T, s *server) {
	key, _ := s.key("id", map[string]any{"name": "test"})
	s.each(t, func(t *testing.T, s *server, instance string) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *server, string, string)
		}{
			{"commands", commands}, {"terminal", terminal}, {"sftp", transfer}, {"scp", copies}, {"rsync", synchronize},
			{"git", clone}, {"local", localForward}, {"remote", remoteForward}, {"sockets", socketForward}, {"hangup", hangUp},
		} {
			t.Run(test.name, func(t *testing.T) {
				own := *s
				own.t = t
				test.run(t, &own, key, instance)
			})
		}
	})
}

func commands(t *testing.T, s *server, key, instance string) {
	at := instance + "@127.0.0.1"
	code, out := exitCode(t, s.ssh(key, "-o", "SetEnv=LC_TEST=some_value", at, `echo "$LC_TEST $USER $HOME"; echo failed >&2; exit 7`))
	if code != 7 || !strings.Contains(out, "some_value root /") || !strings.Contains(out, "failed") {
		t.Errorf("exit code %d, output %q", code, out)
	}
	// OpenSSH's client has no exit code of its own for a signal: -1, that is 255.
	if code, out := exitCode(t, s.ssh(key, at, "kill -TERM $$")); code != 255 {
		t.Errorf("a command that a signal ended: %d %q", code, out)
	}
	input := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	cat := s.ssh(key, at, "cat")
	cat.Stdin = bytes.NewReader(input)
	if got := output(t, cat); got != string(input) {
		t.Errorf("%d bytes came back of %d", len(got), len(input))
	}
	if code, out := exitCode(t, s.ssh(key, "nobody-at-all+"+at, "true")); code != 255 || !strings.Contains(out, "nobody-at-all") {
		t.Errorf("a user that is not there: %d %q", code, out)
	}
	if got := output(t, s.ssh(key, at, "exec sleep 0 & echo left")); got != "left\n" {
		t.Errorf("a command that leaves something behind: %q", got)
	}
}

// terminal tells an interactive shell its size, changes it, and interrupts
// what it runs.
func terminal(t *testing.T, s *server, key, instance string) {
	cmd := s.ssh(key, "-tt", instance+"@127.0.0.1")
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 91, Rows: 33})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	var screen lockedBuffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(&screen, master)
	}()
	defer func() {
		if t.Failed() {
			t.Logf("the screen:\n%q", screen.String())
		}
	}()
	press := func(text string) { io.WriteString(master, text) }
	shows := func(text string) {
		t.Helper()
		s.until(text+" on the screen", func() bool { return strings.Contains(screen.String(), text) })
	}
	press("stty size; echo rea''dy $TERM\n")
	shows("33 91")
	shows("ready")
	if err := pty.Setsize(master, &pty.Winsize{Cols: 111, Rows: 44}); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGWINCH)
	s.until("the new size", func() bool {
		press("stty size\n")
		return strings.Contains(screen.String(), "44 111")
	})
	press("sh -c 'echo beg''un; sleep 1000'\n")
	shows("begun")
	press("\x03") // an interrupt ends it, and not the shell
	press("echo af''ter; exit 3\n")
	shows("after")
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("the shell ended with %v:\n%s", err, screen.String())
	}
	master.Close()
	<-read
}

// content makes a file that is no multiple of anything.
func content(t *testing.T, dir, name string, size int) (string, []byte) {
	data := bytes.Repeat([]byte("a line of some length, "), size/23+1)[:size]
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
	return path, data
}

func transfer(t *testing.T, s *server, key, instance string) {
	dir := t.TempDir()
	up, data := content(t, dir, "up", 3<<20+17)
	down := filepath.Join(dir, "down")
	batch := s.write("batch", strings.Join([]string{
		"mkdir /tmp/sftp", "cd /tmp/sftp", "put " + up + " file", "chmod 600 file", "ln file other", "ln -s file link",
		"rename other moved", "get link " + down, "mkdir empty", "rmdir empty", "ls -la", "df", "-rm nothing",
	}, "\n")+"\n")
	args := append(s.options(key), "-P", s.port, "-b", batch, instance+"@127.0.0.1")
	out := output(t, s.program("sftp", args...))
	if !strings.Contains(out, "moved") || !strings.Contains(out, "link") {
		t.Errorf("the listing is %q", out)
	}
	if got, err := os.ReadFile(down); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	got := output(t, s.ssh(key, instance+"@127.0.0.1", "cd /tmp/sftp && sha256sum <link && stat -c %a moved && ls"))
	if want := sum + "  -\n600\nfile\nlink\nmoved\n"; got != want {
		t.Errorf("inside there is %q, not %q", got, want)
	}
}

func copies(t *testing.T, s *server, key, instance string) {
	for name, flags := range map[string][]string{"sftp": nil, "scp": {"-O"}} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "tree", "below"), 0o755); err != nil {
			t.Fatal(err)
		}
		content(t, filepath.Join(dir, "tree"), "one", 100_003)
		content(t, filepath.Join(dir, "tree", "below"), "two", 5)
		scp := func(from, to string) {
			t.Helper()
			args := append(s.options(key), "-P", s.port, "-rp")
			output(t, s.program("scp", append(append(args, flags...), from, to)...))
		}
		scp(filepath.Join(dir, "tree"), instance+"@127.0.0.1:/tmp/scp-"+name)
		scp(instance+"@127.0.0.1:/tmp/scp-"+name, filepath.Join(dir, "back"))
		output(t, exec.Command("diff", "-r", filepath.Join(dir, "tree"), filepath.Join(dir, "back")))
		st, err := os.Stat(filepath.Join(dir, "back", "one"))
		if err != nil || st.Mode().Perm() != 0o640 {
			t.Errorf("%s: the mode came back as %v: %v", name, st.Mode(), err)
		}
	}
}

// remoteShell is the client as other programs call it.
func (s *server) remoteShell(key string) string {
	return "ssh -p " + s.port + " " + strings.Join(s.options(key), " ")
}

func synchronize(t *testing.T, s *server, key, instance string) {
	dir := t.TempDir()
	content(t, dir, "data", 200_001)
	if err := os.Symlink("data", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	back := t.TempDir()
	for range 2 {
		output(t, s.program("rsync", "-a", "--delete", "-e", s.remoteShell(key), dir+"/", instance+"@127.0.0.1:/tmp/rsync/"))
	}
	output(t, s.program("rsync", "-a", "-e", s.remoteShell(key), instance+"@127.0.0.1:/tmp/rsync/", back+"/"))
	output(t, exec.Command("diff", "-r", dir, back))
}

func clone(t *testing.T, s *server, key, instance string) {
	at := instance + "@127.0.0.1"
	output(t, s.ssh(key, at, "git init -q --bare /tmp/repo.git"))
	dir := filepath.Join(t.TempDir(), "work")
	git := func(args ...string) {
		t.Helper()
		cmd := s.program("git", append([]string{"-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"}, args...)...)
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND="+s.remoteShell(key))
		output(t, cmd)
	}
	git("clone", "-q", "ssh://"+at+":"+s.port+"/tmp/repo.git", dir)
	content(t, dir, "file", 10_000)
	git("-C", dir, "add", "file")
	git("-C", dir, "commit", "-qm", "a change")
	git("-C", dir, "push", "-q", "origin", "HEAD:refs/heads/main")
	again := filepath.Join(t.TempDir(), "again")
	git("clone", "-q", "-b", "main", "ssh://"+at+":"+s.port+"/tmp/repo.git", again)
	output(t, exec.Command("diff", filepath.Join(dir, "file"), filepath.Join(again, "file")))
}

// echo serves connections that say what they were told, in capitals, until the
// test ends.
const echo = `python3 -c "
import socket, sys
s = socket.socket(socket.AF_UNIX if sys.argv[1].startswith('/') else socket.AF_INET)
s.bind(sys.argv[1] if sys.argv[1].startswith('/') else ('127.0.0.1', int(sys.argv[1])))
s.listen()
print('listening', flush=True)
while True:
    c, _ = s.accept()
    c.sendall(c.recv(100).upper())
    c.close()
" `

// background starts a client and waits for a line of its output.
func (s *server) background(key, line string, args ...string) {
	s.t.Helper()
	cmd := s.ssh(key, args...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe() // open until the test's end
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	s.until(line, func() bool {
		if strings.Contains(out.String(), line) {
			return true
		}
		if cmd.Process.Signal(syscall.Signal(0)) != nil {
			s.t.Fatalf("%v ended: %s", cmd.Args, out.String())
		}
		return false
	})
}

// ask sends a text and returns the answer, trying until somebody listens.
func (s *server) ask(network, address, text string) string {
	s.t.Helper()
	var answer []byte
	s.until("an answer on "+address, func() bool {
		conn, err := net.Dial(network, address)
		if err != nil {
			return false
		}
		defer conn.Close()
		io.WriteString(conn, text)
		answer, err = io.ReadAll(conn)
		return err == nil && len(answer) > 0
	})
	return string(answer)
}

func localForward(t *testing.T, s *server, key, instance string) {
	local, socks := freePort(t), freePort(t)
	s.background(key, "listening", "-L", local+":localhost:7070", "-D", socks, instance+"@127.0.0.1", echo+"7070")
	if got := s.ask("tcp", "127.0.0.1:"+local, "through"); got != "THROUGH" {
		t.Errorf("-L answered %q", got)
	}
	// SOCKS 4: connect to 127.0.0.1:7070.
	conn, err := net.Dial("tcp", "127.0.0.1:"+socks)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte{4, 1, 7070 >> 8, 7070 & 255, 127, 0, 0, 1, 0})
	reply := make([]byte, 8)
	if _, err := io.ReadFull(conn, reply); err != nil || reply[1] != 0x5a {
		t.Fatalf("-D answered %x: %v", reply, err)
	}
	io.WriteString(conn, "socks")
	if got, err := io.ReadAll(conn); string(got) != "SOCKS" {
		t.Errorf("-D carried %q: %v", got, err)
	}
}

func remoteForward(t *testing.T, s *server, key, instance string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "from outside")
			conn.Close()
		}
	}()
	got := output(t, s.ssh(key, "-o", "ExitOnForwardFailure=yes", "-R", "9191:"+l.Addr().String(), instance+"@127.0.0.1",
		`python3 -c "import socket; print(socket.create_connection(('127.0.0.1', 9191)).recv(100).decode())"`))
	if got != "from outside\n" {
		t.Errorf("-R carried %q", got)
	}
}

func socketForward(t *testing.T, s *server, key, instance string) {
	local := filepath.Join(s.dir, "local")
	os.Remove(local)
	s.background(key, "listening", "-L", local+":/tmp/inside", instance+"@127.0.0.1", echo+"/tmp/inside")
	if got := s.ask("unix", local, "socket"); got != "SOCKET" {
		t.Errorf("-L of a socket answered %q", got)
	}
}

// hangUp ends a client: what its terminal runs ends with it.
func hangUp(t *testing.T, s *server, key, instance string) {
	at := instance + "@127.0.0.1"
	cmd := s.ssh(key, "-tt", at, "echo begun; sleep 54321")
	var out lockedBuffer
	cmd.Stdout = &out
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	s.until("the command to run", func() bool { return strings.Contains(out.String(), "begun") })
	running := func() bool {
		var list struct {
			Processes []struct{ Command []string }
		}
		s.api(http.MethodGet, "/api/v1/instances/"+instance+"/processes", nil, &list)
		for _, p := range list.Processes {
			if strings.Contains(strings.Join(p.Command, " "), "54321") {
				return true
			}
		}
		return false
	}
	s.until("the command in the list of processes", running)
	cmd.Process.Kill()
	cmd.Wait()
	s.until("the command to end", func() bool { return !running() })
}
