package executor

import (
	"context"
	"sync"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/executor/stream"
)

// The streams of a log.
const (
	stdoutStream = iota
	stderrStream
)

const (
	// maxRuns bounds what is remembered of how the two streams alternated.
	maxRuns = 16 << 10
	// tailBytes is how much of the output beyond what is kept waits for those
	// who follow it.
	tailBytes = 1 << 20
)

// log is the output of a running command in the order in which it came: the
// kept beginning of both streams and, once someone follows, their newest
// bytes.
type log struct {
	mu    sync.Mutex
	total [2]int64      // bytes written to each stream
	runs  []stretch     // of what is kept
	moved chan struct{} // not nil: someone waits; closed at the next write
	tail  *stream.Feed[tailPiece]
}

// stretch is a part of one stream that came without the other between.
type stretch struct {
	stream   int
	from, to int64
}

// tailPiece is output beyond what is kept.
type tailPiece struct {
	stream int
	from   int64
	data   []byte
}

// wrote notes what came; mu is held. It costs nothing that nobody follows.
func (l *log) wrote(c *capture, p []byte, kept int) {
	from := l.total[c.stream]
	l.total[c.stream] += int64(len(p))
	last := len(l.runs) - 1
	switch {
	case kept == 0:
	case last >= 0 && (l.runs[last].stream == c.stream && l.runs[last].to == from):
		l.runs[last].to += int64(kept)
	case last < maxRuns:
		l.runs = append(l.runs, stretch{c.stream, from, from + int64(kept)})
	default:
		kept = 0 // in the buffer, but nobody knows where
	}
	if l.tail != nil && kept < len(p) {
		l.tail.Add(tailPiece{c.stream, from + int64(kept), append([]byte(nil), p[kept:]...)}, len(p)-kept)
	}
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

// follower reads one log.
type follower struct {
	o    *outputs
	at   [2]int64 // the next byte of each stream
	next int      // of the runs
	seq  int64    // of the tail
}

// Logs reads the output of an execution of a project from a position on: of a
// running one what it keeps of it and, with follow, what comes until its end;
// of an ended one what its record holds. each is called for every piece, in
// order; its error ends Logs. The execution is returned as it is afterwards.
func (e *Executor) Logs(ctx context.Context, project, id string, from faas.LogPosition, follow bool, each func(faas.LogPiece) error) (*faas.Execution, error) {
	project = orDefault(project)
	f := &follower{at: [2]int64{from.Stdout, from.Stderr}}
	if entry := e.live.find(project, id); entry != nil {
		f.o = entry.outputs
		if err := f.read(ctx, entry.ended, follow, each); err != nil {
			return nil, err
		}
	}
	record, err := e.store.Execution(ctx, project, id)
	if err != nil || f.o != nil {
		return record, err
	}
	if record.Result == nil {
		return record, nil
	}
	for stream, kept := range [][]byte{record.Result.Stdout, record.Result.Stderr} {
		if f.at[stream] >= int64(len(kept)) {
			continue
		}
		if err := each(f.piece(stream, f.at[stream], kept[f.at[stream]:])); err != nil {
			return nil, err
		}
	}
	return record, nil
}

// read passes on what is there and, with follow, what comes until ended.
func (f *follower) read(ctx context.Context, ended <-chan struct{}, follow bool, each func(faas.LogPiece) error) error {
	for {
		over := false
		select {
		case <-ended:
			over = true
		default:
		}
		pieces, moved := f.pieces(follow)
		for _, p := range pieces {
			if err := each(p); err != nil {
				return err
			}
		}
		if len(pieces) > 0 {
			continue
		}
		if over || !follow {
			return nil
		}
		select {
		case <-moved:
		case <-ended:
		case <-ctx.Done():
			return stopped(ctx, "read logs")
		}
	}
}

// pieces returns the next pieces, and what is closed when there are more.
func (f *follower) pieces(follow bool) ([]faas.LogPiece, <-chan struct{}) {
	l := &f.o.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if follow && l.tail == nil {
		l.tail = stream.NewFeed[tailPiece](tailBytes)
	}
	if l.moved == nil {
		l.moved = make(chan struct{})
	}
	var found []faas.LogPiece
	kept := [2][]byte{f.o.stdout.buffer, f.o.stderr.buffer}
	for ; f.next < len(l.runs); f.next++ {
		r := l.runs[f.next]
		from := max(r.from, f.at[r.stream])
		if from < r.to {
			found = append(found, f.piece(r.stream, from, append([]byte(nil), kept[r.stream][from:r.to]...)))
		}
		if f.next == len(l.runs)-1 {
			break // it may grow
		}
	}
	if len(found) > 0 || l.tail == nil {
		return found, l.moved
	}
	entries, _, _ := l.tail.After(f.seq)
	for _, t := range entries {
		f.seq = t.Seq
		from := max(t.Value.from, f.at[t.Value.stream])
		if skip := from - t.Value.from; skip < int64(len(t.Value.data)) {
			found = append(found, f.piece(t.Value.stream, from, t.Value.data[skip:]))
		}
	}
	return found, l.moved
}

// piece makes a piece of output that begins at from, and moves on.
func (f *follower) piece(stream int, from int64, data []byte) faas.LogPiece {
	p := faas.LogPiece{Stderr: stream == stderrStream, Data: data, Lost: from - f.at[stream]}
	f.at[stream] = from + int64(len(data))
	p.After = faas.LogPosition{Stdout: f.at[stdoutStream], Stderr: f.at[stderrStream]}
	return p
}
