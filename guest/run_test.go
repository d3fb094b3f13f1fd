package guest

import (
	"bytes"
	"io"
	"testing"
)

type incomparable struct{ _ []func() }

func (incomparable) Write(p []byte) (int, error) { return len(p), nil }

func TestSame(t *testing.T) {
	var a, b bytes.Buffer
	for name, tc := range map[string]struct {
		x, y io.Writer
		want bool
	}{
		"one":          {&a, &a, true},
		"two":          {&a, &b, false},
		"none":         {nil, nil, false},
		"incomparable": {incomparable{}, incomparable{}, false},
	} {
		if got := same(tc.x, tc.y); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}
