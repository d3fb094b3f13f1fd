package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// test is one test that ended.
type test struct {
	suite  string // package, or name of another language's suite
	name   string
	output string
}

func (t test) String() string { return t.suite + " " + t.name }

// tally is the outcome of a whole run.
type tally struct {
	passed  int
	failed  []test
	skipped []test
}

// conclude prints failures, skips and the counts.
func (t *tally) conclude(out io.Writer, expected skipList, strict bool) error {
	for _, f := range t.failed {
		fmt.Fprintf(out, "\n--- FAILED %s\n%s", f, ensureNewline(f.output))
	}
	var unexpected []test
	if len(t.skipped) > 0 {
		fmt.Fprintln(out, "\nskipped:")
	}
	for _, s := range t.skipped {
		mark := ""
		if !expected.holds(s) {
			unexpected = append(unexpected, s)
			mark = " (not in the list of expected skips)"
		}
		fmt.Fprintf(out, "  %s: %s%s\n", s, skipReason(s.output), mark)
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", t.passed, len(t.failed), len(t.skipped))
	switch {
	case len(t.failed) > 0:
		return errors.New("tests failed")
	case t.passed == 0:
		return errors.New("no test ran")
	case strict && len(unexpected) > 0:
		return fmt.Errorf("%d tests skipped that the list of expected skips does not hold", len(unexpected))
	}
	return nil
}

// skipReason is the last thing that a test said, on one line.
func skipReason(output string) string {
	reason := ""
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		reason = line
	}
	if reason == "" {
		return "no reason given"
	}
	return reason
}

func ensureNewline(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}
