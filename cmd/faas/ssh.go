package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/internal/sshkey"
)

// hostAlias is the name under which a server's host keys are known, whatever
// address it is reached at.
func hostAlias(about *api.SSHServer) string { return fmt.Sprintf("faas-%s-%d", about.Host, about.Port) }

type sshCommand struct {
	Server  string   `help:"Server to ask (default: api.url)." placeholder:"URL"`
	User    string   `short:"u" help:"User inside (default: root)." placeholder:"USER"`
	Tty     bool     `short:"t" help:"Give the command a terminal."`
	Local   []string `short:"L" name:"local" help:"Forward a port of this machine into the instance, as ssh does." placeholder:"SPEC" sep:"none"`
	Remote  []string `short:"R" name:"remote" help:"Forward a port of the instance to this machine, as ssh does." placeholder:"SPEC" sep:"none"`
	Dynamic []string `short:"D" name:"dynamic" help:"Serve SOCKS on a port of this machine, as ssh does." placeholder:"SPEC" sep:"none"`
	Agent   bool     `short:"A" name:"agent" help:"Forward the agent, where the server allows it."`
	NoShell bool     `short:"N" name:"no-shell" help:"Run nothing: forward ports only."`
	Option  []string `short:"o" help:"Further option for ssh." placeholder:"NAME=VALUE" sep:"none"`
	Builtin bool     `help:"Use the client in this program, not the system's ssh."`

	Instance string   `arg:"" help:"Instance, by id or name."`
	Command  []string `arg:"" optional:"" passthrough:"" help:"Command to run there (default: a shell)."`
}

// login is what one connection needs.
type login struct {
	about       *api.InstanceSSH
	private     crypto.Signer
	certificate string
}

// Run implements the command.
func (c *sshCommand) Run(line *commands) error {
	ctx := context.Background()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	l, err := newLogin(ctx, remote, c.Instance)
	if err != nil {
		return err
	}
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	program, err := exec.LookPath("ssh")
	if c.Builtin || err != nil {
		return c.builtin(l)
	}
	return c.system(ctx, program, l)
}

// remote returns the client of the server that a command asks, which has to be
// one: keys and connections are a server's.
func (c *commands) remote(url string) (*client.Client, error) {
	cfg, err := c.load(flag("--server", "api.url", url)...)
	if err != nil {
		return nil, err
	}
	if cfg.API.URL == "" {
		cfg.API.URL = client.DefaultURL
	}
	return server(cfg)
}

// newLogin makes a key for one connection and has the server sign it.
func newLogin(ctx context.Context, remote *client.Client, instance string) (*login, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	about, err := remote.InstanceSSH(ctx, instance)
	if err == nil {
		err = checkServer(&about.SSHServer, about.Username)
	}
	if err != nil {
		return nil, err
	}
	pair, err := sshkey.Generate("", 0)
	if err != nil {
		return nil, err
	}
	public, err := ssh.NewPublicKey(pair.Public())
	if err != nil {
		return nil, err
	}
	signed, err := remote.SignSSHKey(ctx, api.SSHSignRequest{
		PublicKey: sshkey.Line(public, ""), InstanceIDs: []string{about.InstanceID}, Name: "faas ssh",
	})
	if err != nil {
		return nil, err
	}
	return &login{about: about, private: pair, certificate: signed.Certificate}, nil
}

// checkServer refuses what a server tells of itself and ssh would take for more
// than a name: an option, or a further line of its files.
func checkServer(about *api.SSHServer, names ...string) error {
	words := append([]string{about.Host}, names...)
	for _, key := range about.HostKeys {
		words = append(words, strings.ReplaceAll(key.PublicKey, " ", ""))
	}
	for _, word := range words {
		if word == "" || word[0] == '-' || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return faas.Errorf(faas.KindFailedPrecondition, "the server tells of itself %q, which is no host, user or key", word)
		}
	}
	return nil
}

// userName is who ssh logs in as.
func (l *login) userName(inside string) string {
	if inside == "" {
		return l.about.Username
	}
	return inside + "+" + l.about.Username
}

