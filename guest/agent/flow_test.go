//go:build linux

package agent_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas/guest"
)

func TestLargeOutputIsWholeAndMemoryFlat(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	for _, multiplex := range []bool{false, true} {
		t.Run(fmt.Sprint("multiplex=", multiplex), func(t *testing.T) {
			p := startProgram(t)
			c := p.client(multiplex)
			sum := sha256.New()
			var n counter
			command := fmt.Sprintf("yes 'all work and no play' | head -c %d", size)
			exit, err := c.Run(testContext(t), guest.Command{Args: []string{"sh", "-c", command}}, nil, io.MultiWriter(sum, &n), nil)
			if err != nil || exit.Code != 0 || int64(n) != size {
				t.Fatal(exit, n, err)
			}
			want, err := exec.Command("sh", "-c", command+" | sha256sum").Output()
			if err != nil || !strings.HasPrefix(string(want), fmt.Sprintf("%x", sum.Sum(nil))) {
				t.Fatalf("sum %x, want %s, %v", sum.Sum(nil), want, err)
			}
			if peak := p.peakRSS(); peak > 16<<20 {
				t.Errorf("the agent took %d KiB", peak>>10)
			}
		})
	}
}

// peakRSS is the most memory that the agent had resident, in bytes.
func (p *program) peakRSS() int64 { return p.status("VmHWM:") }

func (p *program) status(field string) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), field)
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return kb << 10
}

func TestIdleAgentIsSmall(t *testing.T) {
	p := startProgram(t)
	c := p.client(false)
	var out bytes.Buffer
	if _, err := c.Run(testContext(t), guest.Command{Args: []string{"seq", "100000"}}, nil, &out, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	waitFor(t, func() bool { return p.status("VmRSS:") < 6<<20 })
	t.Logf("resident when idle: %d KiB", p.status("VmRSS:")>>10)
}

// TestStalledReader leaves one output unread while others flow, and then
// reads it whole.
func TestStalledReader(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		const lines = 1_000_000 // several times every buffer on the way
		e, err := c.Start(ctx, guest.Command{Args: []string{"sh", "-c", fmt.Sprintf("echo err >&2; seq %d", lines)}})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if _, err := io.ReadFull(e.Stderr, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		// The command has filled its window and its pipe when it stops.
		start := time.Now()
		for range 50 {
			if got := output(t, c, guest.Command{Args: []string{"echo", "other"}}); got != "other\n" {
				t.Fatal(got)
			}
		}
		if took := time.Since(start) / 50; took > 200*time.Millisecond {
			t.Errorf("a neighbour took %v", took)
		}
		want := sha256.New()
		for i := 1; i <= lines; i++ {
			fmt.Fprintln(want, i)
		}
		got := sha256.New()
		n, err := io.Copy(got, e.Stdout)
		if err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Fatal(n, err)
		}
		if exit, err := e.Wait(ctx); err != nil || exit.Code != 0 {
			t.Fatal(exit, err)
		}
	})
}

func TestStalledInput(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{Args: []string{"sleep", "100"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		written := make(chan error, 1)
		go func() {
			_, err := e.Stdin.Write(make([]byte, 8<<20))
			written <- err
		}()
		output(t, c, guest.Command{Args: []string{"true"}})
		select {
		case err := <-written:
			t.Fatalf("nobody reads, and yet it was written: %v", err)
		default:
		}
		e.Close()
		if err := <-written; err == nil {
			t.Fatal("no error from a closed input")
		}
	})
}

func TestInputIsWhole(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		in := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		var out bytes.Buffer
		exit, err := c.Run(testContext(t), guest.Command{Args: []string{"cat"}}, bytes.NewReader(in), &out, nil)
		if err != nil || exit.Code != 0 || !bytes.Equal(in, out.Bytes()) {
			t.Fatal(exit, out.Len(), err)
		}
	})
}

func TestManyCommandsAtOnce(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				var out bytes.Buffer
				exit, err := c.Run(testContext(t), guest.Command{Args: []string{"sh", "-c", fmt.Sprintf("seq 1000; exit %d", i)}}, nil, &out, nil)
				if err != nil || exit.Code != i || out.Len() != 3893 {
					t.Errorf("%d: %+v, %d bytes, %v", i, exit, out.Len(), err)
				}
			})
		}
		wg.Wait()
	})
}

// TestQuiesce takes connections away under a running command, several times,
// and finds its streams whole.
func TestQuiesce(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{Args: []string{"sh", "-c", "while read l; do echo $l; echo e$l >&2; done; exit 4"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		const lines = 20000
		var copies sync.WaitGroup
		copies.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintln(e.Stdin, i); err != nil {
					t.Error(err)
					return
				}
			}
			e.Stdin.Close()
		})
		var stdout, stderr bytes.Buffer
		copies.Go(func() {
			if _, err := io.Copy(&stdout, e.Stdout); err != nil {
				t.Error(err)
			}
		})
		copies.Go(func() {
			if _, err := io.Copy(&stderr, e.Stderr); err != nil {
				t.Error(err)
			}
		})
		for range 5 {
			if err := c.Quiesce(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.Resume(ctx); err != nil {
				t.Fatal(err)
			}
		}
		copies.Wait()
		if exit, err := e.Wait(ctx); err != nil || exit.Code != 4 {
			t.Fatal(exit, err)
		}
		var want, wantErr bytes.Buffer
		for i := range lines {
			fmt.Fprintln(&want, i)
			fmt.Fprintf(&wantErr, "e%d\n", i)
		}
		if !bytes.Equal(stdout.Bytes(), want.Bytes()) || !bytes.Equal(stderr.Bytes(), wantErr.Bytes()) {
			t.Fatalf("stdout %d bytes, want %d; stderr %d, want %d", stdout.Len(), want.Len(), stderr.Len(), wantErr.Len())
		}
	})
}

// TestQuiesceWithStalledReader shows that a reader that does not read holds
// up no checkpoint, and loses nothing.
func TestQuiesceWithStalledReader(t *testing.T) {
	eachTransport(t, func(t *testing.T, c *guest.Client) {
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{Args: []string{"seq", "1000000"}})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		for range 3 {
			if err := c.Quiesce(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Hello(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var n counter
		if _, err := io.Copy(&n, e.Stdout); err != nil || n != 6888896 {
			t.Fatal(n, err)
		}
	})
}

// TestQuiesceLeavesNoConnection counts the agent's sockets.
func TestQuiesceLeavesNoConnection(t *testing.T) {
	for _, multiplex := range []bool{false, true} {
		p := startProgram(t)
		c := p.client(multiplex)
		ctx := testContext(t)
		e, err := c.Start(ctx, guest.Command{Args: []string{"sleep", "100"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		output(t, c, guest.Command{Args: []string{"true"}})
		if err := c.Quiesce(ctx); err != nil {
			t.Fatal(err)
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		sockets := 0
		for _, fd := range fds {
			if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.cmd.Process.Pid, fd.Name())); err == nil && strings.HasPrefix(to, "socket:") {
				sockets++
			}
		}
		if sockets != 1 {
			t.Errorf("%d sockets, want the listening one", sockets)
		}
		if err := c.Resume(ctx); err != nil {
			t.Fatal(err)
		}
		e.Close()
	}
}
