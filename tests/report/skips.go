package main

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strings"
)

// skipList holds the skips that are expected: one `SUITE TEST # reason` a
// line, where both may hold the wildcards of path.Match and a reason is
// required. SUITE is a package's path below the module. A subtest's skip needs
// a line of its own: a test whose subtests all skip has passed.
type skipList []expectedSkip

type expectedSkip struct{ suite, name string }

func readSkipList(file string) (skipList, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("list of expected skips: %w", err)
	}
	defer f.Close()
	var list skipList
	lines := bufio.NewScanner(f)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		entry, reason, _ := strings.Cut(text, "#")
		words := strings.Fields(entry)
		if len(words) != 2 || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: want `SUITE TEST # reason`", file, number)
		}
		for _, pattern := range words {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("%s:%d: %q: %w", file, number, pattern, err)
			}
		}
		list = append(list, expectedSkip{words[0], words[1]})
	}
	return list, lines.Err()
}

// holds says whether a skip is expected.
func (l skipList) holds(t test) bool {
	for _, e := range l {
		suite := strings.HasSuffix("/"+t.suite, "/"+e.suite)
		if name, _ := path.Match(e.name, t.name); suite && name {
			return true
		}
	}
	return false
}
