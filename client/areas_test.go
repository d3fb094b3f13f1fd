package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/internal/gateway"
)

// states is an executor with instances and a merge that fails.
type states struct {
	gateway.Executor
	filters []faas.InstanceFilter
}

func (s *states) Instances(_ context.Context, _ string, f faas.InstanceFilter) ([]faas.Instance, string, error) {
	s.filters = append(s.filters, f)
	next := ""
	if len(s.filters) < 3 {
		next = fmt.Sprintf("page-%d", len(s.filters))
	}
	return []faas.Instance{{ID: fmt.Sprintf("inst-%da", len(s.filters))}, {ID: fmt.Sprintf("inst-%db", len(s.filters))}}, next, nil
}

func (s *states) MergeBranches(context.Context, string, []string, faas.MergeStrategy, faas.SnapshotRequest) (*faas.Merged, error) {
	return &faas.Merged{Conflicts: []faas.MergeConflict{{Path: "/a", Branches: []string{"x", "y"}}}},
		faas.Errorf(faas.KindConflict, "paths that more than one branch changed")
}

func (s *states) Instance(_ context.Context, _, id string) (*faas.Instance, error) {
	return nil, faas.Errorf(faas.KindNotFound, "there is no instance %s", id)
}

func dialStates(t *testing.T) (*client.Client, *states) {
	t.Helper()
	below := &states{}
	gate, err := gateway.New(gateway.Options{Executor: below})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(gate.ServeHTTP))
	t.Cleanup(func() { gate.Close(); server.Close() })
	c, err := client.New(client.Options{URL: server.URL, Key: "none"})
	if err != nil {
		t.Fatal(err)
	}
	return c, below
}

func TestAllInstances(t *testing.T) {
	c, below := dialStates(t)
	filter := client.InstanceFilter{Status: faas.InstanceRunning, Labels: map[string]string{"team": "a,b"}}
	var ids []string
	for x, err := range c.AllInstances(t.Context(), filter) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, x.ID)
	}
	if len(ids) != 6 || ids[0] != "inst-1a" || ids[5] != "inst-3b" {
		t.Errorf("walked %v", ids)
	}
	if f := below.filters[2]; f.Cursor != "page-2" || f.Status != faas.InstanceRunning || f.Labels["team"] != "a,b" {
		t.Errorf("the third page was asked for with %+v", f)
	}
	below.filters = nil
	for range c.AllInstances(t.Context(), filter) {
		break // a reader that leaves asks for no further page
	}
	if len(below.filters) != 1 {
		t.Errorf("%d pages for one instance", len(below.filters))
	}
}

func TestMergeErrorNamesThePaths(t *testing.T) {
	c, _ := dialStates(t)
	_, err := c.MergeBranches(t.Context(), api.MergeRequest{BranchIDs: []string{"x", "y"}})
	var merge *client.MergeError
	if !errors.As(err, &merge) || !errors.Is(err, faas.ErrConflict) || len(merge.Conflicts) != 1 || merge.Conflicts[0].Path != "/a" {
		t.Errorf("%+v", err)
	}
}

func TestNotFoundIsTyped(t *testing.T) {
	c, _ := dialStates(t)
	if _, err := c.Instance(t.Context(), faas.NewID(faas.PrefixInstance)); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("%v", err)
	}
	for _, err := range c.AllInstances(t.Context(), client.InstanceFilter{Status: "odd"}) {
		if !errors.Is(err, faas.ErrInvalidArgument) {
			t.Errorf("%v", err)
		}
	}
}