// system runs the system's ssh with the login in files that go again.
func (c *sshCommand) system(ctx context.Context, program string, l *login) error {
	dir, err := os.MkdirTemp("", "faas-ssh-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text, err := sshkey.EncodePrivate(l.private, "faas")
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{
		"id": text, "id-cert.pub": l.certificate + "\n", "known_hosts": knownHosts(hostAlias(&l.about.SSHServer), l.about.HostKeys),
	} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	args := []string{
		"-F", "none", "-p", fmt.Sprint(l.about.Port), "-l", l.userName(c.User), "-i", path("id"),
		"-o", "CertificateFile=" + path("id-cert.pub"), "-o", "IdentitiesOnly=yes", "-o", "PasswordAuthentication=no",
		"-o", "UserKnownHostsFile=" + path("known_hosts"), "-o", "GlobalKnownHostsFile=none", "-o", "HostKeyAlias=" + hostAlias(&l.about.SSHServer),
		"-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=no", "-o", "LogLevel=ERROR",
	}
	for _, given := range []struct {
		name   string
		values []string
	}{{"-L", c.Local}, {"-R", c.Remote}, {"-D", c.Dynamic}, {"-o", c.Option}} {
		for _, value := range given.values {
			args = append(args, given.name, value)
		}
	}
	for _, given := range []struct {
		name string
		set  bool
	}{{"-A", c.Agent}, {"-N", c.NoShell}, {"-t", c.Tty}} {
		if given.set {
			args = append(args, given.name)
		}
	}
	args = append(args, l.about.Host)
	if len(c.Command) > 0 {
		args = append(args, "--", commandLine(c.Command))
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Interrupts are the other program's: it is in the same terminal.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, os.Interrupt)
	defer signal.Stop(ignored)
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitError(max(exit.ExitCode(), 1))
	}
	return err
}

// commandLine makes one line for a shell of arguments: one is a line already.
func commandLine(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " ")
}

func quote(arg string) string {
	plain := arg != "" && !strings.ContainsFunc(arg, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,@%+", r))
	})
	if plain {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// knownHosts are the lines by which ssh knows a server under an alias.
func knownHosts(alias string, keys []api.SSHHostKey) string {
	var lines strings.Builder
	for _, key := range keys {
		lines.WriteString(alias + " " + key.PublicKey + "\n")
	}
	return lines.String()
}

// sshDirectory is where this user's own key and known hosts for ssh-config
// are.
func (c *commands) sshDirectory() (string, error) {
	cfg, err := c.load()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(cfg.API.KeyFile), "ssh")
	return dir, os.MkdirAll(dir, 0o700)
}

type sshConfigCommand struct {
	Server    string   `help:"Server to ask (default: api.url)." placeholder:"URL"`
	Name      string   `help:"Key's name on the server." default:"ssh-config"`
	Instances []string `arg:"" help:"Instances, by id or name."`
}

// Run implements the command.
func (c *sshConfigCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	about, err := remote.SSHServer(ctx)
	if err == nil {
		err = checkServer(about)
	}
	if err != nil {
		return err
	}
	dir, err := line.sshDirectory()
	if err != nil {
		return err
	}
	identity := filepath.Join(dir, "id_ed25519")
	if err := c.ensureKey(ctx, remote, identity); err != nil {
		return err
	}
	hosts := filepath.Join(dir, "known_hosts")
	alias := hostAlias(about)
	if err := rememberHost(hosts, alias, about.HostKeys); err != nil {
		return err
	}
	for _, ref := range c.Instances {
		instance, err := remote.InstanceSSH(ctx, ref)
		if err != nil {
			return err
		}
		names := instance.InstanceID
		if ref != instance.InstanceID {
			names = ref + " " + names
		}
		printBlock(names, instance.Username, about, alias, identity, hosts)
	}
	return nil
}

// printBlock prints one block of an ssh_config.
func printBlock(names, user string, about *api.SSHServer, alias, identity, hosts string) {
	fmt.Printf("Host %s\n", names)
	for _, setting := range [][2]string{
		{"HostName", about.Host}, {"Port", fmt.Sprint(about.Port)}, {"User", user}, {"HostKeyAlias", alias},
		{"IdentityFile", configPath(identity)}, {"IdentitiesOnly", "yes"}, {"UserKnownHostsFile", configPath(hosts)},
	} {
		fmt.Printf("    %s %s\n", setting[0], setting[1])
	}
}

// configPath writes a path as ssh_config wants it.
func configPath(path string) string { return `"` + filepath.ToSlash(path) + `"` }

// ensureKey makes this user's own key when there is none, and has the server
// know it.
func (c *sshConfigCommand) ensureKey(ctx context.Context, remote *client.Client, path string) error {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		var pair crypto.Signer
		if pair, err = sshkey.Generate("", 0); err != nil {
			return err
		}
		var text string
		if text, err = sshkey.EncodePrivate(pair, "faas"); err != nil {
			return err
		}
		content = []byte(text)
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "%s is not a key that can be read: %w", path, err)
	}
	_, err = remote.CreateSSHKey(ctx, api.SSHKeyRequest{Name: c.Name, PublicKey: sshkey.Line(signer.PublicKey(), "")})
	if errors.Is(err, faas.ErrConflict) {
		return nil // it knows it
	}
	return err
}

// rememberHost puts a host's keys into a known_hosts file, in the place of
// those that were there under its alias.
func rememberHost(path, alias string, keys []api.SSHHostKey) error {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	lines := slices.DeleteFunc(strings.SplitAfter(string(content), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, alias+" ")
	})
	return os.WriteFile(path, []byte(strings.Join(lines, "")+knownHosts(alias, keys)), 0o600)
}
