package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSpawnFiles is how many descriptors the kernel takes with one message.
const maxSpawnFiles = 253

// Spawn clones processes into new namespaces on request, until the other end
// of its socket is closed. A new user namespace forbids vfork, and to fork a
// large process costs copies of its page tables and, afterwards, a fault for
// every page that it writes. This one is small and does nothing else.
func Spawn() int {
	syscall.CloseOnExec(SpawnFD)
	file := os.NewFile(SpawnFD, "requests")
	conn, err := net.FileConn(file)
	file.Close() //nolint:errcheck // conn has its own
	if err != nil {
		fmt.Fprintln(os.Stderr, "faas-agent spawn:", err)
		return 1
	}
	go reapChildren()
	socket, ok := conn.(*net.UnixConn)
	for ok {
		if err := spawnNext(socket); err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "faas-agent spawn:", err)
			}
			break
		}
	}
	return 0
}

// reapChildren takes the exit status of every child: whoever asked for it
// watches its pidfd.
func reapChildren() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for range ended {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
	}
}

// spawnNext serves one request. It returns an error when there will be no more.
func spawnNext(socket *net.UnixConn) error {
	message := make([]byte, MaxSpawn)
	rights := make([]byte, unix.CmsgSpace(4*maxSpawnFiles))
	n, oob, _, _, err := socket.ReadMsgUnix(message, rights)
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	files, err := receivedFiles(rights[:oob])
	defer closeAll(files)
	pid, pidfd := 0, -1
	if err == nil {
		pid, pidfd, err = spawnOne(message[:n], files)
	}
	answer := SpawnAnswer{PID: pid}
	var attached []byte
	if err != nil {
		answer.Error = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			answer.Errno = int(errno)
		}
	} else {
		attached = unix.UnixRights(pidfd)
		defer unix.Close(pidfd) //nolint:errcheck // the other end has its own
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, _, err = socket.WriteMsgUnix(text, attached, nil)
	return err
}

func spawnOne(message []byte, files []*os.File) (pid, pidfd int, err error) {
	var r SpawnRequest
	if err := json.Unmarshal(message, &r); err != nil {
		return 0, -1, err
	}
	attr := &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd, Cloneflags: r.Cloneflags, AmbientCaps: r.AmbientCaps}
	if r.Mapped {
		attr.UidMappings, attr.GidMappings = mappings(r.UIDs), mappings(r.GIDs)
		attr.GidMappingsEnableSetgroups = r.SetGroups
		attr.Credential = &syscall.Credential{NoSetGroups: !r.SetGroups}
	}
	process, err := os.StartProcess(r.Path, r.Args, &os.ProcAttr{Dir: "/", Env: r.Env, Files: files, Sys: attr})
	if err != nil {
		return 0, -1, err
	}
	pid = process.Pid // which Release clears
	return pid, pidfd, process.Release()
}

func mappings(ranges []IDRange) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, 0, len(ranges))
	for _, m := range ranges {
		out = append(out, syscall.SysProcIDMap{ContainerID: m.Inside, HostID: m.Outside, Size: m.Size})
	}
	return out
}

func receivedFiles(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "inherited"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() //nolint:errcheck // nothing was written
	}
}
