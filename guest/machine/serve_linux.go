package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/image/pack"
)

// redial is how soon a port that nobody holds at the host's end is looked at
// again.
const redial = 50 * time.Millisecond

// maxRequest bounds a request's line in bytes.
const maxRequest = 4096

// Serve answers the host on the control port until ctx ends.
func Serve(ctx context.Context, p Places) error {
	for ctx.Err() == nil {
		if err := serveOnce(ctx, p); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(redial):
		}
	}
	return nil
}

// serveOnce serves one connection of the host's. Errors of the connection are
// its end; only a port that is not there is an error.
func serveOnce(ctx context.Context, p Places) error {
	f, err := os.OpenFile(p.Device, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { f.Close() }) //nolint:errcheck // ends the read
	defer stop()
	defer f.Close() //nolint:errcheck // nothing is left to write
	s := &server{places: p, in: bufio.NewReaderSize(Await(f, f), maxRequest), out: bufio.NewWriterSize(f, maxChunk+4)}
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return nil
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			return nil
		}
		if s.perform(ctx, r) != nil || s.out.Flush() != nil {
			return nil
		}
	}
}

type server struct {
	places Places
	in     *bufio.Reader
	out    *bufio.Writer
}

// perform answers one request; its error is the connection's.
func (s *server) perform(ctx context.Context, r request) error {
	switch r.Op {
	case opStats:
		stats, err := s.stats()
		return s.answer(answer{Stats: stats}, err)
	case opFreeze:
		return s.answer(answer{}, s.freeze())
	case opThaw:
		return s.answer(answer{}, s.thaw())
	case opLimit:
		return s.answer(answer{}, s.limit(r))
	case opLayer:
		return s.layer(ctx)
	default:
		return s.answer(answer{}, errors.New("this agent does not know "+strconv.Quote(r.Op)))
	}
}

func (s *server) answer(a answer, err error) error {
	if err != nil {
		a = answer{Error: err.Error()}
	}
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = s.out.Write(append(b, '\n'))
	return err
}

var errNoLayer = errors.New("the sandbox has no writable layer")

func (s *server) layer(ctx context.Context) error {
	if s.places.Layer == "" {
		return s.answer(answer{}, errNoLayer)
	}
	if err := s.answer(answer{Body: true}, nil); err != nil {
		return err
	}
	body := chunks{s.out}
	packed := pack.Layer(ctx, filepath.Join(s.places.Layer, "upper"), body, pack.Options{})
	if err := body.end(); err != nil {
		return err
	}
	return s.answer(answer{}, packed)
}

// freeze stops the sandbox's processes and has all that they wrote on the
// drive. The agent leaves their group first. They stay stopped until thaw,
// whatever becomes of the connection: a copy of the machine is told when it may
// go on, and a host that died takes the source up again.
func (s *server) freeze() error {
	if err := s.move(agentGroup); err != nil {
		return err
	}
	if err := s.set(groupName, "cgroup.freeze", "1"); err != nil {
		return err
	}
	if err := s.untilFrozen(); err != nil {
		return errors.Join(err, s.thaw())
	}
	unix.Sync()
	return nil
}

func (s *server) thaw() error {
	err := s.set(groupName, "cgroup.freeze", "0")
	return errors.Join(err, s.move(groupName))
}

// move puts the agent, and what it started in the group that it leaves, into
// another one.
func (s *server) move(to string) error {
	if to == agentGroup {
		return s.set(agentGroup, "cgroup.procs", "1")
	}
	members, err := os.ReadFile(filepath.Join(s.places.Groups, agentGroup, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(members)) {
		if err := s.set(to, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func (s *server) set(group, name, value string) error {
	return os.WriteFile(filepath.Join(s.places.Groups, group, name), []byte(value), 0)
}

// frozenWithin bounds how long processes may take to stop.
const frozenWithin = 10 * time.Second

func (s *server) untilFrozen() error {
	events := filepath.Join(s.places.Groups, groupName, "cgroup.events")
	for deadline := time.Now().Add(frozenWithin); ; time.Sleep(time.Millisecond) {
		frozen, err := counter(events, "frozen")
		switch {
		case err != nil:
			return err
		case frozen == 1:
			return nil
		case time.Now().After(deadline):
			return errors.New("its processes do not stop")
		}
	}
}

// limit changes what the sandbox may use.
func (s *server) limit(r request) error {
	for name, limit := range map[string]int64{"pids.max": r.PIDs, "memory.max": r.MemoryBytes} {
		value := "max"
		if limit > 0 {
			value = strconv.FormatInt(limit, 10)
		}
		if err := s.set(groupName, name, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) stats() (*Stats, error) {
	out := &Stats{}
	for _, v := range []struct {
		file, key string
		into      *int64
	}{
		{"memory.current", "", &out.MemoryBytes}, {"memory.peak", "", &out.MaxMemoryBytes}, {"pids.current", "", &out.PIDs},
		{"memory.events", "oom_kill", &out.OOMKills}, {"pids.events", "max", &out.PIDsRefused},
	} {
		n, err := counter(filepath.Join(s.places.Groups, groupName, v.file), v.key)
		if err != nil && !os.IsNotExist(err) { // memory.peak is newer than some kernels
			return nil, err
		}
		*v.into = n
	}
	var disk unix.Statfs_t
	if s.places.Layer != "" && unix.Statfs(s.places.Layer, &disk) == nil {
		out.DiskBytes = int64(disk.Blocks-disk.Bfree) * disk.Bsize //nolint:gosec,unconvert // a file system's size
	}
	return out, nil
}

// counter reads a control group's file: one number, or the one behind a key.
func counter(path, key string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		switch {
		case key == "" && len(fields) == 1:
			return strconv.ParseInt(fields[0], 10, 64)
		case len(fields) == 2 && fields[0] == key:
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, nil
}
