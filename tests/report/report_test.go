package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stream = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestGood"}
{"Action":"pass","Package":"m/a","Test":"TestGood"}
{"Action":"output","Package":"m/a","Test":"TestNone","Output":"    x_test.go:3: needs a runtime\n"}
{"Action":"skip","Package":"m/a","Test":"TestNone"}
{"Action":"pass","Package":"m/a","Elapsed":0.1}
`

const failures = `{"Action":"start","Package":"m/b"}
{"Action":"output","Package":"m/b","Test":"TestBad","Output":"    want 1, got 2\n"}
{"Action":"fail","Package":"m/b","Test":"TestBad","Elapsed":1}
{"Action":"fail","Package":"m/b","Elapsed":1}
{"ImportPath":"m/c","Action":"build-output","Output":"c.go:1: undefined: x\n"}
{"ImportPath":"m/c","Action":"build-fail"}
{"Action":"start","Package":"m/c"}
{"Action":"fail","Package":"m/c","FailedBuild":"m/c"}
{"Action":"start","Package":"m/d"}
{"Action":"output","Package":"m/d","Test":"TestPanics","Output":"panic: boom\n"}
{"Action":"fail","Package":"m/d"}
{"Action":"start","Package":"m/e"}
`

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCountsAndStrictSkips(t *testing.T) {
	for _, c := range []struct {
		name, skips string
		strict      bool
		fails       bool
	}{
		{"listed", "a TestNo* # no such runtime", true, false},
		{"not listed", "a TestOther # no such runtime", true, true},
		{"other package of the same ending", "xa TestNone # no such runtime", true, true},
		{"not strict", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"-skips", file(t, c.skips)}
			if c.strict {
				args = append(args, "-strict")
			}
			var out strings.Builder
			err := run(args, strings.NewReader(stream), &out)
			if (err != nil) != c.fails {
				t.Errorf("err = %v", err)
			}
			if !strings.Contains(out.String(), "\n1 passed, 0 failed, 1 skipped\n") || !strings.Contains(out.String(), "needs a runtime") {
				t.Errorf("output:\n%s", out.String())
			}
		})
	}
}

func TestEveryKindOfFailureIsShown(t *testing.T) {
	var out strings.Builder
	err := run(nil, strings.NewReader(stream+failures), &out)
	if err == nil {
		t.Error("a run with failures is good")
	}
	for _, want := range []string{
		"want 1, got 2", "undefined: x", "panic: boom", "before this package did",
		"1 passed, 4 failed, 1 skipped",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestNothingRunIsAFailure(t *testing.T) {
	if err := run(nil, strings.NewReader(""), &strings.Builder{}); err == nil {
		t.Error("an empty run is good")
	}
}

func TestJUnit(t *testing.T) {
	results := file(t, `<testsuites><testsuite><testcase classname="c" name="one"/>
<testcase name="two"><failure message="no">because</failure></testcase>
<testsuite><testcase name="three"><skipped message="no engine"/></testcase></testsuite></testsuite></testsuites>`)
	var out strings.Builder
	if err := run([]string{"-junit", "python=" + results}, strings.NewReader(""), &out); err == nil {
		t.Error("a run with failures is good")
	}
	for _, want := range []string{"1 passed, 1 failed, 1 skipped", "because", "python three: no engine"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestSkipListNeedsReasons(t *testing.T) {
	if _, err := readSkipList(file(t, "a TestNone")); err == nil {
		t.Error("an entry without a reason was accepted")
	}
}
