package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// user is a user with some variables set.
func user(variables map[string]string) Environment {
	return Environment{Getenv: func(name string) string { return variables[name] }, UserID: 1000, Home: "/home/me", TempDir: "/tmp"}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "faas.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDirectories(t *testing.T) {
	root := user(nil)
	root.Root = true
	for name, test := range map[string]struct {
		env                      Environment
		data, runtime, key, file string
	}{
		"root":  {root, "/var/lib/faas", "/run/faas", "/home/me/.config/faas/key", "/etc/faas/faas.toml"},
		"plain": {user(nil), "/home/me/.local/share/faas", "/tmp/faas-1000", "/home/me/.config/faas/key", "/home/me/.config/faas/faas.toml"},
		"xdg": {
			user(map[string]string{"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c"}),
			"/d/faas", "/r/faas", "/c/faas/key", "/c/faas/faas.toml",
		},
		"relative xdg": {
			user(map[string]string{"XDG_DATA_HOME": "d", "XDG_CONFIG_HOME": "c"}),
			"/home/me/.local/share/faas", "/tmp/faas-1000", "/home/me/.config/faas/key", "/home/me/.config/faas/faas.toml",
		},
	} {
		c := defaults(test.env)
		got := []string{c.Data.Dir, c.Data.RuntimeDir, c.API.KeyFile, Path(test.env)}
		want := []string{test.data, test.runtime, test.key, test.file}
		for i := range want {
			if filepath.ToSlash(got[i]) != want[i] {
				t.Errorf("%s: %s, want %s", name, got[i], want[i])
			}
		}
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "[execution]\nmemory_mb = 1\ndisk_mb = 1\npids = 1\ntimeout = \"1s\"\n[server]\nallowed_hosts = [\"a\"]\n[[pools]]\nruntime = \"native\"\nmin = 2\n")
	l, err := Load(Options{
		File:        file,
		Environment: user(map[string]string{"FAAS_EXECUTION_MEMORY_MB": "2", "FAAS_EXECUTION_DISK_MB": "2", "FAAS_SERVER_ALLOWED_HOSTS": "b, c"}),
		Flags:       []Flag{{Key: "execution.memory_mb", Value: "3", Name: "--mem"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := l.Execution
	if e.MemoryMB != 3 || e.DiskMB != 2 || e.PIDs != 1 || e.CPUCores != 1 || time.Duration(e.Timeout) != time.Second || len(l.Server.AllowedHosts) != 2 || len(l.Pools) != 1 {
		t.Errorf("%+v", l.Config)
	}
	from := map[string]string{}
	for _, s := range l.Show() {
		from[s.Key] = s.Source
	}
	for key, want := range map[string]string{
		"execution.memory_mb": "flag --mem", "execution.disk_mb": "environment FAAS_EXECUTION_DISK_MB",
		"execution.pids": "file " + file, "execution.cpu_cores": "default", "pools": "file " + file,
	} {
		if from[key] != want {
			t.Errorf("%s is from %q, want %q", key, from[key], want)
		}
	}
}

func TestKeyIsNotShown(t *testing.T) {
	l, err := Load(Options{Environment: user(map[string]string{"FAAS_API_KEY": "secret"})})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Show() {
		if s.Value == "secret" {
			t.Error("the key is shown")
		}
	}
	if l.API.Key != "secret" {
		t.Error("the key is lost")
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := map[string]struct {
		file string
		env  map[string]string
		flag Flag
		want string
	}{
		"unknown key":     {file: "[server]\n\ncolour = 1\n", want: "line 3: there is no setting server.colour"},
		"unknown section": {file: "[servers]\nlisten = \"x\"\n", want: "there is no setting servers"},
		"syntax":          {file: "[server\n", want: "line 1"},
		"type":            {file: "[server]\nmax_body_mb = \"x\"\n", want: "line 2"},
		"value":           {file: "[server]\nlisten = \"x\"\n", want: "server.listen: must be HOST:PORT (from file"},
		"variable":        {env: map[string]string{"FAAS_EXECUTION_PIDS": "x"}, want: "FAAS_EXECUTION_PIDS: \"x\" is not a whole number"},
		"range":           {env: map[string]string{"FAAS_EXECUTION_PIDS": "0"}, want: "from environment FAAS_EXECUTION_PIDS"},
		"bool":            {env: map[string]string{"FAAS_AUTH_DISABLED": "maybe"}, want: "not true or false"},
		"time":            {env: map[string]string{"FAAS_EXECUTION_TIMEOUT": "5"}, want: "not a time span"},
		"flag":            {flag: Flag{Key: "execution.pids", Value: "x", Name: "--pids"}, want: "--pids: "},
		"flag key":        {flag: Flag{Key: "nonsense", Value: "x", Name: "--set"}, want: "there is no setting \"nonsense\""},
		"runtime":         {file: "[policy]\norder = [\"vmware\"]\n", want: "policy.order: there is no runtime \"vmware\""},
		"pool":            {file: "[[pools]]\nruntime = \"native\"\n", want: "pools[0].max"},
		"prefix":          {file: "[network]\nprefix = \"fd00::/64\"\n", want: "network.prefix"},
		"name server":     {file: "[network]\ndns = [\"127.0.0.53\"]\n", want: "network.dns"},
		"launcher":        {env: map[string]string{"FAAS_NATIVE_LAUNCHER": "docker"}, want: "native.launcher: must be auto"},
		"isolation":       {file: "[policy]\nmin_isolation = \"good\"\n", want: "policy.min_isolation"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			opts := Options{File: write(t, test.file), Environment: user(test.env)}
			if test.flag.Key != "" {
				opts.Flags = []Flag{test.flag}
			}
			_, err := Load(opts)
			if !errors.Is(err, faas.ErrInvalidArgument) && faas.KindOf(err) != faas.KindInvalidArgument {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not tell %q", err, test.want)
			}
		})
	}
}

func TestNamedFileMustExist(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	if _, err := Load(Options{File: missing, Environment: user(nil)}); err == nil {
		t.Error("a missing file that was named is accepted")
	}
	if _, err := Load(Options{Environment: user(map[string]string{"FAAS_CONFIG": missing})}); err == nil {
		t.Error("a missing file that FAAS_CONFIG names is accepted")
	}
	if l, err := Load(Options{Environment: user(nil)}); err != nil || l.File != "" {
		t.Errorf("no file at all: %v", err)
	}
}

func TestLoopback(t *testing.T) {
	for listen, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "example.org:1": false,
	} {
		c := Config{Server: Server{Listen: listen}}
		if got := c.Loopback(); got != want {
			t.Errorf("%s: %v", listen, got)
		}
	}
}
