package ssh

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// attacker is an address of its own, so that what it does is not held against
// the tests' honest clients.
const attacker = "127.0.0.66"

func (s *server) attack(t *testing.T) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(attacker)}, Timeout: 10 * time.Second}
	conn, err := d.Dial("tcp", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ends waits until the server has closed a connection.
func ends(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(60 * time.Second))
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the server keeps the connection", what)
	}
}

// usage is what the server holds.
type usage struct {
	files, threads int
	memory         int64 // KiB resident
}

func (s *server) usage() usage {
	s.t.Helper()
	proc := fmt.Sprintf("/proc/%d", s.cmd.Process.Pid)
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		s.t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		s.t.Fatal(err)
	}
	u := usage{files: len(files)}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch fields[0] {
		case "VmRSS:":
			u.memory, _ = strconv.ParseInt(fields[1], 10, 64)
		case "Threads:":
			u.threads, _ = strconv.Atoi(fields[1])
		}
	}
	return u
}

// Clients that mean no good: the server ends them, keeps nothing of them, and
// serves others meanwhile.
func TestHostileClients(t *testing.T) {
	s := start(t, "--set", "ssh.login_timeout=2s", "--set", "ssh.ban_after=1000")
	instance := s.instance(map[string]any{"image": "host", "runtime": "native"})
	key, _ := s.key("id", map[string]any{})
	serves := func(when string) {
		t.Helper()
		if code, out := exitCode(t, s.ssh(key, instance+"@127.0.0.1", "echo served")); code != 0 || out != "served\n" {
			t.Errorf("%s: %d %q", when, code, out)
		}
	}
	serves("before")
	before := s.usage()
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			conn := s.attack(t)
			attack(conn)
			serves("while " + name)
			ends(t, name, conn)
		})
	}
	t.Run("many that say nothing", func(t *testing.T) {
		var conns []net.Conn
		for range 100 {
			conns = append(conns, s.attack(t))
		}
		serves("beside a hundred silent connections")
		for _, conn := range conns {
			ends(t, "silence", conn)
		}
	})
	serves("after")
	s.until("the server to let go", func() bool {
		now := s.usage()
		return now.files <= before.files+2 && now.memory < before.memory+64<<10
	})
}

// attacks are what a client may do before it has logged in.
var attacks = map[string]func(net.Conn){
	"silence":       func(net.Conn) {},
	"wrong version": func(c net.Conn) { io.WriteString(c, "SSH-1.5-old\r\n") },
	"another protocol": func(c net.Conn) {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	},
	"endless version": func(c net.Conn) { flood(c, []byte("SSH-2.0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")) },
	"endless banner":  func(c net.Conn) { flood(c, []byte("still not a version\r\n")) },
	"noise": func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-noise\r\n")
		noise := make([]byte, 4096)
		rand.Read(noise)
		flood(c, noise)
	},
	"oversized packet": func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-big\r\n")
		c.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
	},
	"packet of nothing": func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-nil\r\n")
		c.Write(make([]byte, 64))
	},
	"ignored packets": func(c net.Conn) {
		io.WriteString(c, "SSH-2.0-ignore\r\n")
		// SSH_MSG_IGNORE again and again, instead of a key exchange.
		payload := append([]byte{2, 0, 0, 0x80, 0}, make([]byte, 0x8000)...)
		padding := 8 - (len(payload)+5)%8 + 8
		packet := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1+padding))
		packet = append(append(append(packet, byte(padding)), payload...), make([]byte, padding)...)
		flood(c, packet)
	},
	"one byte at a time": func(c net.Conn) {
		go func() {
			for {
				if _, err := io.WriteString(c, "S"); err != nil {
					return
				}
				<-time.After(50 * time.Millisecond)
			}
		}()
	},
}

