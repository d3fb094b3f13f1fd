package meta

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/faas-platform/faas"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func running(project string) faas.Execution {
	return faas.Execution{
		ID: faas.NewID(faas.PrefixExecution), Project: project, Status: faas.ExecutionRunning,
		Command: []string{"sh", "-c", "echo hi"}, Image: "host", Runtime: faas.RuntimeNative,
		Mode: faas.ModeEphemeral, CreatedAt: time.Now().UTC().Truncate(time.Microsecond),
	}
}

func finished(exec faas.Execution) faas.Execution {
	end := exec.CreatedAt.Add(3 * time.Millisecond)
	exec.Status, exec.FinishedAt = faas.ExecutionSucceeded, &end
	exec.Result = &faas.Result{ID: exec.ID, Project: exec.Project, Stdout: []byte("hi\n"), Stderr: []byte{0xff, 0},
		RuntimeUsed: faas.RuntimeNative, DurationMS: 2.5, LimitsHit: []faas.LimitHit{faas.LimitDisk}}
	return exec
}

func begin(t *testing.T, s *Store, exec faas.Execution) {
	t.Helper()
	if err := s.Begin(t.Context(), exec); err != nil {
		t.Fatal(err)
	}
}

func TestRecordIsReadBackAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	exec := running("acme")
	begin(t, s, exec)
	got, err := s.Execution(t.Context(), "acme", exec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&exec, got); diff != "" {
		t.Errorf("begun execution (-want +got):\n%s", diff)
	}
	end := finished(exec)
	if err := s.End(end); err != nil {
		t.Fatal(err)
	}
	got, err = s.Execution(t.Context(), "acme", exec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&end, got); diff != "" {
		t.Errorf("ended execution (-want +got):\n%s", diff)
	}
	if _, err := s.Execution(t.Context(), "other", exec.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("another project's execution: %v, want not found", err)
	}
}

