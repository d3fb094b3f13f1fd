package config

import (
	"path/filepath"
	"strconv"
)

// Environment is what of a process decides where things are: given in, so that
// a test can be any user.
type Environment struct {
	Getenv  func(string) string // os.Getenv
	Root    bool                // the system's administrator
	UserID  int                 // -1 where there are no numbers
	Home    string              // the user's home directory
	TempDir string              // for a runtime directory where nothing better is set
}

type dirs struct{ data, runtime, user, system string }

// directories says where an installation of this user keeps what. system is
// empty for a user who is not root.
func directories(env Environment) dirs {
	under := func(variable, fallback string) string {
		if dir := env.Getenv(variable); filepath.IsAbs(dir) {
			return filepath.Join(dir, "faas")
		}
		return filepath.Join(env.Home, fallback, "faas")
	}
	d := dirs{user: under("XDG_CONFIG_HOME", ".config")}
	if env.Root {
		d.data, d.runtime, d.system = "/var/lib/faas", "/run/faas", "/etc/faas"
		return d
	}
	d.data = under("XDG_DATA_HOME", filepath.Join(".local", "share"))
	if dir := env.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		d.runtime = filepath.Join(dir, "faas")
		return d
	}
	d.runtime = filepath.Join(env.TempDir, "faas-"+strconv.Itoa(env.UserID))
	return d
}

// Path returns where the configuration file of this user is looked for.
func Path(env Environment) string {
	d := directories(env)
	if d.system != "" {
		return filepath.Join(d.system, "faas.toml")
	}
	return filepath.Join(d.user, "faas.toml")
}
