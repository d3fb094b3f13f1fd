package microvm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// qmp speaks QEMU's machine protocol: a JSON object a line.
type qmp struct {
	conn *net.UnixConn
	in   *bufio.Reader
}

// Bounds of what is read and waited for.
const (
	maxQMPLine  = 1 << 20
	qmpPatience = 10 * time.Second       // for one command
	qmpPoll     = 2 * time.Millisecond   // between looks at what is under way
	qmpPollSlow = 100 * time.Millisecond // later
)

// dialQMP connects to the socket as soon as it is there.
func dialQMP(ctx context.Context, path string) (*qmp, error) {
	conn, err := dialWhenThere(ctx, path)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	stop := q.within(ctx)
	defer stop()
	if _, err := q.line(); err != nil { // the greeting
		return nil, errors.Join(fmt.Errorf("QMP: %w", err), conn.Close())
	}
	if err := q.execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return q, nil
}

// dialWhenThere connects to a unix socket that a process that has just been
// started makes.
func dialWhenThere(ctx context.Context, path string) (*net.UnixConn, error) {
	var dialer net.Dialer
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

func (q *qmp) close() error { return q.conn.Close() }

// within bounds what follows in time, and ends it with the context.
func (q *qmp) within(ctx context.Context) (stop func() bool) {
	deadline := time.Now().Add(qmpPatience)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	q.conn.SetDeadline(deadline)                                                  //nolint:errcheck // the read tells
	return context.AfterFunc(ctx, func() { q.conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // likewise
}

// reply is one line of QEMU's.
type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
}

func (q *qmp) line() (reply, error) {
	var r reply
	var line []byte
	for {
		part, more, err := q.in.ReadLine()
		if err != nil {
			return r, err
		}
		if line = append(line, part...); len(line) > maxQMPLine {
			return r, fmt.Errorf("a line is longer than %d bytes", maxQMPLine)
		}
		if !more {
			return r, json.Unmarshal(line, &r)
		}
	}
}

// execute runs one command, passing file with it when it is not nil.
func (q *qmp) execute(ctx context.Context, command string, arguments map[string]any, into any, file ...*os.File) error {
	stop := q.within(ctx)
	defer stop()
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	for _, f := range file {
		rights = unix.UnixRights(int(f.Fd()))
	}
	if _, _, err := q.conn.WriteMsgUnix(append(b, '\n'), rights, nil); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	for {
		r, err := q.line()
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("QMP %s: %w", command, err)
		case r.Event != "":
		case r.Error != nil:
			return fmt.Errorf("QMP %s: %s", command, r.Error.Desc)
		case into == nil:
			return nil
		default:
			return json.Unmarshal(r.Return, into)
		}
	}
}

func (q *qmp) stop(ctx context.Context) error { return q.execute(ctx, "stop", nil, nil) }
func (q *qmp) run(ctx context.Context) error  { return q.execute(ctx, "cont", nil, nil) }

// status is the machine's state, as query-status names it.
func (q *qmp) status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	return s.Status, q.execute(ctx, "query-status", nil, &s)
}

func (q *qmp) save(ctx context.Context, to *os.File) error {
	const name = "state"
	if err := q.execute(ctx, "getfd", map[string]any{"fdname": name}, nil, to); err != nil {
		return err
	}
	// As fast as the disk takes it: the default is for networks.
	if err := q.execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(1) << 40}, nil); err != nil {
		return err
	}
	if err := q.execute(ctx, "migrate", map[string]any{"uri": "fd:" + name}, nil); err != nil {
		return err
	}
	return q.poll(ctx, func() (bool, error) {
		var m struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := q.execute(ctx, "query-migrate", nil, &m); err != nil {
			return false, err
		}
		switch m.Status {
		case "failed", "cancelled":
			return false, fmt.Errorf("the machine's state could not be saved: %s %s", m.Status, m.Error)
		}
		return m.Status == "completed", nil
	})
}

func (q *qmp) loaded(ctx context.Context) error {
	return q.poll(ctx, func() (bool, error) {
		status, err := q.status(ctx)
		return status != "inmigrate", err
	})
}

// poll asks until the answer is yes.
func (q *qmp) poll(ctx context.Context, done func() (bool, error)) error {
	for pause := qmpPoll; ; pause = min(2*pause, qmpPollSlow) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}