func TestListPages(t *testing.T) {
	s := open(t, t.TempDir())
	var want []string
	for range 7 {
		exec := running("acme")
		begin(t, s, exec)
		want = append([]string{exec.ID}, want...)
		begin(t, s, running("other"))
		waitNextMillisecond()
	}
	var got []string
	cursor := ""
	for pages := 0; ; pages++ {
		page, next, err := s.Executions(t.Context(), "acme", 3, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, exec := range page {
			got = append(got, exec.ID)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if _, _, err := s.Executions(t.Context(), "acme", 3, "' OR 1"); faas.KindOf(err) != faas.KindInvalidArgument {
		t.Errorf("bad cursor: %v", err)
	}
}

// waitNextMillisecond returns in the next millisecond: ids are ordered by it.
func waitNextMillisecond() {
	for start := time.Now().UnixMilli(); time.Now().UnixMilli() == start; {
	}
}

func TestRecordIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	exec := running("acme")
	exec.Command = []string{"sh", strings.Repeat("x", MaxCommand+10), "tail"}
	begin(t, s, exec)
	end := finished(exec)
	end.Result.Stdout = bytes.Repeat([]byte("y"), MaxOutput+1)
	if err := s.End(end); err != nil {
		t.Fatal(err)
	}
	got, err := s.Execution(t.Context(), "acme", exec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Result.Stdout) != MaxOutput || !got.Result.Truncated {
		t.Errorf("kept %d bytes, truncated %v", len(got.Result.Stdout), got.Result.Truncated)
	}
	if len(got.Command) != 3 || len(got.Command[1]) != MaxCommand-2 || !strings.Contains(got.Command[2], "16 bytes") {
		t.Errorf("kept command: %d arguments, last %q", len(got.Command), got.Command[len(got.Command)-1])
	}
	if end.Result.Truncated {
		t.Error("recording changed the caller's result")
	}
}

// abandon leaves a store as the death of its process would: what is in the
// journal stays there, the lock is free.
func abandon(s *Store) {
	s.stop()
	s.writer.abort()
	s.writer.close(context.Background())
	s.tasks.Wait()
	s.journal.release()
	s.db.Close()
}

func TestDeadOwnersJournalIsAdopted(t *testing.T) {
	dir := t.TempDir()
	dead, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	dead.writer.abort() // nothing of it reaches the database
	ended, lost := running("acme"), running("acme")
	begin(t, dead, ended)
	begin(t, dead, lost)
	if err := dead.End(finished(ended)); err != nil {
		t.Fatal(err)
	}
	if _, err := dead.journal.current.file.WriteString("\n12345678 {\"op\":\"begin\",\"rec"); err != nil {
		t.Fatal(err)
	}
	abandon(dead)

	s := open(t, dir)
	if got := s.Recovered(); got.Journals != 1 || got.Damaged != 1 || got.Lost != 1 {
		t.Errorf("recovered %+v", got)
	}
	for id, want := range map[string]faas.ExecutionStatus{ended.ID: faas.ExecutionSucceeded, lost.ID: faas.ExecutionLost} {
		got, err := s.Execution(t.Context(), "acme", id)
		if err != nil || got.Status != want {
			t.Errorf("%s: %v, %v, want %s", id, got, err, want)
		}
	}
	if files := journalFiles(t, dir); len(files) != 2 {
		t.Errorf("journal holds %v, want only the open store's two files", files)
	}
}

func TestLivingOwnersJournalIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	exec := running("acme")
	begin(t, first, exec)
	second := open(t, dir)
	if got := second.Recovered(); got != (Recovered{}) {
		t.Errorf("recovered %+v from a living process", got)
	}
	if err := first.End(finished(exec)); err != nil {
		t.Fatal(err)
	}
	if err := first.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := second.Execution(t.Context(), "acme", exec.ID)
	if err != nil || got.Status != faas.ExecutionSucceeded {
		t.Errorf("seen by the other process: %v, %v", got, err)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	exec := running("acme")
	begin(t, s, exec)
	if err := s.End(finished(exec)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if files := journalFiles(t, dir); len(files) != 0 {
		t.Errorf("journal files after Close: %v", files)
	}
	if _, err := open(t, dir).Execution(t.Context(), "acme", exec.ID); err != nil {
		t.Error(err)
	}
}

func journalFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "journal", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestJournalRotates(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	output := bytes.Repeat([]byte("z"), MaxOutput)
	var written int64
	for written < 3*segmentLimit {
		exec := running("acme")
		begin(t, s, exec)
		end := finished(exec)
		end.Result.Stdout, end.Result.Stderr = output, output
		if err := s.End(end); err != nil {
			t.Fatal(err)
		}
		written += 2 * MaxOutput
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	// One more batch: the writer tidies up behind each.
	begin(t, s, running("acme"))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if number := s.journal.closed[len(s.journal.closed)-1].number; number < 2 {
		t.Errorf("%d bytes went to segment %d", written, number)
	}
	if n := len(s.journal.closed); n > 2 {
		t.Errorf("%d segments were left at the end", n)
	}
}

// What commands wrote is their user's only, also where an earlier version let
// others read it.
func TestDatabaseIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIP all: files have no such modes here")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "meta.db"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	begin(t, open(t, dir), running("acme"))
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meta.db", "meta.db-wal", "meta.db-shm"} {
		files = append(files, filepath.Join(dir, name))
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close(t.Context())
	db, err := sql.Open("sqlite", filepath.Join(dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf("PRAGMA user_version = %d", len(migrations)+1)); err != nil {
		t.Fatal(err)
	}
	db.Close()
	_, err = Open(t.Context(), dir, Options{})
	if !errors.Is(err, faas.ErrFailedPrecondition) || !strings.Contains(err.Error(), "newer program") {
		t.Errorf("got %v", err)
	}
	if files := journalFiles(t, dir); len(files) != 0 {
		t.Errorf("a refused database left %v", files)
	}
}

func TestRetention(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 10 {
		exec := running("acme")
		exec.CreatedAt = time.Now().Add(-time.Duration(10-i) * time.Hour)
		begin(t, s, exec)
		if i > 0 { // the oldest goes on running
			if err := s.End(finished(exec)); err != nil {
				t.Fatal(err)
			}
		}
		waitNextMillisecond()
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		keep Retention
		want int
	}{
		{Retention{Age: 7*time.Hour + time.Minute}, 8}, // seven and the running one
		{Retention{Count: 5}, 6},
		{Retention{Bytes: 1}, 1},
	} {
		if err := prune(t.Context(), s.db, step.keep.withDefaults(), time.Now()); err != nil {
			t.Fatal(err)
		}
		list, _, err := s.Executions(t.Context(), "acme", 50, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != step.want || list[len(list)-1].Status != faas.ExecutionRunning {
			t.Errorf("%+v keeps %d, want %d with the running one", step.keep, len(list), step.want)
		}
	}
}

// Many open a new directory at the same moment: none fails, one migrates.
func TestOpenedAtOnce(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		var openers sync.WaitGroup
		for range 6 {
			openers.Go(func() {
				s, err := Open(t.Context(), dir, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				exec := running("acme")
				if err := s.Begin(t.Context(), exec); err != nil {
					t.Error(err)
				}
				if err := s.End(finished(exec)); err != nil {
					t.Error(err)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		openers.Wait()
		list, _, err := open(t, dir).Executions(t.Context(), "acme", 50, "")
		if err != nil || len(list) != 6 {
			t.Errorf("%d of 6 executions, %v", len(list), err)
		}
	}
}

// A database that somebody else holds holds up no execution, only readers.
func TestBusyDatabase(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	other, err := openDatabase(t.Context(), filepath.Join(dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	hold, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	exec := running("acme")
	begin(t, s, exec)
	if err := s.End(finished(exec)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Execution(ctx, "acme", exec.ID); !errors.Is(err, faas.ErrDeadlineExceeded) {
		t.Errorf("while the database is held: %v", err)
	}
	if err := hold.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Execution(t.Context(), "acme", exec.ID); err != nil || got.Status != faas.ExecutionSucceeded {
		t.Errorf("after it was let go: %v, %v", got, err)
	}
}

// What cannot be journalled must not begin; what has ended is not lost.
func TestJournalThatCannotBeWritten(t *testing.T) {
	s := open(t, t.TempDir())
	exec := running("acme")
	begin(t, s, exec)
	if err := s.journal.current.file.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(t.Context(), running("acme")); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("begin: %v", err)
	}
	if err := s.End(finished(exec)); !errors.Is(err, faas.ErrUnavailable) {
		t.Errorf("end: %v", err)
	}
	if got, err := s.Execution(t.Context(), "acme", exec.ID); err != nil || got.Status != faas.ExecutionSucceeded {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSettings(t *testing.T) {
	s := open(t, t.TempDir())
	if _, ok, err := s.Setting(t.Context(), "a"); ok || err != nil {
		t.Errorf("unset: %v, %v", ok, err)
	}
	for _, want := range []string{"1", "2"} {
		if err := s.SetSetting(t.Context(), "a", want); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := s.Setting(t.Context(), "a"); got != want || !ok || err != nil {
			t.Errorf("got %q, %v, %v", got, ok, err)
		}
	}
}

func FuzzReadEvents(f *testing.F) {
	line, _, err := encodeEvent(opBegin, faas.Execution{ID: "exec-1", CreatedAt: time.Now()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line, 3)
	f.Add([]byte("\n\n00000000 {}\n"), 0)
	f.Fuzz(func(t *testing.T, garbage []byte, cut int) {
		var r bytes.Buffer
		r.Write(garbage)
		r.Write(line[:max(0, min(cut, len(line)))])
		r.Write(line)
		last := ""
		if _, err := readEvents(&r, func(ev event) error { last = ev.Record.ID; return nil }); err != nil {
			t.Fatal(err)
		}
		if last != "exec-1" {
			t.Error("a whole line after garbage was not read")
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := Open(b.Context(), dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBeginEnd(b *testing.B) {
	s, err := Open(b.Context(), b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(context.Background())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			exec := running("acme")
			if err := s.Begin(b.Context(), exec); err != nil {
				b.Error(err)
			}
			if err := s.End(finished(exec)); err != nil {
				b.Error(err)
			}
		}
	})
}
