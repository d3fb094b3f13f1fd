package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// keptOutput bounds what is remembered of one test's output.
const keptOutput = 256 << 10

// goRun follows one event stream.
type goRun struct {
	total  *tally
	out    io.Writer
	output map[string]*strings.Builder // by package and test; builds by import path
	failed map[string]int              // failed tests by package
	ran    map[string]int              // ended tests by package
	open   map[string]bool             // packages begun and not ended
}

// readGo reads Go's event stream to its end, reporting packages as they end.
func (t *tally) readGo(in io.Reader, out io.Writer) error {
	r := &goRun{
		total: t, out: out,
		output: map[string]*strings.Builder{}, failed: map[string]int{}, ran: map[string]int{}, open: map[string]bool{},
	}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
	for pkg := range r.open {
		t.failed = append(t.failed, test{pkg, "(package)", "the run ended before this package did\n" + r.text(pkg, "")})
	}
	return nil
}

// line takes one line; what is not an event (a message of the go command) is
// passed on as it is.
func (r *goRun) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		r.out.Write(line) //nolint:errcheck // a terminal
		return
	}
	switch e.Action {
	case "start":
		r.open[e.Package] = true
	case "output":
		r.keep(e.Package+" "+e.Test, e.Output)
	case "build-output":
		r.keep(e.ImportPath, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e)
		}
	}
}

func (r *goRun) keep(key, text string) {
	b := r.output[key]
	if b == nil {
		b = &strings.Builder{}
		r.output[key] = b
	}
	if b.Len() < keptOutput {
		b.WriteString(text)
	}
}

func (r *goRun) text(pkg, name string) string {
	if b := r.output[pkg+" "+name]; b != nil {
		return b.String()
	}
	return ""
}

func (r *goRun) endTest(e event) {
	done := test{e.Package, e.Test, r.text(e.Package, e.Test)}
	delete(r.output, e.Package+" "+e.Test)
	r.ran[e.Package]++
	switch e.Action {
	case "pass":
		r.total.passed++
	case "skip":
		r.total.skipped = append(r.total.skipped, done)
	case "fail":
		r.failed[e.Package]++
		r.total.failed = append(r.total.failed, done)
		fmt.Fprintf(r.out, "FAIL  %s %s (%.1f s)\n", e.Package, e.Test, e.Elapsed)
	}
}

func (r *goRun) endPackage(e event) {
	delete(r.open, e.Package)
	text := r.text(e.Package, "")
	delete(r.output, e.Package+" ")
	switch {
	case e.Action == "fail" && r.failed[e.Package] == 0:
		// It did not build, or ended outside of a test: a panic, a time-out,
		// a race in a goroutine that outlived its test.
		r.total.failed = append(r.total.failed, test{e.Package, "(package)", r.unfinished(e.Package) + text + r.build(e.FailedBuild)})
		fmt.Fprintf(r.out, "FAIL  %s\n", e.Package)
	case e.Action == "fail":
		fmt.Fprintf(r.out, "FAIL  %s: %d of %d (%.1f s)\n", e.Package, r.failed[e.Package], r.ran[e.Package], e.Elapsed)
	case r.ran[e.Package] > 0:
		fmt.Fprintf(r.out, "ok    %s: %d (%.1f s)\n", e.Package, r.ran[e.Package], e.Elapsed)
	}
}

// unfinished returns the output of a package's tests that never ended.
func (r *goRun) unfinished(pkg string) string {
	var all strings.Builder
	for key, b := range r.output {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			all.WriteString(b.String())
		}
	}
	return all.String()
}

func (r *goRun) build(importPath string) string {
	if b := r.output[importPath]; b != nil {
		return b.String()
	}
	return ""
}
