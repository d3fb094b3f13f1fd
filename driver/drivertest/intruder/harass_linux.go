package main

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// attackers is how many connections are under way at once.
const attackers = 24

// harass abuses every unix socket that it can find, by path or by name, and
// the ports of this machine, in several ways at once and for ever. It prints
// "answered" when one of them says more than a greeting.
func harass() error {
	targets := sockets()
	fmt.Printf("targets: %q\n", targets)
	fmt.Println("harassing")
	if len(targets) == 0 {
		select {} // Nothing leads out. The caller ends it.
	}
	var answers atomic.Int64
	attacks := []func(net.Conn){garbage, lyingSize, silence, floods}
	for i := range attackers {
		go func() {
			for n := i; ; n++ {
				if attack(targets[n%len(targets)], attacks[n/len(targets)%len(attacks)]) > greeting && answers.Add(1) == 1 {
					fmt.Println("answered")
				}
			}
		}()
	}
	select {}
}

// greeting is more than an agent says before it knows its peer.
const greeting = 4096

// attack dials and returns how many bytes came back.
func attack(target string, abuse func(net.Conn)) int {
	network, address, _ := strings.Cut(target, " ")
	c, err := net.DialTimeout(network, address, time.Second)
	if err != nil {
		time.Sleep(10 * time.Millisecond) // a refused target is not worth a core
		return 0
	}
	defer c.Close()                                // nothing to save
	c.SetDeadline(time.Now().Add(2 * time.Second)) // a real connection has deadlines
	heard := make(chan int, 1)
	go func() {
		n, buf := 0, make([]byte, 4096)
		for {
			m, err := c.Read(buf)
			n += m
			if err != nil {
				heard <- n
				return
			}
		}
	}()
	abuse(c)
	c.Close()
	return <-heard
}

func garbage(c net.Conn) {
	noise := make([]byte, 64<<10)
	rand.Read(noise)
	c.Write(noise)
}

// lyingSize announces as much as four and eight bytes can say, in both orders.
func lyingSize(c net.Conn) {
	for _, header := range [][]byte{
		binary.BigEndian.AppendUint32(nil, 0xffffffff), binary.LittleEndian.AppendUint32(nil, 0x7fffffff),
		binary.BigEndian.AppendUint64(nil, 1<<62), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		c.Write(header)
	}
	time.Sleep(200 * time.Millisecond)
}

func silence(net.Conn) { time.Sleep(1500 * time.Millisecond) }

func floods(c net.Conn) {
	block := make([]byte, 64<<10)
	for range 256 {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// sockets finds what can be dialled: sockets in the file system where an
// agent's may be, those that the kernel lists, and listening ports.
func sockets() []string {
	seen := map[string]bool{}
	for _, dir := range []string{"/run", "/var/run", "/tmp", "/dev", "/faas", "/.faas"} {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeSocket != 0 {
				seen["unix "+path] = true
			}
			return nil
		})
	}
	eachLine("/proc/net/unix", func(fields []string) {
		if path := fields[len(fields)-1]; strings.HasPrefix(path, "/") || strings.HasPrefix(path, "@") {
			seen["unix "+path] = true
		}
	})
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		eachLine(table, func(fields []string) {
			if len(fields) > 3 && fields[3] == "0A" {
				var port int
				if _, hex, ok := strings.Cut(fields[1], ":"); ok {
					fmt.Sscanf(hex, "%x", &port)
					seen[fmt.Sprintf("tcp 127.0.0.1:%d", port)] = true
				}
			}
		})
	}
	var targets []string
	for t := range seen {
		targets = append(targets, t)
	}
	return targets
}

func eachLine(path string, use func(fields []string)) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			use(fields)
		}
	}
}
