package meta

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/internal/audit"
)

func openAccounts(t *testing.T) *Accounts {
	t.Helper()
	a, err := OpenAccounts(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func TestAuditLog(t *testing.T) {
	a := openAccounts(t)
	log := audit.New(a, nil)
	mine := audit.WithActor(t.Context(), audit.Actor{Project: "mine", KeyID: "key-1", RequestID: "req-1", Remote: "::1"})
	ended, cancel := context.WithCancel(mine)
	cancel()
	log.Record(ended, audit.Event{Action: "one", Object: "inst-1", Details: map[string]string{"a": "b"}})
	log.Record(mine, audit.Event{Action: "two", Outcome: audit.OutcomeRefused})
	log.Record(mine, audit.Event{Action: "three", At: time.Now().Add(-2 * auditAge)})
	log.Record(audit.WithActor(t.Context(), audit.Actor{Project: "other"}), audit.Event{Action: "four"})
	actions := func(filter audit.Filter) (found []string) {
		t.Helper()
		for {
			list, next, err := log.Events(t.Context(), filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				found = append(found, e.Action)
			}
			if filter.Cursor = next; next == "" {
				return found
			}
		}
	}
	for _, test := range []struct {
		filter audit.Filter
		want   []string
	}{
		{audit.Filter{}, []string{"four", "three", "two", "one"}},
		{audit.Filter{Limit: 1}, []string{"four", "three", "two", "one"}},
		{audit.Filter{Project: "mine", Limit: 2}, []string{"three", "two", "one"}},
		{audit.Filter{Action: "two"}, []string{"two"}},
		{audit.Filter{Object: "inst-1", KeyID: "key-1"}, []string{"one"}},
		{audit.Filter{Project: "mine", Since: time.Now().Add(-time.Hour)}, []string{"two", "one"}},
		{audit.Filter{Until: time.Now().Add(-time.Hour)}, []string{"three"}},
	} {
		if got := actions(test.filter); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.filter, got, test.want)
		}
	}
	list, _, err := log.Events(t.Context(), audit.Filter{Action: "one"})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if e := list[0]; e.Project != "mine" || e.KeyID != "key-1" || e.RequestID != "req-1" || e.Remote != "::1" || e.Outcome != audit.OutcomeDone || e.Details["a"] != "b" {
		t.Errorf("%+v", e)
	}
	if err := pruneAudit(t.Context(), a.db, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := actions(audit.Filter{}); !slices.Equal(got, []string{"four", "two", "one"}) {
		t.Errorf("after pruning: %v", got)
	}
	if _, _, err := log.Events(t.Context(), audit.Filter{Cursor: "x"}); !errors.Is(err, faas.ErrInvalidArgument) {
		t.Error(err)
	}
}
