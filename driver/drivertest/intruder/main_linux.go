// The intruder is what the conformance suite runs as root inside a sandbox:
// small servers that images may lack, and attacks on the way to the agent.
//
//	intruder echo NETWORK ADDRESS    echo what every connection sends
//	intruder pour NETWORK ADDRESS    send without end to every connection
//	intruder dial "NETWORK ADDRESS"… try each and say whether it answered
//	intruder addresses               print the addresses of all interfaces
//	intruder trace PID               try to trace a process and read its memory
//	intruder harass-agent            abuse every socket in sight, for ever
//	intruder everything DIRECTORY    use all that a snapshot must bring back
//	intruder repeat                  say again what comes, for everything
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("no command"))
	}
	args := os.Args[2:]
	var err error
	switch os.Args[1] {
	case "echo":
		err = serve(args, func(c net.Conn) { io.Copy(c, c) }) //nolint:errcheck // ends with the connection
	case "pour":
		err = serve(args, pour)
	case "dial":
		err = dial(args)
	case "addresses":
		err = addresses()
	case "trace":
		err = trace(args)
	case "everything":
		err = haveEverything(args)
	case "repeat":
		_, err = io.Copy(os.Stdout, os.Stdin)
	case "harass-agent":
		err = harass()
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "intruder:", err)
	os.Exit(1)
}

func serve(args []string, handle func(net.Conn)) error {
	if len(args) != 2 {
		return fmt.Errorf("want NETWORK ADDRESS")
	}
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close() //nolint:errcheck // served
			handle(c)
		}()
	}
}

func pour(c net.Conn) {
	block := make([]byte, 64<<10)
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// dial tries all targets at once. Over UDP a connection says nothing, so an
// answer or the lack of a route tells.
func dial(targets []string) error {
	var wg sync.WaitGroup
	for _, target := range targets {
		wg.Go(func() {
			network, address, _ := strings.Cut(target, " ")
			if strings.HasPrefix(address, "@") {
				address = "\x00" + address[1:]
			}
			if err := try(network, address); err != nil {
				fmt.Printf("%s: refused: %v\n", target, err)
			} else {
				fmt.Printf("%s: connected\n", target)
			}
		})
	}
	wg.Wait()
	fmt.Println("done")
	return nil
}

func try(network, address string) error {
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // only whether it opened counts
	if network != "udp" {
		return nil
	}
	c.SetDeadline(time.Now().Add(2 * time.Second)) //nolint:errcheck // a real connection has deadlines
	if _, err := c.Write([]byte("anyone?")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 16))
	return err
}

func addresses() error {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range list {
		if ip, ok := a.(*net.IPNet); ok {
			fmt.Println(ip.IP)
		}
	}
	return nil
}

// trace tries the ways to another process's memory.
func trace(args []string) error {
	var pid int
	if len(args) != 1 {
		return fmt.Errorf("want PID")
	}
	if _, err := fmt.Sscan(args[0], &pid); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := syscall.PtraceAttach(pid); err == nil {
		return fmt.Errorf("attached to process %d", pid)
	}
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), flag, 0)
		if err != nil {
			continue
		}
		defer f.Close() //nolint:errcheck // nothing was written
		return fmt.Errorf("opened the memory of process %d", pid)
	}
	fmt.Println("refused")
	return nil
}
