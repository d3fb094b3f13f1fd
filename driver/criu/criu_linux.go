package criu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// maxResponse bounds one message of CRIU's, which sends them in single
// packets: answers hold numbers and short texts.
const maxResponse = 64 << 10

// logFile is what CRIU writes its log to, in the operation's work directory.
const logFile = "criu.log"

// Tool is an installed CRIU.
type Tool struct {
	Path string // of the program
	// Command makes the command that runs CRIU, and what to call once it has
	// been started; nil: exec.Command. A caller that needs CRIU in other
	// control groups sets it.
	Command func(path string, args ...string) (*exec.Cmd, func() error, error)
}

// Hook is called by CRIU in the middle of an operation, with the process id
// that it concerns where there is one. An error ends the operation.
type Hook func(pid int) error

// Hooks by CRIU's names of them: "post-dump" runs while the source is still
// stopped, "setup-namespaces" when a restored tree's namespaces exist and
// nothing in them does, "post-restore" when all is restored and nothing runs.
type Hooks map[string]Hook

// Version returns CRIU's version, 40201 for 4.2.1.
func (t *Tool) Version(ctx context.Context) (int, error) {
	resp, err := t.do(ctx, rpc.CriuReqType_VERSION, nil, nil)
	if err != nil {
		return 0, err
	}
	v := resp.GetVersion()
	return int(v.GetMajorNumber()*10000 + v.GetMinorNumber()*100 + v.GetSublevel()), nil
}

// Dump saves a process tree. The image and work directories in opts are
// filled in.
func (t *Tool) Dump(ctx context.Context, images string, opts *rpc.CriuOpts, hooks Hooks) error {
	_, err := t.withDir(ctx, images, images, rpc.CriuReqType_DUMP, opts, hooks)
	return err
}

// Restore restores a process tree and returns the id of its root. CRIU's log
// goes to work, since images may be shared by many restores at once.
func (t *Tool) Restore(ctx context.Context, images, work string, opts *rpc.CriuOpts, hooks Hooks) (int, error) {
	resp, err := t.withDir(ctx, images, work, rpc.CriuReqType_RESTORE, opts, hooks)
	if err != nil {
		return 0, err
	}
	return int(resp.GetRestore().GetPid()), nil
}

// withDir hands the directories over as descriptors of this process, which
// CRIU opens through /proc: paths would be resolved in its own working
// directory and root.
func (t *Tool) withDir(ctx context.Context, images, work string, kind rpc.CriuReqType, opts *rpc.CriuOpts, hooks Hooks) (*rpc.CriuResp, error) {
	dir, err := os.Open(images)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	workDir, err := os.Open(work)
	if err != nil {
		return nil, err
	}
	defer workDir.Close()
	imagesFD, workFD := int32(dir.Fd()), int32(workDir.Fd())
	opts.ImagesDirFd, opts.WorkDirFd = &imagesFD, &workFD
	log := logFile
	if opts.LogFile == nil {
		opts.LogFile = &log
	}
	resp, err := t.do(ctx, kind, opts, hooks)
	if err != nil && !errors.Is(err, ctx.Err()) {
		err = withLog(err, filepath.Join(work, opts.GetLogFile()))
	}
	return resp, err
}

func (t *Tool) do(ctx context.Context, kind rpc.CriuReqType, opts *rpc.CriuOpts, hooks Hooks) (*rpc.CriuResp, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("criu: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "criu"), os.NewFile(uintptr(fds[1]), "criu peer")
	defer ours.Close()
	if err := unix.SetNonblock(fds[1], false); err != nil { // CRIU waits in its reads
		return nil, errors.Join(fmt.Errorf("criu: %w", err), theirs.Close())
	}
	cmd, release, err := t.command("swrk", "3")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", t.Path, err), theirs.Close())
	}
	cmd.ExtraFiles = []*os.File{theirs}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &limited{&output}, &limited{&output}
	cmd.WaitDelay = time.Second // a restored tree may hold its output open
	err = cmd.Start()
	theirs.Close()
	release() //nolint:errcheck // it was needed for the start only
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", t.Path, err)
	}
	stop := context.AfterFunc(ctx, func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended by itself
		ours.Close()       // ends a read that waits
	})
	resp, err := converse(ours, &rpc.CriuReq{Type: &kind, Opts: opts}, kind, hooks)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	ours.Close()
	waitErr := cmd.Wait()
	if err != nil {
		if output.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(output.String()))
		}
		return resp, errors.Join(fmt.Errorf("criu: %w", err), waitErr)
	}
	return resp, nil
}