// flood writes until the server has had enough, or much more than it should
// take.
func flood(c net.Conn, what []byte) {
	go func() {
		block := bytes.Repeat(what, 1+(64<<10)/len(what))
		for range 4096 {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}()
}

// An address that fails too often is refused for a while, and others are not.
func TestBan(t *testing.T) {
	s := start(t, "--set", "ssh.ban_after=6", "--set", "ssh.ban_time=1h")
	instance := s.instance(map[string]any{"image": "host", "runtime": "native"})
	key, _ := s.key("id", map[string]any{})
	refused := func() bool {
		conn := s.attack(t)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		first := make([]byte, 4)
		if _, err := io.ReadFull(conn, first); err != nil {
			return true // closed without a word
		}
		io.WriteString(conn, "SSH-2.0-wrong\r\nnoise that is no packet at all\r\n")
		io.Copy(io.Discard, conn)
		return false
	}
	failures := 0
	for ; !refused(); failures++ {
		if failures > 20 {
			t.Fatal("nobody minds")
		}
	}
	if failures < 5 {
		t.Errorf("refused after %d failures", failures)
	}
	output(t, s.ssh(key, instance+"@127.0.0.1", "true"))
	if code, _ := exitCode(t, s.ssh(key, "-b", attacker, instance+"@127.0.0.1", "true")); code != 255 {
		t.Error("a banned address logs in with a good key")
	}
}

// dial logs in as a client that does as it is told here.
func (s *server) dial(t testing.TB, key, user string) *gossh.Client {
	t.Helper()
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := gossh.ParsePrivateKey(content)
	if err != nil {
		t.Fatal(err)
	}
	client, err := gossh.Dial("tcp", "127.0.0.1:"+s.port, &gossh.ClientConfig{
		User: user, Auth: []gossh.AuthMethod{gossh.PublicKeys(signer)}, HostKeyCallback: gossh.InsecureIgnoreHostKey(), Timeout: 60 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// What a client that has logged in may ask for is bounded.
func floods(t *testing.T, s *server) {
	instance := s.instance(map[string]any{"image": "host", "runtime": "native"})
	key, _ := s.key("id", map[string]any{})
	client := s.dial(t, key, instance)
	defer client.Close()
	opened, refused := 0, 0
	for range 100 {
		channel, requests, err := client.OpenChannel("session", nil)
		if err != nil {
			refused++
			continue
		}
		opened++
		go gossh.DiscardRequests(requests)
		defer channel.Close()
	}
	if opened != 64 || refused != 36 {
		t.Errorf("%d channels were opened, %d refused", opened, refused)
	}
	other := s.dial(t, key, instance)
	defer other.Close()
	session, err := other.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i := range 1000 {
		if session.Setenv(fmt.Sprint("V", i), strings.Repeat("v", 100)) == nil {
			accepted++
		}
	}
	if accepted != 128 {
		t.Errorf("%d variables were accepted", accepted)
	}
	for range 10_000 { // signals and sizes that nobody waits for
		session.WindowChange(24, 80)
		session.Signal(gossh.SIGUSR1)
	}
	if err := session.Run("exit 0"); err != nil {
		t.Error(err)
	}
	for i := range 100 {
		other.SendRequest("tcpip-forward", true, gossh.Marshal(struct {
			Host string
			Port uint32
		}{"127.0.0.1", uint32(20000 + i)}))
	}
	if got := output(t, s.ssh(key, instance+"@127.0.0.1", "echo served")); got != "served\n" {
		t.Errorf("another client got %q", got)
	}
}

// Connections leave nothing behind.
func TestManyConnections(t *testing.T) {
	count := 200
	if text := os.Getenv("FAAS_SSH_CONNECTS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, "--set", "log.level=warn")
	instance := s.instance(map[string]any{"image": "host", "runtime": "native"})
	key, _ := s.key("id", map[string]any{})
	round := func(n int) {
		const beside = 8
		var clients sync.WaitGroup
		for worker := range beside {
			clients.Go(func() {
				for i := worker; i < n; i += beside {
					client := s.dial(t, key, instance)
					session, err := client.NewSession()
					if err == nil {
						var out []byte
						if out, err = session.Output("echo hello"); string(out) != "hello\n" && err == nil {
							err = fmt.Errorf("the answer is %q", out)
						}
					}
					if err != nil {
						t.Error(err)
					}
					client.Close()
				}
			})
		}
		clients.Wait()
	}
	round(64) // what is kept for reuse is kept from here on
	before := s.settled()
	began := time.Now()
	round(count)
	took := time.Since(began)
	var after usage
	s.until("the server to let go", func() bool {
		after = s.usage()
		return after.files <= before.files+2
	})
	if grown := after.memory - before.memory; grown > 48<<10 || after.threads > before.threads+16 {
		t.Errorf("%+v became %+v", before, after)
	}
	if open := s.connections(); open != 0 {
		t.Errorf("%d connections are open still", open)
	}
	t.Logf("%d connections with a command each in %s: %+v became %+v", count, took.Round(time.Millisecond), before, after)
}

// settled waits until what the server holds does not change.
func (s *server) settled() usage {
	last := s.usage()
	s.until("the server to settle", func() bool {
		<-time.After(200 * time.Millisecond)
		now := s.usage()
		same := now.files == last.files
		last = now
		return same
	})
	return last
}

// connections counts the sockets of the SSH server that are open.
func (s *server) connections() int {
	s.t.Helper()
	list := 0
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	port, err := strconv.Atoi(s.port)
	if err != nil {
		s.t.Fatal(err)
	}
	const established = "01"
	local := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], local) && fields[3] == established {
			list++
		}
	}
	return list
}
