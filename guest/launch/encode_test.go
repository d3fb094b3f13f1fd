package launch

import (
	"reflect"
	"testing"
)

func full() *Config {
	return &Config{
		Hostname: "a", Root: Root{
			Lower:    []Dir{{FD: 7}, {Path: "/layers/1"}},
			Writable: &Writable{FD: 8, UpperFD: 9, WorkFD: 10, Tmpfs: "size=1m", Dir: "/d", Keep: "/k"},
		},
		Mounts:  []Mount{{Target: "/proc", Type: "proc", From: Dir{FD: 3, Path: "p"}, Lower: []Dir{{FD: 4}}, Flags: 1 << 40, Data: "x=y"}, {Target: "/dev"}},
		Sysctls: map[string]string{"net.mptcp.enabled": "0", "a.b": "c"}, Limits: []Limit{{Resource: 7, Soft: 1, Hard: ^uint64(0)}},
		CgroupNamespace: true, Capabilities: 1<<63 | 5, Filter: []byte{0, 1, 255}, Listen: "/run/s",
		Files: []File{{Path: "/f", Content: []byte("secret"), Mode: 0o400}}, Args: []string{"/agent", "--listen", ""}, Env: []string{"PATH=/bin"},
	}
}

func TestConfigSurvivesItsEncoding(t *testing.T) {
	for _, c := range []*Config{full(), {}} {
		got, err := Decode(c.Encode())
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("got %+v, %v, want %+v", got, err, c)
		}
	}
}

// A field that Encode does not know would be lost without a word.
func TestEveryFieldIsEncoded(t *testing.T) {
	seen := reflect.ValueOf(*full())
	for i := range seen.NumField() {
		if seen.Field(i).IsZero() {
			t.Errorf("the configuration of this test has no %s", seen.Type().Field(i).Name)
		}
	}
}

func TestBrokenConfigsAreRefused(t *testing.T) {
	whole := full().Encode()
	for n := range len(whole) {
		if _, err := Decode(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were taken for all", n, len(whole))
		}
	}
	if _, err := Decode(append(whole, 0)); err == nil {
		t.Error("a byte too many was taken")
	}
}
