//go:build unix

package cli

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
)

// terminal runs a program in a terminal of 100 by 40 cells and plays it a
// conversation: terminal FILE PROGRAM ARG…, where a line "> TEXT" of FILE is
// typed, "< TEXT" is waited for, "= COLS ROWS" resizes the terminal, and
// "! CODE" is the exit code. In TEXT, ^C is that key.
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	script := ts.ReadFile(args[0])
	cmd := exec.Command(args[1], args[2:]...)
	if args[1] == "faas" {
		cmd = exec.Command(binary, args[2:]...)
	}
	cmd.Env = environ(ts)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 100, Rows: 40})
	ts.Check(err)
	defer tty.Close()
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }) //nolint:errcheck // it may be gone
	defer timer.Stop()
	var seen lockedBuffer
	var copying sync.WaitGroup
	copying.Go(func() {
		piece := make([]byte, 4096)
		for {
			n, err := tty.Read(piece)
			_, _ = seen.Write(piece[:n]) //nolint:errcheck // a buffer's never fails
			if err != nil {
				return
			}
		}
	})
	want, at := 0, 0
	for line := range strings.Lines(script) {
		what, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch what {
		case ">":
			_, err := tty.Write([]byte(strings.ReplaceAll(text, "^C", "\x03") + "\r"))
			ts.Check(err)
		case "<":
			waitFor(ts, text+" in "+args[0], func() bool {
				i := strings.Index(seen.String()[at:], text)
				if i >= 0 {
					at += i + len(text)
				}
				return i >= 0
			})
		case "=":
			var size pty.Winsize
			_, err := fmt.Sscan(text, &size.Cols, &size.Rows)
			ts.Check(err)
			ts.Check(pty.Setsize(tty, &size))
		case "!":
			_, err := fmt.Sscan(text, &want)
			ts.Check(err)
		}
	}
	err = cmd.Wait()
	copying.Wait()
	_, _ = ts.Stdout().Write([]byte(seen.String())) //nolint:errcheck // a buffer's never fails
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, not %d (%v)\n%s", got, want, err, seen.String())
	}
}
