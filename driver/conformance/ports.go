package conformance

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func portChecks() []Check {
	ports := []faas.Feature{faas.FeaturePorts}
	return []Check{
		{Name: "ports/tcp", Features: ports, UserFacing: true, Run: checkPortTCP},
		{Name: "ports/unix", Features: ports, Program: true, Run: checkPortUnix},
		{Name: "ports/many", Features: ports, Program: true, Run: checkPortMany},
		{Name: "ports/refused", Features: ports, UserFacing: true, Run: checkPortRefused},
	}
}

// intruder is where installProgram puts the program, seen from the root.
const intruder = "./tmp/intruder"

// installProgram uploads the intruder program.
func (e *Env) installProgram(ctx context.Context, b *box) error {
	f, err := os.Open(e.Program)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	if _, err := b.client.WriteFile(ctx, "/tmp/intruder", f, guest.WriteOptions{Mode: 0o755}); err != nil {
		return fmt.Errorf("upload the intruder program: %w", err)
	}
	return nil
}

// withProgram makes a sandbox that holds the intruder program.
func (e *Env) withProgram(ctx context.Context, change ...func(*faas.Spec)) (*box, error) {
	b, err := e.create(ctx, change...)
	if err != nil {
		return nil, err
	}
	return b, e.installProgram(ctx, b)
}

// echoServers are ways to echo lines on 127.0.0.1:8099 with what an image may
// hold; the first whose program is there is taken.
const echoServers = `
if command -v python3 >/dev/null; then
	exec python3 -c '
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", 8099)); s.listen(); print("listening", flush=True)
while True:
    c = s.accept()[0]
    while True:
        d = c.recv(4096)
        if not d: break
        c.sendall(d)
    c.close()'
elif command -v perl >/dev/null; then
	exec perl -MIO::Socket::INET -e '
$| = 1; $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:8099", Listen => 5, ReuseAddr => 1) or die $!;
print "listening\n";
while ($c = $s->accept) { while (sysread($c, $d, 4096)) { syswrite($c, $d) } close $c }'
elif nc --help 2>&1 | grep -q BusyBox; then
	echo listening; exec nc -lk -s 127.0.0.1 -p 8099 -e cat
fi
echo no-server`

// echoServer starts a server on 127.0.0.1:8099 inside.
func (e *Env) echoServer(ctx context.Context, b *box) (*running, error) {
	cmd := guest.Command{Args: []string{"sh", "-c", echoServers}}
	if e.Program != "" {
		if err := e.installProgram(ctx, b); err != nil {
			return nil, err
		}
		cmd.Args = []string{intruder, "echo", "tcp", "127.0.0.1:8099"}
	}
	run, err := b.start(ctx, cmd)
	if err != nil {
		return nil, err
	}
	err = eventually(ctx, func() error {
		switch out := run.stdout.String(); {
		case strings.Contains(out, "listening\n"):
			return nil
		case strings.Contains(out, "no-server\n"):
			return nil
		default:
			return fmt.Errorf("no server listens yet: stdout %q, stderr %q", out, run.stderr.String())
		}
	})
	if err == nil && strings.Contains(run.stdout.String(), "no-server\n") {
		err = skipError("the image has no python3, perl or BusyBox nc to listen with")
	}
	if err != nil {
		run.Close() //nolint:errcheck // the first error counts
		return nil, err
	}
	return run, nil
}

// echo sends a line over a new connection to a port inside and wants it back.
func (b *box) echo(ctx context.Context, network, address, line string) error {
	var conn net.Conn
	dial := func() (err error) {
		conn, err = b.client.DialPort(ctx, network, address)
		return err
	}
	if err := eventually(ctx, dial); err != nil {
		return fmt.Errorf("dial %s inside: %w", address, err)
	}
	defer conn.Close() //nolint:errcheck // the echo is what counts
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline) //nolint:errcheck // a connection without deadlines is bounded by the check
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return fmt.Errorf("write to %s inside: %w", address, err)
	}
	got, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || got != line+"\n" {
		return fmt.Errorf("echo from %s inside: %q, %w", address, got, err)
	}
	return nil
}

func checkPortTCP(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := env.echoServer(ctx, b)
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	for i := range 5 {
		if err := b.echo(ctx, "tcp", "127.0.0.1:8099", fmt.Sprintf("line %d", i)); err != nil {
			return err
		}
	}
	return nil
}

func checkPortUnix(ctx context.Context, env *Env) error {
	b, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	run, err := b.start(ctx, guest.Command{Args: []string{intruder, "echo", "unix", "tmp/server.sock"}})
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	if err := run.await(ctx, "listening\n"); err != nil {
		return err
	}
	return b.echo(ctx, "unix", "/tmp/server.sock", "over a unix socket")
}

func checkPortMany(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	run, err := env.echoServer(ctx, b)
	if err != nil {
		return err
	}
	defer run.Close() //nolint:errcheck // the server is killed
	return parallel(32, func(i int) error {
		return b.echo(ctx, "tcp", "127.0.0.1:8099", fmt.Sprintf("connection %d", i))
	})
}

func checkPortRefused(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	conn, err := b.client.DialPort(ctx, "tcp", "127.0.0.1:8098")
	if err == nil {
		conn.Close() //nolint:errcheck // it should not be there
	}
	if err := wantKind("a port where nothing listens", err, faas.KindUnavailable, faas.KindNotFound, faas.KindFailedPrecondition); err != nil {
		return err
	}
	if took := time.Since(start); took > 10*time.Second {
		return fmt.Errorf("a refused port took %v", took)
	}
	_, err = b.client.DialPort(ctx, "nonsense", "x")
	return wantKind("an unknown kind of network", err, faas.KindInvalidArgument)
}
