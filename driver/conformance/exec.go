package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func execChecks() []Check {
	return []Check{
		{Name: "exec/streams", UserFacing: true, Run: checkStreams},
		{Name: "exec/stdin", UserFacing: true, Run: checkStdin},
		{Name: "exec/stdin-empty", Run: checkStdinEmpty},
		{Name: "exec/exit-codes", UserFacing: true, Run: checkExitCodes},
		{Name: "exec/ended-by-signal", Run: checkEndedBySignal},
		{Name: "exec/signal-to-group", UserFacing: true, Run: checkSignalToGroup},
		{Name: "exec/environment", UserFacing: true, Run: checkEnvironment},
		{Name: "exec/working-directory", Isolates: true, Run: checkWorkingDirectory},
		{Name: "exec/user", Isolates: true, UserFacing: true, Run: checkUser},
		{Name: "exec/command-missing", Run: checkCommandMissing},
		{Name: "exec/binary-output", Run: checkBinaryOutput},
		{Name: "exec/large-output", UserFacing: true, Run: checkLargeOutput},
		{Name: "exec/parallel", UserFacing: true, Run: checkParallel},
		{Name: "exec/usage", Run: checkUsage},
	}
}

func checkStreams(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, `echo out; echo err >&2; printf 'no newline'`)
	if err != nil {
		return err
	}
	if out.stdout != "out\nno newline" || out.stderr != "err\n" || out.Code != 0 {
		return fmt.Errorf("stdout %q, stderr %q, exit code %d", out.stdout, out.stderr, out.Code)
	}
	return nil
}

func checkStdin(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	data := make([]byte, 3<<20+17)
	rand.Read(data) //nolint:errcheck // never fails
	cmd := guest.Command{Args: []string{"sha256sum"}}
	out, err := b.run(ctx, cmd, bytes.NewReader(data))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	if want := hex.EncodeToString(sum[:]); !strings.HasPrefix(out.stdout, want) {
		return fmt.Errorf("sha256sum of %d bytes of standard input is %q, want %s (stderr %q)",
			len(data), out.stdout, want, out.stderr)
	}
	return nil
}

func checkStdinEmpty(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	return b.expect(ctx, "cat; echo end", "end")
}

func checkExitCodes(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for _, code := range []int{0, 1, 42, 255} {
		out, err := b.shell(ctx, "exit "+strconv.Itoa(code))
		if err != nil {
			return err
		}
		if out.Code != code || out.Signal != "" || out.TimedOut {
			return fmt.Errorf("`exit %d` ended as %+v", code, out.Exit)
		}
	}
	return nil
}

func checkEndedBySignal(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for name, number := range map[string]int{"TERM": 15, "KILL": 9} {
		out, err := b.shell(ctx, "kill -"+name+" $$")
		if err != nil {
			return err
		}
		if out.Code != 128+number || out.Signal != "SIG"+name {
			return fmt.Errorf("a command that sent itself SIG%s ended as %+v", name, out.Exit)
		}
	}
	return nil
}

// signalUser1 is Linux's SIGUSR1, which not every host's system names.
const signalUser1 = syscall.Signal(10)

// checkSignalToGroup has a child and its parent each note the signal.
func checkSignalToGroup(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const script = `
sh -c 'trap "echo child; exit" USR1; echo ready; while :; do sleep 0.05; done' &
trap 'wait; echo parent; exit 7' USR1
echo ready
while :; do sleep 0.05; done`
	run, err := b.start(ctx, guest.Command{Args: []string{"sh", "-c", script}})
	if err != nil {
		return err
	}
	defer run.Close()
	if err := run.await(ctx, "ready\nready\n"); err != nil {
		return err
	}
	if err := run.Signal(ctx, signalUser1); err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	exit, err := run.Wait(ctx)
	if err != nil {
		return err
	}
	if err := run.await(ctx, "child\nparent\n"); err != nil {
		return err
	}
	if exit.Code != 7 {
		return fmt.Errorf("exit code %d, want 7", exit.Code)
	}
	return nil
}

