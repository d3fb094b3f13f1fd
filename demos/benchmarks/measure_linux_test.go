package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSummarise(t *testing.T) {
	var samples []time.Duration
	for i := 200; i > 0; i-- {
		samples = append(samples, time.Duration(i)*time.Millisecond)
	}
	got := summarise(samples)
	want := Distribution{P50: 100, P99: 198, Min: 1, Max: 200, Runs: 200}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if one := summarise([]time.Duration{time.Second}); one.P50 != 1000 || one.P99 != 1000 {
		t.Errorf("one sample: %+v", one)
	}
}

func TestInterleave(t *testing.T) {
	var order []string
	of := func(name string, perRound, everyRounds int) contender {
		return contender{name: name, perRound: perRound, everyRounds: everyRounds, once: func(context.Context) (time.Duration, error) {
			order = append(order, name)
			return time.Millisecond, nil
		}}
	}
	got, err := interleave(t.Context(), 4, time.Minute, []contender{of("a", 2, 0), of("b", 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if got["a"].Runs != 8 || got["b"].Runs != 2 {
		t.Errorf("runs: %+v", got)
	}
	// One of each is not counted, and another begins each round.
	if want := "a b a a b a a"; len(order) != 12 || join(order[:7]) != want {
		t.Errorf("order %s, want %s first", join(order), want)
	}
}

func join(words []string) string {
	s := ""
	for i, w := range words {
		if i > 0 {
			s += " "
		}
		s += w
	}
	return s
}

func TestInterleaveEndsAtAFailure(t *testing.T) {
	broken := contender{name: "broken", once: func(context.Context) (time.Duration, error) { return 0, errors.New("no") }}
	if _, err := interleave(t.Context(), 1, time.Minute, []contender{broken}); err == nil {
		t.Error("a contender that fails was measured")
	}
}
