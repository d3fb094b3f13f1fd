package network

import (
	"errors"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
)

func TestCheckPolicy(t *testing.T) {
	many := make([]string, maxAllow+1)
	for i := range many {
		many[i] = "203.0.113.1"
	}
	for _, tc := range []struct {
		name  string
		in    faas.NetworkPolicy
		field string
	}{
		{"zero", faas.NetworkPolicy{}, ""},
		{"none", faas.NetworkPolicy{Mode: faas.NetworkNone}, ""},
		{"egress", faas.NetworkPolicy{Mode: faas.NetworkEgress}, ""},
		{"prefix and address", faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{"10.0.0.0/8", "203.0.113.7"}}, ""},
		{"unknown mode", faas.NetworkPolicy{Mode: "host"}, "network.mode"},
		{"none with a list", faas.NetworkPolicy{Mode: faas.NetworkNone, Allow: []string{"10.0.0.0/8"}}, "network.allow"},
		{"no address", faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{"203.0.113.7", "example.org"}}, "network.allow[1]"},
		{"IPv6", faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: []string{"2001:db8::/32"}}, "network.allow[0]"},
		{"too many", faas.NetworkPolicy{Mode: faas.NetworkEgress, Allow: many}, "network.allow"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckPolicy(tc.in)
			if tc.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *faas.Error
			if !errors.As(err, &e) || e.Kind != faas.KindInvalidArgument || !strings.HasPrefix(e.Field, tc.field) {
				t.Errorf("error %v, want one that names %s", err, tc.field)
			}
		})
	}
}
