package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// countOn forks a program that counts and has each copy tell what it counts
// first: the same number in all, the one after the last that was saved.
func (d *demo) countOn(ctx context.Context) error {
	fmt.Println("== a Python program with a dictionary of 100 MB and an open file")
	source, err := d.start(ctx, counter)
	if err != nil {
		return err
	}
	used, err := d.sh(ctx, source, "awk '/VmRSS/ {print int($2 / 1024)}' /proc/$(cat /tmp/pid)/status")
	if err != nil {
		return err
	}
	fmt.Printf("the program takes %s MiB\n", used)
	snap, err := d.Snapshot(ctx, "", source, snapshotRequest())
	if err != nil {
		return err
	}
	fmt.Printf("saved while it ran: it stood still for %.0f ms\n", snap.PauseMS)
	forks, err := d.fork(ctx, snap.ID)
	if err != nil {
		return err
	}
	first := ""
	for i, id := range append([]string{source}, forks...) {
		who, does := "fork "+strconv.Itoa(i), "counts on with"
		if i == 0 {
			who, does = "original", "has counted from"
		}
		told, err := d.counted(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", who, err)
		}
		fmt.Printf("%-9s %s: %s %s, its file has no gap\n", who, id, does, told)
		if i == 1 {
			first = told
		}
		if i > 0 && told != first {
			return fmt.Errorf("%s counts on with %s, another with %s", who, told, first)
		}
	}
	return nil
}

// counted returns the first number that a program has counted for the instance
// that it is in, and sees that none is missing before. The program looks who it
// is at every number, as one that forks do should.
func (d *demo) counted(ctx context.Context, id string) (string, error) {
	out, err := d.sh(ctx, id, "until grep -q "+id+" /tmp/counted; do sleep 0.02; done; grep -m1 "+id+
		" /tmp/counted; awk '$1 != NR {print \"line\", NR, \"says\", $1; exit}' /tmp/counted")
	if err != nil {
		return "", err
	}
	number, rest, _ := strings.Cut(out, " ")
	if strings.Contains(rest, "line") {
		return "", fmt.Errorf("its file has a gap: %s", rest)
	}
	return number, nil
}
