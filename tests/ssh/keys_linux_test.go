package ssh

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Keys: which log in where, for how long, and what ends them.
func keys(t *testing.T, s *server) {
	one := s.instance(map[string]any{"image": "host", "runtime": "native", "name": "one"})
	two := s.instance(map[string]any{"image": "host", "runtime": "native", "name": "two"})
	off := s.instance(map[string]any{"image": "host", "runtime": "native", "enable_ssh": false})
	all, allID := s.key("all", map[string]any{"type": "ecdsa"})
	only, _ := s.key("only", map[string]any{"instance_ids": []string{one}, "max_sessions": 1})
	short, shortID := s.key("short", map[string]any{"type": "rsa", "ttl_ms": 3600000})
	enters := func(key, user string) bool {
		t.Helper()
		code, out := exitCode(t, s.ssh(key, user+"@127.0.0.1", "true"))
		if code != 0 && !strings.Contains(out, "Permission denied (publickey)") {
			t.Errorf("%s as %s: %d %q", filepath.Base(key), user, code, out)
		}
		return code == 0
	}
	stranger := filepath.Join(s.dir, "stranger")
	output(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", stranger))
	for _, c := range []struct {
		key, user string
		enters    bool
	}{
		{all, one, true}, {all, "one", true}, {all, two, true}, {all, off, false}, {all, "three", false}, {short, "root+two", true},
		{only, one, true}, {only, "one", true}, {only, two, false}, {stranger, one, false},
	} {
		if got := enters(c.key, c.user); got != c.enters {
			t.Errorf("%s as %s: %v", filepath.Base(c.key), c.user, got)
		}
	}
	if status, answer := s.try(http.MethodPost, "/api/v1/ssh-keys", map[string]any{"type": "rsa", "bits": 2048}, nil); status != 400 {
		t.Errorf("a weak key: %d %s", status, answer)
	}
	private, err := os.ReadFile(stranger)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := s.try(http.MethodPost, "/api/v1/ssh-keys", map[string]any{"public_key": string(private)}, nil); status != 400 || strings.Contains(answer, "b3BlbnNza") {
		t.Errorf("a private key: %d %s", status, answer)
	}

	// A second connection of a key that may have one.
	s.background(only, "begun", one+"@127.0.0.1", "echo begun; cat")
	if code, out := exitCode(t, s.ssh(only, one+"@127.0.0.1", "true")); code == 0 || !strings.Contains(out, "as many SSH connections") {
		t.Errorf("one too many: %d %q", code, out)
	}

	// A rotation: both log in, and the old one only while they overlap.
	var made struct {
		ID         string
		PrivateKey string `json:"private_key"`
		Replaces   string
	}
	s.api(http.MethodPost, "/api/v1/ssh-keys/"+shortID+"/rotate", map[string]any{"overlap_ms": 3600000}, &made)
	fresh := s.write("fresh", made.PrivateKey)
	if !enters(short, one) || !enters(fresh, one) || made.Replaces != shortID {
		t.Error("a rotated key and its successor do not both log in")
	}
	s.api(http.MethodPost, "/api/v1/ssh-keys/"+made.ID+"/rotate", map[string]any{"overlap_ms": 0}, nil)
	if enters(fresh, one) {
		t.Error("a key without overlap logs in after its rotation")
	}

	// A revocation ends what is open.
	held := s.ssh(all, one+"@127.0.0.1", "echo begun; cat")
	var out lockedBuffer
	held.Stdout = &out
	stdin, err := held.StdinPipe()
	if err == nil {
		err = held.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	s.until("the session", func() bool { return strings.Contains(out.String(), "begun") })
	s.api(http.MethodDelete, "/api/v1/ssh-keys/"+allID, nil, nil)
	held.Wait()
	if code := held.ProcessState.ExitCode(); code != 255 {
		t.Errorf("the session of a revoked key ended with %d", code)
	}
	if enters(all, one) {
		t.Error("a revoked key logs in")
	}

	var log struct {
		Events []struct {
			Action, Object string
			KeyID          string `json:"key_id"`
			Details        map[string]string
		}
	}
	s.api(http.MethodGet, "/api/v1/audit?action=ssh-exec", nil, &log)
	found := false
	for _, e := range log.Events {
		found = found || e.Object == one && e.KeyID == allID && e.Details["command"] == "echo begun; cat"
	}
	if !found {
		t.Errorf("the command is not in the audit log: %+v", log.Events)
	}
}

// Certificates of a trusted authority and of the server's own.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	keygen := func(args ...string) {
		t.Helper()
		output(t, exec.Command("ssh-keygen", append([]string{"-q"}, args...)...))
	}
	ca, user := filepath.Join(dir, "ca"), filepath.Join(dir, "user")
	keygen("-t", "ed25519", "-N", "", "-f", ca)
	keygen("-t", "ed25519", "-N", "", "-f", user)
	s := start(t, "--set", "ssh.trusted_user_ca="+ca+".pub")
	instance := s.instance(map[string]any{"image": "host", "runtime": "native", "name": "certified"})
	try := func(what string, wanted bool, command string, sign ...string) {
		t.Helper()
		keygen(append(append([]string{"-s", ca, "-I", what}, sign...), user+".pub")...)
		code, out := exitCode(t, s.ssh(user, "-o", "CertificateFile="+user+"-cert.pub", instance+"@127.0.0.1", command))
		if (code == 0) != wanted {
			t.Errorf("%s: %d %q", what, code, out)
		}
	}
	try("by id", true, "true", "-n", instance)
	try("by name", true, "true", "-n", "certified")
	try("by project", true, "true", "-n", "project:default")
	try("for another", false, "true", "-n", "other")
	try("for nobody", false, "true")
	try("expired", false, "true", "-n", instance, "-V", "20200101:20200102")
	try("from elsewhere", false, "true", "-n", instance, "-O", "source-address=10.0.0.0/8")
	try("from here", true, "true", "-n", instance, "-O", "source-address=127.0.0.0/8")
	try("forced", true, "exit 1", "-n", instance, "-O", "force-command=true")
	try("a host's", false, "true", "-h", "-n", instance)

	public, err := os.ReadFile(user + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	var signed struct{ ID, Certificate string }
	s.api(http.MethodPost, "/api/v1/ssh-keys/sign", map[string]any{"public_key": string(public), "instance_ids": []string{instance}}, &signed)
	certificate := s.write("own-cert.pub", signed.Certificate+"\n")
	enter := func() int {
		code, _ := exitCode(t, s.ssh(user, "-o", "CertificateFile="+certificate, instance+"@127.0.0.1", "true"))
		return code
	}
	os.Remove(user + "-cert.pub")
	if code := enter(); code != 0 {
		t.Errorf("the server's own certificate: %d", code)
	}
	s.api(http.MethodDelete, "/api/v1/ssh-keys/"+signed.ID, nil, nil)
	if code := enter(); code != 255 {
		t.Errorf("a revoked certificate: %d", code)
	}
}

// Host keys: announced ones are learnt by clients before they count, and they
// outlive the server.
func TestHostKeys(t *testing.T) {
	s := start(t)
	instance := s.instance(map[string]any{"image": "host", "runtime": "native"})
	key, _ := s.key("id", map[string]any{})
	rotate := func(overlap int) string {
		var about struct {
			KnownHosts string `json:"known_hosts"`
		}
		s.api(http.MethodPost, "/api/v1/ssh/host-keys/rotate", map[string]any{"overlap_ms": overlap}, &about)
		return about.KnownHosts
	}
	rotate(3600000)
	output(t, s.ssh(key, "-o", "UpdateHostKeys=yes", instance+"@127.0.0.1", "true"))
	learnt, err := os.ReadFile(s.knownHosts)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(strings.TrimSpace(string(learnt)), "\n") + 1; n != 4 {
		t.Errorf("the client knows %d keys, not the four that were announced:\n%s", n, learnt)
	}
	fresh := rotate(0)
	if code, _ := exitCode(t, s.ssh(key, instance+"@127.0.0.1", "true")); code != 255 {
		t.Error("the client takes a key that it cannot know")
	}
	s.knownHosts = s.write("known_hosts", fresh)
	output(t, s.ssh(key, instance+"@127.0.0.1", "true"))
}

// A paused instance, a stopped one and one that sleeps wake; a session keeps
// one awake.
func instanceLife(t *testing.T, s *server) {
	instance := s.instance(map[string]any{"image": "host", "runtime": "native", "idle_timeout_ms": 1000})
	key, _ := s.key("id", map[string]any{})
	at := instance + "@127.0.0.1"
	status := func() string {
		var x struct{ Status string }
		s.api(http.MethodGet, "/api/v1/instances/"+instance, nil, &x)
		return x.Status
	}
	for _, op := range []string{"pause", "stop"} {
		s.api(http.MethodPost, "/api/v1/instances/"+instance+"/"+op, nil, nil)
		if got := output(t, s.ssh(key, at, "echo awake")); got != "awake\n" {
			t.Errorf("after %s: %q", op, got)
		}
	}
	s.until("it to fall asleep", func() bool { return status() == "paused" })
	s.background(key, "begun", at, "echo begun; cat")
	if got := output(t, s.ssh(key, at, "sleep 2; echo done")); got != "done\n" || status() != "running" {
		t.Errorf("in use it is %s: %q", status(), got)
	}
}

// ProxyJump leads from instance to instance; ports of another are reached by
// its name; agents are forwarded when the server allows it.
func TestJumpAndAgent(t *testing.T) {
	s := start(t, "--set", "ssh.agent_forwarding=true")
	one := s.instance(map[string]any{"image": "host", "runtime": "native", "name": "one"})
	s.instance(map[string]any{"image": "host", "runtime": "native", "name": "two"})
	key, _ := s.key("id", map[string]any{})
	config := s.write("ssh_config", strings.Join([]string{
		"Host one", "  HostName 127.0.0.1", "  Port " + s.port, "  User " + one,
		"Host two", "  User two", "  ProxyJump one", "  HostKeyAlias [127.0.0.1]:" + s.port,
		"Host *", "  IdentityFile " + key, "  IdentitiesOnly yes", "  UserKnownHostsFile " + s.knownHosts, "  StrictHostKeyChecking yes",
	}, "\n")+"\n")
	if got := output(t, s.program("ssh", "-F", config, "two", "hostname; cat /run/faas/instance.json")); !strings.Contains(got, "inst-") || strings.Contains(got, one) {
		t.Errorf("the jump led to %q", got)
	}
	s.background(key, "listening", "two@127.0.0.1", echo+"6060")
	local := freePort(t)
	s.background(key, "ready", "-L", local+":two:6060", "one@127.0.0.1", "echo ready; cat")
	if got := s.ask("tcp", "127.0.0.1:"+local, "neighbour"); got != "NEIGHBOUR" {
		t.Errorf("the other instance's port answered %q", got)
	}

	socket := filepath.Join(s.dir, "agent")
	agent := s.program("ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		agent.Process.Signal(syscall.SIGTERM)
		agent.Wait()
	}()
	s.until("the agent", func() bool { _, err := os.Stat(socket); return err == nil })
	add := s.program("ssh-add", "-q", key)
	add.Env = append(add.Env, "SSH_AUTH_SOCK="+socket)
	output(t, add)
	list := s.ssh(key, "-A", "one@127.0.0.1", "ssh-add -l")
	list.Env = append(list.Env, "SSH_AUTH_SOCK="+socket)
	if got := output(t, list); !strings.Contains(got, "ED25519") {
		t.Errorf("the forwarded agent has %q", got)
	}
	none := s.ssh(key, "one@127.0.0.1", "ssh-add -l")
	none.Env = append(none.Env, "SSH_AUTH_SOCK="+socket)
	if code, out := exitCode(t, none); code == 0 {
		t.Errorf("an agent that nobody forwarded has %q", out)
	}
}
