// Command generator draws from every random source that a Go program has, once
// before a file appears and once after, and tells the clock and its addresses.
// Meanwhile it counts. It is started before a snapshot is taken and asked in
// the copies.
package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generator DIRECTORY")
		os.Exit(2)
	}
	dir := os.Args[1]
	draw() // so that whatever is kept ready is ready
	for n := 1; ; n++ {
		write(dir+"/n", fmt.Sprintln(n))
		write(dir+"/ready.go", "")
		if _, err := os.Stat(dir + "/go"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond) // many copies count at once
	}
	write(dir+"/drawn.go", draw()+places()+fmt.Sprintln("clock", time.Now().UnixMilli()))
	select {}
}

func draw() string {
	b := make([]byte, 16)
	rand.Read(b)
	file, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		file = nil // not there on every kernel
	}
	out := fmt.Sprintln("go crypto/rand", hex.EncodeToString(b))
	if len(file) > 0 {
		out += fmt.Sprintln("kernel uuid", strings.TrimSpace(string(file)))
	}
	return out
}

// places lists the addresses of the interfaces that lead outside.
func places() string {
	var b strings.Builder
	list, err := net.Interfaces()
	if err != nil {
		return ""
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) == 0 {
			continue
		}
		fmt.Fprintln(&b, "mac", i.HardwareAddr)
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			fmt.Fprintln(&b, "ip", a)
		}
	}
	return b.String()
}

func write(path, content string) {
	if err := os.WriteFile(path+".new", []byte(content), 0o644); err == nil {
		err = os.Rename(path+".new", path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
