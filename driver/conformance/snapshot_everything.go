package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// checkSnapshotEverything saves a program that has, at once, all that a
// snapshot of memory must bring back, and sees it go on in its source, in
// copies of other sizes and in a copy of a copy.
func checkSnapshotEverything(ctx context.Context, env *Env) error {
	source, err := env.withProgram(ctx)
	if err != nil {
		return err
	}
	if err := source.background(ctx, intruder+" everything /tmp/all"); err != nil {
		return err
	}
	if err := source.usesEverything(ctx, 5, 0); err != nil {
		return err
	}
	from, err := env.save(ctx, source, faas.SnapshotFull)
	if err != nil {
		return err
	}
	at, _, err := source.rounds(ctx)
	if err != nil {
		return err
	}
	if err := source.usesEverything(ctx, at+5, 0); err != nil {
		return fmt.Errorf("the source afterwards: %w", err)
	}
	var last *box
	for _, memory := range []int64{256, 320} {
		if last, err = env.restore(ctx, from, func(s *faas.Spec) { s.Resources.MemoryMB = memory }); err != nil {
			return err
		}
		if err := last.usesEverything(ctx, at+5, 1); err != nil {
			return fmt.Errorf("a copy: %w", err)
		}
	}
	if from, err = env.save(ctx, last, faas.SnapshotFull, from.Layers...); err != nil {
		return fmt.Errorf("of a copy: %w", err)
	}
	if at, _, err = last.rounds(ctx); err != nil {
		return err
	}
	if last, err = env.restore(ctx, from); err != nil {
		return fmt.Errorf("of a copy: %w", err)
	}
	return last.usesEverything(ctx, at+5, 2)
}

// rounds reads how often the program has used everything, and how often it has
// had to connect anew.
func (b *box) rounds(ctx context.Context) (round, redials int, err error) {
	out, err := b.shell(ctx, "cat /tmp/all/now")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(out.stdout, &round, &redials); err != nil {
		return 0, 0, fmt.Errorf("the program says %q %q", out.stdout, out.stderr)
	}
	return round, redials, nil
}

// usesEverything waits until the program has come to a round, and sees that
// all is as it should be: no number missing in its file, its socket answering,
// and no more connections lost than it was restored.
func (b *box) usesEverything(ctx context.Context, until, restored int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := eventually(ctx, func() error {
		round, redials, err := b.rounds(ctx)
		if err == nil && round < until {
			err = fmt.Errorf("it is in round %d", round)
		}
		if err == nil && redials > restored {
			err = fmt.Errorf("it connected %d times anew", redials)
		}
		return err
	})
	broken, shellErr := b.shell(ctx, "cat /tmp/all/broken")
	if shellErr != nil || broken.Code == 0 {
		return errors.Join(err, shellErr, fmt.Errorf("it broke: %s", strings.TrimSpace(broken.stdout)))
	}
	if err != nil {
		return err
	}
	if err := b.expect(ctx, `awk '$1 != NR {print "line " NR " says " $1; exit}' /tmp/all/growing`, ""); err != nil {
		return err
	}
	conn, err := b.client.DialPort(ctx, "tcp", "7070")
	if err != nil {
		return fmt.Errorf("its listening socket: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the answer counts
	if _, err := io.WriteString(conn, "who\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64))
	if err != nil || string(answer) != "everything\n" {
		return fmt.Errorf("its listening socket answers %q: %w", answer, err)
	}
	return nil
}