func checkEnvironment(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) {
		s.Env = map[string]string{"FROM_SPEC": "spec", "BOTH": "spec"}
	})
	if err != nil {
		return err
	}
	cmd := guest.Command{
		Args: []string{"sh", "-c", `echo "$FROM_SPEC $BOTH $FROM_COMMAND"; test -n "$PATH" && command -v sh >/dev/null && echo path`},
		Env:  []string{"BOTH=command", "FROM_COMMAND=a b=c"},
	}
	out, err := b.run(ctx, cmd, nil)
	if err != nil {
		return err
	}
	if want := "spec command a b=c\npath\n"; out.stdout != want {
		return fmt.Errorf("the environment gave %q, want %q", out.stdout, want)
	}
	return b.expect(ctx, `echo "$FROM_SPEC${FROM_COMMAND-unset}"`, "specunset")
}

func checkWorkingDirectory(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for dir, want := range map[string]string{"": "/", "/tmp": "/tmp", "/tmp/made/when missing": "/tmp/made/when missing"} {
		out, err := b.run(ctx, guest.Command{Args: []string{"pwd"}, Dir: dir}, nil)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out.stdout) != want {
			return fmt.Errorf("pwd in directory %q is %q, want %q", dir, out.stdout, want)
		}
	}
	return nil
}

func checkUser(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for user, want := range map[string]string{"": "0:0", "1234:2345": "1234:2345", "1234": "1234:", "root": "0:0"} {
		out, err := b.run(ctx, guest.Command{Args: []string{"sh", "-c", `echo "$(id -u):$(id -g)"`}, User: user}, nil)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out.stdout, want) {
			return fmt.Errorf("user %q runs as %q, want %q (stderr %q)", user, out.stdout, want, out.stderr)
		}
	}
	_, err = b.run(ctx, guest.Command{Args: []string{"true"}, User: "nobody-has-this-name"}, nil)
	return wantKind("a user that the image does not have", err, faas.KindInvalidArgument, faas.KindNotFound)
}

func checkCommandMissing(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "echo text > tmp/not-executable; echo made", "made"); err != nil {
		return err
	}
	kinds := []faas.Kind{faas.KindNotFound, faas.KindInvalidArgument, faas.KindFailedPrecondition, faas.KindPermissionDenied}
	for _, args := range [][]string{{"no-such-command-here"}, {"/no/such/path"}, {"/tmp"}, {"./tmp/not-executable"}, {""}, {}} {
		_, err := b.run(ctx, guest.Command{Args: args}, nil)
		if err := wantKind(fmt.Sprintf("command %q", args), err, kinds...); err != nil {
			return err
		}
	}
	return b.alive(ctx)
}

func checkBinaryOutput(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	out, err := b.run(ctx, guest.Command{Args: []string{"cat"}}, bytes.NewReader(data))
	if err != nil {
		return err
	}
	if out.stdout != string(data) {
		return fmt.Errorf("cat gave back %d bytes that differ from the %d sent", len(out.stdout), len(data))
	}
	return nil
}

// largeOutput is more than every buffer on the way together.
const largeOutput = 96 << 20

func checkLargeOutput(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	var n counter
	cmd := guest.Command{Args: []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero", largeOutput)}}
	exit, err := b.client.Run(ctx, cmd, nil, &n, io.Discard)
	if err != nil {
		return err
	}
	if n != largeOutput || exit.Code != 0 {
		return fmt.Errorf("%d bytes of output arrived of %d (exit code %d)", n, largeOutput, exit.Code)
	}
	return nil
}

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func checkParallel(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	return parallel(24, func(i int) error {
		want := fmt.Sprintf("stream %d", i)
		return b.expect(ctx, "sleep 0.1; echo "+want, want)
	})
}

func checkUsage(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	out, err := b.shell(ctx, "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; sleep 0.2")
	if err != nil {
		return err
	}
	if out.CPU <= 0 || out.Duration < out.CPU/2 || out.MaxRSS <= 0 {
		return fmt.Errorf("usage of a busy command is %+v", out.Exit)
	}
	return nil
}