func (t *Tool) command(args ...string) (*exec.Cmd, func() error, error) {
	if t.Command != nil {
		return t.Command(t.Path, args...)
	}
	return exec.Command(t.Path, args...), func() error { return nil }, nil
}

// converse sends a request and serves CRIU's notifications until its answer.
func converse(conn *os.File, req *rpc.CriuReq, kind rpc.CriuReqType, hooks Hooks) (*rpc.CriuResp, error) {
	if hooks != nil {
		yes := true
		req.Opts.NotifyScripts = &yes
	}
	buf := make([]byte, maxResponse)
	for {
		b, err := req.MarshalVT()
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(b); err != nil {
			return nil, fmt.Errorf("send request: %w", err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("it ended without an answer: %w", err)
		}
		resp := new(rpc.CriuResp)
		if err := resp.UnmarshalVT(buf[:n]); err != nil {
			return nil, fmt.Errorf("read answer: %w", err)
		}
		switch {
		case resp.GetType() == rpc.CriuReqType_NOTIFY:
			hookErr := runHook(hooks, resp.GetNotify())
			ok, notify := hookErr == nil, rpc.CriuReqType_NOTIFY
			req = &rpc.CriuReq{Type: &notify, NotifySuccess: &ok}
			if hookErr != nil {
				return nil, errors.Join(hookErr, refuse(conn, req, buf))
			}
		case !resp.GetSuccess():
			return resp, failure(kind, resp)
		case resp.GetType() != kind:
			return resp, fmt.Errorf("it answered %v to %v", resp.GetType(), kind)
		default:
			return resp, nil
		}
	}
}

func runHook(hooks Hooks, n *rpc.CriuNotify) error {
	hook := hooks[n.GetScript()]
	if hook == nil {
		return nil
	}
	if err := hook(int(n.GetPid())); err != nil {
		return fmt.Errorf("%s: %w", n.GetScript(), err)
	}
	return nil
}

// refuse tells CRIU that a hook failed and waits until it has undone its
// work.
func refuse(conn *os.File, req *rpc.CriuReq, buf []byte) error {
	b, err := req.MarshalVT()
	if err != nil {
		return err
	}
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("send refusal: %w", err)
	}
	_, _ = conn.Read(buf) // its answer, or its end: either way it is done
	return nil
}

func failure(kind rpc.CriuReqType, resp *rpc.CriuResp) error {
	text := strings.ToLower(kind.String()) + " failed"
	if m := resp.GetCrErrmsg(); m != "" {
		text += ": " + strings.TrimSpace(m)
	}
	if no := resp.GetCrErrno(); no != 0 {
		text += " (" + strconv.Itoa(int(no)) + ")"
	}
	return errors.New(text)
}

// withLog adds the first errors of CRIU's log: the last ones only say that it
// gave up.
func withLog(err error, path string) error {
	f, openErr := os.Open(path)
	if openErr != nil {
		return err
	}
	defer f.Close()
	var lines []string
	for scanner := bufio.NewScanner(f); scanner.Scan() && len(lines) < 4; {
		if _, text, ok := strings.Cut(scanner.Text(), "Error "); ok {
			lines = append(lines, text)
		}
	}
	if len(lines) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(lines, "; "))
}

// limited keeps the first bytes that a program writes.
type limited struct{ buf *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	const most = 4 << 10
	l.buf.Write(p[:max(0, min(len(p), most-l.buf.Len()))])
	return len(p), nil
}
