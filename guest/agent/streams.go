//go:build unix

package agent

import (
	"io"

	"github.com/faas-platform/faas"
)

var errEOF = io.EOF

// childFiles are the ends that a command gets as its 0, 1 and 2.
type childFiles struct {
	fds   [3]int
	owned []int // closed in the agent once the command has them
}

func (f *childFiles) child() []uintptr {
	return []uintptr{uintptr(f.fds[0]), uintptr(f.fds[1]), uintptr(f.fds[2])}
}

func (f *childFiles) close() {
	for _, fd := range f.owned {
		closeFD(fd)
	}
	f.owned = nil
}

// openStreams makes what connects a command with the agent.
func (a *Agent) openStreams(c *command) (*process, *childFiles, error) {
	p, f := &process{}, &childFiles{}
	var err error
	if c.args.TTY != nil {
		err = openTerminal(p, f, *c.args.TTY)
	} else {
		err = a.openPipes(c, p, f)
	}
	if err != nil {
		f.close()
		p.abandon()
		return nil, nil, &faas.Error{Kind: faas.KindResourceExhausted, Detail: "the command's streams could not be made", Err: err}
	}
	return p, f, nil
}

func (a *Agent) openPipes(c *command, p *process, f *childFiles) error {
	null := int(a.devNull.Fd())
	f.fds = [3]int{null, null, null}
	if c.args.Stdin {
		r, w, err := pipe()
		if err != nil {
			return err
		}
		f.fds[0] = r
		f.owned = append(f.owned, r)
		if p.stdin, err = pollable(w, "stdin"); err != nil {
			return err
		}
	}
	for i, discard := range []bool{c.args.DiscardStdout, c.args.DiscardStderr} {
		if discard {
			continue
		}
		r, w, err := pipe()
		if err != nil {
			return err
		}
		f.fds[1+i] = w
		f.owned = append(f.owned, w)
		file, err := pollable(r, "output")
		if err != nil {
			return err
		}
		p.outputs[i] = &outputFile{file: file}
	}
	return nil
}
