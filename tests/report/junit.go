package main

import (
	"encoding/xml"
	"fmt"
	"os"
)

// junitSuite is a <testsuite> or <testsuites> element: both nest.
type junitSuite struct {
	Suites []junitSuite `xml:"testsuite"`
	Cases  []junitCase  `xml:"testcase"`
}

type junitCase struct {
	Class   string       `xml:"classname,attr"`
	Name    string       `xml:"name,attr"`
	Failure *junitDetail `xml:"failure"`
	Error   *junitDetail `xml:"error"`
	Skipped *junitDetail `xml:"skipped"`
}

type junitDetail struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (d *junitDetail) output() string { return d.Message + "\n" + d.Text }

// readJUnit adds the results of another language's suite.
func (t *tally) readJUnit(name, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("results of %s: %w", name, err)
	}
	var root junitSuite
	if err := xml.Unmarshal(b, &root); err != nil {
		return fmt.Errorf("results of %s: %w", name, err)
	}
	t.addSuite(name, root)
	return nil
}

func (t *tally) addSuite(name string, s junitSuite) {
	for _, c := range s.Cases {
		title := c.Name
		if c.Class != "" {
			title = c.Class + "." + c.Name
		}
		switch {
		case c.Failure != nil:
			t.failed = append(t.failed, test{name, title, c.Failure.output()})
		case c.Error != nil:
			t.failed = append(t.failed, test{name, title, c.Error.output()})
		case c.Skipped != nil:
			t.skipped = append(t.skipped, test{name, title, c.Skipped.Message})
		default:
			t.passed++
		}
	}
	for _, inner := range s.Suites {
		t.addSuite(name, inner)
	}
}
