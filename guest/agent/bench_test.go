//go:build linux

package agent_test

import (
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/faas-platform/faas/guest"
)

// eachBench runs a benchmark against the agent as its own program, over one
// connection per operation and over one for all.
func eachBench(b *testing.B, f func(b *testing.B, c *guest.Client)) {
	for _, multiplex := range []bool{false, true} {
		name := "connections"
		if multiplex {
			name = "multiplexed"
		}
		b.Run(name, func(b *testing.B) {
			c := guest.NewClient(startProgram(b).dial, guest.Options{Secret: secret, Multiplex: multiplex})
			defer c.Close()
			if _, err := c.Hello(testContext(b)); err != nil {
				b.Fatal(err)
			}
			f(b, c)
		})
	}
}

// BenchmarkSpawn is what starting a process costs by itself.
func BenchmarkSpawn(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRunTrue(b *testing.B) {
	eachBench(b, func(b *testing.B, c *guest.Client) {
		for b.Loop() {
			if _, err := c.Run(b.Context(), guest.Command{Args: []string{"/bin/true"}}, nil, io.Discard, io.Discard); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHello(b *testing.B) {
	eachBench(b, func(b *testing.B, c *guest.Client) {
		for b.Loop() {
			if _, err := c.Hello(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkConnect is a first call: dial, handshake, request.
func BenchmarkConnect(b *testing.B) {
	p := startProgram(b)
	for b.Loop() {
		c := guest.NewClient(p.dial, guest.Options{Secret: secret})
		if _, err := c.Hello(b.Context()); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

const gigabyte = 1 << 30

func BenchmarkOutput1G(b *testing.B) {
	eachBench(b, func(b *testing.B, c *guest.Client) {
		b.SetBytes(gigabyte)
		for b.Loop() {
			var n counter
			_, err := c.Run(b.Context(), guest.Command{Args: []string{"head", "-c", "1G", "/dev/zero"}}, nil, &n, io.Discard)
			if err != nil || n != gigabyte {
				b.Fatal(n, err)
			}
		}
	})
}

func BenchmarkInput1G(b *testing.B) {
	eachBench(b, func(b *testing.B, c *guest.Client) {
		zero, err := os.Open("/dev/zero")
		if err != nil {
			b.Fatal(err)
		}
		defer zero.Close()
		b.SetBytes(gigabyte)
		for b.Loop() {
			_, err := c.Run(b.Context(), guest.Command{Args: []string{"sh", "-c", "exec cat >/dev/null"}}, io.LimitReader(zero, gigabyte), io.Discard, io.Discard)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPipe1G is what the kernel makes of the same without the protocol:
// the command writes to a pipe that this program reads.
func BenchmarkPipe1G(b *testing.B) {
	b.SetBytes(gigabyte)
	for b.Loop() {
		cmd := exec.Command("head", "-c", "1G", "/dev/zero")
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		var n counter
		if _, err := io.CopyBuffer(&n, onlyReader{out}, make([]byte, 128<<10)); err != nil || n != gigabyte {
			b.Fatal(n, err)
		}
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

type onlyReader struct{ io.Reader }

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
