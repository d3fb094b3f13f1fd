// Command report turns what test runners write into what a person reads: a
// line per package as it ends, every failure with its whole output, every
// skip with its reason, and one last line of counts.
//
//	go test -json ./... | report -skips tests/expected-skips.txt -strict
//	report -junit python=out/junit.xml …
//
// It ends with status 1 when a test failed, when nothing ran at all, or, with
// -strict, when a test skipped that the committed list does not expect.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// suites collects repeated -junit flags: a name and the file of its results.
type suites []struct{ name, file string }

func (s *suites) String() string { return fmt.Sprint(*s) }

func (s *suites) Set(v string) error {
	name, file, ok := strings.Cut(v, "=")
	if !ok {
		return fmt.Errorf("%q is not NAME=FILE", v)
	}
	*s = append(*s, struct{ name, file string }{name, file})
	return nil
}

// run reads Go's event stream from in and the files named by args, and
// reports on out. Its error says why the run as a whole is not good.
func run(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	skips := flags.String("skips", "", "file that lists the expected skips")
	strict := flags.Bool("strict", false, "fail when a test skips that the list does not hold")
	var junit suites
	flags.Var(&junit, "junit", "NAME=FILE of another language's results; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var expected skipList
	if *skips != "" {
		var err error
		if expected, err = readSkipList(*skips); err != nil {
			return err
		}
	}
	var total tally
	if err := total.readGo(in, out); err != nil {
		return err
	}
	for _, s := range junit {
		if err := total.readJUnit(s.name, s.file); err != nil {
			return err
		}
	}
	return total.conclude(out, expected, *strict)
}
