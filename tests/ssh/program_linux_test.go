package ssh

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// faas is a call of the program under test.
func (s *server) faas(args ...string) *exec.Cmd {
	cmd := s.program(faasProgram, args...)
	cmd.Env = append(cmd.Env, "TMPDIR="+s.dir)
	return cmd
}

// faas ssh, ssh-config and ssh-key.
func TestProgram(t *testing.T) {
	s := start(t)
	s.instance(map[string]any{"image": "host", "runtime": "native", "name": "box"})
	for _, flags := range [][]string{nil, {"--builtin"}} {
		cmd := s.faas(append(append([]string{"ssh"}, flags...), "box", "--", "sh", "-c", "cat; echo failed >&2; exit 6")...)
		cmd.Stdin = strings.NewReader("given\n")
		if code, out := exitCode(t, cmd); code != 6 || !strings.Contains(out, "given") || !strings.Contains(out, "failed") {
			t.Errorf("faas ssh %v: %d %q", flags, code, out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, "faas-ssh-*")); err != nil || len(left) > 0 {
		t.Errorf("keys are left behind: %v %v", left, err)
	}
	config := s.write("ssh_config", output(t, s.faas("ssh-config", "box")))
	for range 2 { // the key is made once and known from then on
		if got := output(t, s.program("ssh", "-F", config, "box", "echo", "configured")); got != "configured\n" {
			t.Errorf("with the printed block: %q", got)
		}
		output(t, s.faas("ssh-config", "box"))
	}
	file := filepath.Join(s.dir, "made")
	output(t, s.faas("ssh-key", "create", "--instance", "box", "--name", "made", "--ttl", "1h", file))
	if got := output(t, s.ssh(file, "box@127.0.0.1", "echo made")); got != "made\n" {
		t.Errorf("with a key that was made: %q", got)
	}
	if code, out := exitCode(t, s.faas("ssh-key", "create", file)); code != 1 {
		t.Errorf("a file is overwritten: %d %q", code, out)
	}
	if code, out := exitCode(t, s.faas("ssh-key", "import", file)); code != 1 || !strings.Contains(out, "private key") {
		t.Errorf("a private key is sent: %d %q", code, out)
	}
	list := output(t, s.faas("ssh-key", "ls"))
	if strings.Count(list, "sshkey-") != 2 || !strings.Contains(list, "made") {
		t.Errorf("the list is\n%s", list)
	}
	for line := range strings.Lines(list) {
		if id, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(id, "sshkey-") {
			output(t, s.faas("ssh-key", "rm", id))
		}
	}
	if code, _ := exitCode(t, s.ssh(file, "box@127.0.0.1", "true")); code != 255 {
		t.Error("a removed key logs in")
	}
}
