// Package config reads what configures this installation: built-in defaults,
// a TOML file, FAAS_* environment variables and command-line flags, each
// overriding the one before, and remembers where every value came from.
//
// A setting has one name in all of them: execution.memory_mb in the file's
// section [execution], FAAS_EXECUTION_MEMORY_MB in the environment.
package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
)

// Config is the effective configuration.
type Config struct {
	Data      Data      `toml:"data"`
	Server    Server    `toml:"server"`
	Auth      Auth      `toml:"auth"`
	API       API       `toml:"api"`
	Log       Log       `toml:"log"`
	Execution Execution `toml:"execution"`
	Images    Images    `toml:"images"`
	Policy    Policy    `toml:"policy"`
	Native    Native    `toml:"native"`
	GVisor    GVisor    `toml:"gvisor"`
	MicroVM   MicroVM   `toml:"microvm"`
	Network   Network   `toml:"network"`
	SSH       SSH       `toml:"ssh"`
	Snapshots Snapshots `toml:"snapshots"`
	Admission Admission `toml:"admission"`
	Pooling   Pooling   `toml:"pooling"`
	Pools     []Pool    `toml:"pools"`
}

// Data says where durable and passing state live.
type Data struct {
	Dir        string `toml:"dir" help:"durable state"`
	RuntimeDir string `toml:"runtime_dir" help:"sockets, and what a restart of the machine may forget"`
}

// Server configures the gateway.
type Server struct {
	Listen         string   `toml:"listen" help:"address and port of the HTTP API"`
	AllowedHosts   []string `toml:"allowed_hosts" help:"names in Host headers that are accepted besides localhost and IP addresses; * accepts all"`
	AllowedOrigins []string `toml:"allowed_origins" help:"origins of web pages that may use the API"`
	MaxBodyMB      int64    `toml:"max_body_mb" help:"largest request body, in MiB"`
	TLSCert        string   `toml:"tls_cert" help:"file with the certificate chain; with tls_key the API is served over TLS; read again when it changes"`
	TLSKey         string   `toml:"tls_key" help:"file with the certificate's private key"`
	DrainTimeout   Duration `toml:"drain_timeout" help:"how long running requests may take to end at a shutdown"`
}

// Auth configures who may use the gateway.
type Auth struct {
	Disabled bool `toml:"disabled" help:"answer everyone as an admin; refused off loopback unless forced"`
	Force    bool `toml:"force" help:"allow auth.disabled on an address that others can reach"`
}

// API says where clients find a server and the key for it.
type API struct {
	URL     string `toml:"url" help:"server that commands use; empty: run without one"`
	Key     string `toml:"key" help:"API key; empty: the one in key_file"`
	KeyFile string `toml:"key_file" help:"file with this user's API key"`
}

// Log configures the structured log on standard error.
type Log struct {
	Level  string `toml:"level" help:"debug, info, warn or error"`
	Format string `toml:"format" help:"text or json"`
}

// Execution holds the defaults of requests.
type Execution struct {
	Image    string   `toml:"image" help:"image of requests that name none"`
	CPUCores float64  `toml:"cpu_cores" help:"cores, fractions allowed"`
	MemoryMB int64    `toml:"memory_mb" help:"MiB of memory"`
	DiskMB   int64    `toml:"disk_mb" help:"MiB of the writable layer"`
	PIDs     int64    `toml:"pids" help:"processes and threads"`
	Timeout  Duration `toml:"timeout" help:"limit on a command's run time"`
}

// Images configures where images come from.
type Images struct {
	InsecureRegistries []string `toml:"insecure_registries" help:"registries (host[:port]) that are spoken to in plain HTTP; loopback ones always are"`
}

// Policy restricts and orders the runtimes.
type Policy struct {
	Allowed      []string `toml:"allowed" help:"runtimes that may be used; empty: all"`
	Order        []string `toml:"order" help:"order in which auto tries them; empty: strongest first"`
	MinIsolation string   `toml:"min_isolation" help:"process, userns, kernel or vm; empty: any"`
}

// Native configures the native runtime.
type Native struct {
	Launcher string `toml:"launcher" help:"what starts its sandboxes: builtin, crun, runc, or auto, which takes builtin where it works, else the faster program"`
}

// GVisor configures the gvisor runtime.
type GVisor struct {
	Platform string `toml:"platform" help:"what runs the code of its sandboxes: systrap, which works everywhere, or kvm"`
}

// MicroVM configures the runtimes whose sandboxes are virtual machines.
type MicroVM struct {
	Kernel string `toml:"kernel" help:"kernel of the machines, ROOT/boot/vmlinuz-RELEASE as distributions package it; empty: one that faas image kernel install unpacked, or this machine's own"`
	Accel  string `toml:"accel" help:"how QEMU executes machines: kvm, tcg (in software), or auto, which takes kvm where a kernel boots with it"`
}

// Snapshots says how snapshots are kept and whom imports are believed from.
type Snapshots struct {
	Cold         string   `toml:"cold" help:"where cold copies are kept: a directory, or s3://BUCKET[/PREFIX]; empty: nowhere"`
	S3Endpoint   string   `toml:"s3_endpoint" help:"URL of the S3 service; empty: https://s3.amazonaws.com"`
	S3Region     string   `toml:"s3_region" help:"region of the bucket; empty: asked for"`
	S3AccessKey  string   `toml:"s3_access_key" help:"access key; empty: from the AWS_* environment, the AWS credentials file or the machine's role"`
	S3SecretKey  string   `toml:"s3_secret_key" help:"secret key that belongs to it"`
	KeyFile      string   `toml:"key_file" help:"file with the 32 bytes (or 64 hexadecimal digits) that encrypt cold copies; empty: not encrypted"`
	ArchiveAfter Duration `toml:"archive_after" help:"how old a snapshot is when its cold copy, or the list of its digests, is made"`
	HotMB        int64    `toml:"hot_mb" help:"MiB of the disk that hot snapshots may take; beyond it those unused for longest are evicted to the cold tier, and new ones refused when none can be; 0: no bound"`
	EvictAfter   Duration `toml:"evict_after" help:"evict what has a cold copy and was not used for so long; 0s: only when hot_mb asks for it"`
	MaxDepth     int64    `toml:"max_depth" help:"file layers that a snapshot is made of at most, before they are made one in the background"`
	TrustedKeys  []string `toml:"trusted_keys" help:"public keys of installations whose exported snapshots an admin may import with memory; faas snapshot key prints an installation's own"`
	MaxImportMB  int64    `toml:"max_import_mb" help:"MiB that one imported snapshot may unpack to"`
}

// Network says how sandboxes that ask for it are connected.
type Network struct {
	Prefix string   `toml:"prefix" help:"IPv4 network of which each connected sandbox takes four addresses; empty: 10.213.0.0/16"`
	DNS    []string `toml:"dns" help:"IPv4 addresses of the name servers of connected sandboxes; empty: this machine's own"`
}

// Admission bounds what runs at once.
type Admission struct {
	Concurrent       int      `toml:"concurrent" help:"executions that have a sandbox at once; 0: eight per CPU, fewer where memory is short"`
	Queue            int      `toml:"queue" help:"executions that may wait for their turn, others are refused; 0: sixteen times concurrent; -1: none"`
	KeyConcurrent    int      `toml:"key_concurrent" help:"executions of one key at once; 0: concurrent"`
	KeyQueue         int      `toml:"key_queue" help:"executions of one key that may wait; 0: half of queue"`
	Runtimes         []string `toml:"runtimes" help:"executions of a runtime at once, as in docker=4; those left out: concurrent"`
	MemoryOvercommit float64  `toml:"memory_overcommit" help:"how many times the machine's memory executions and instances may be promised together; 0: 4; -1: no bound"`
	CPUOvercommit    float64  `toml:"cpu_overcommit" help:"how many times the machine's cores executions may be promised together; 0: 16; -1: no bound"`
}

// Limits reads Runtimes.
func (a Admission) Limits() (map[faas.Runtime]int, error) {
	limits := map[faas.Runtime]int{}
	for _, text := range a.Runtimes {
		name, number, _ := strings.Cut(text, "=")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || !slices.Contains(faas.Runtimes(), faas.Runtime(name)) {
			return nil, faas.InvalidField("admission.runtimes", "%q is not RUNTIME=NUMBER, such as docker=4", text)
		}
		limits[faas.Runtime(name)] = n
	}
	return limits, nil
}

// Pool asks for warm sandboxes of one kind. Pools are set in the file only.
type Pool struct {
	Runtime  string  `toml:"runtime" json:"runtime"`
	Image    string  `toml:"image" json:"image,omitempty"`
	CPUCores float64 `toml:"cpu_cores" json:"cpu_cores,omitempty"`
	MemoryMB int64   `toml:"memory_mb" json:"memory_mb,omitempty"`
	DiskMB   int64   `toml:"disk_mb" json:"disk_mb,omitempty"`
	PIDs     int64   `toml:"pids" json:"pids,omitempty"`
	Min      int     `toml:"min" json:"min"`                     // kept ready whatever the demand
	Max      int     `toml:"max" json:"max,omitempty"`           // at most, as the demand asks; 0: min
	Priority int     `toml:"priority" json:"priority,omitempty"` // the highest is served first
}

// Pooling configures the pools of warm sandboxes as a whole.
type Pooling struct {
	Predict   bool     `toml:"predict" help:"let pools grow and shrink with the demand, between their min and max"`
	MaxIdle   int      `toml:"max_idle" help:"warm sandboxes of all pools together"`
	MaxAge    Duration `toml:"max_age" help:"age at which a warm sandbox is replaced"`
	Refill    int      `toml:"refill" help:"sandboxes made at once; 0: one per CPU"`
	ReserveMB int64    `toml:"reserve_mb" help:"MiB of memory that stay free: pools shrink before less is; 0: a tenth of the machine's"`
}

// Duration is a time span written as in Go: "30s", "5m".
type Duration time.Duration

// UnmarshalText parses the written form.
func (d *Duration) UnmarshalText(b []byte) error {
	parsed, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a time span such as 30s or 5m", b)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalText writes it again.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// defaults returns the built-in configuration for a user.
func defaults(env Environment) Config {
	dirs := directories(env)
	return Config{
		Data:    Data{Dir: dirs.data, RuntimeDir: dirs.runtime},
		Server:  Server{Listen: "127.0.0.1:8080", MaxBodyMB: 64, DrainTimeout: Duration(30 * time.Second)},
		API:     API{KeyFile: filepath.Join(dirs.user, "key")},
		Log:     Log{Level: "info", Format: "text"},
		Native:  Native{Launcher: "auto"},
		Pooling: Pooling{Predict: true, MaxIdle: 512, MaxAge: Duration(time.Hour)},
		Snapshots: Snapshots{
			ArchiveAfter: Duration(time.Minute), MaxDepth: 16, MaxImportMB: 64 << 10,
		},
		GVisor:  GVisor{Platform: "systrap"},
		SSH:     defaultSSH(),
		MicroVM: MicroVM{Accel: "auto"},
		Execution: Execution{
			Image: faas.HostImage, CPUCores: 1, MemoryMB: 512, DiskMB: 256, PIDs: 256,
			Timeout: Duration(5 * time.Minute),
		},
	}
}

// Validate checks the values that no type can.
func (c *Config) Validate() error {
	checks := []struct {
		key string
		ok  bool
		why string
	}{
		{"data.dir", filepath.IsAbs(c.Data.Dir), "must be an absolute path"},
		{"data.runtime_dir", filepath.IsAbs(c.Data.RuntimeDir), "must be an absolute path"},
		{"server.listen", validListen(c.Server.Listen), "must be HOST:PORT"},
		{"server.max_body_mb", c.Server.MaxBodyMB >= 1 && c.Server.MaxBodyMB <= 4096, "must be 1 to 4096"},
		{"server.drain_timeout", c.Server.DrainTimeout >= 0, "must not be negative"},
		{"server.tls_key", (c.Server.TLSCert == "") == (c.Server.TLSKey == ""), "tls_cert and tls_key belong together"},
		{"api.url", c.API.URL == "" || validURL(c.API.URL), "must be an http or https URL"},
		{"log.level", slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level), "must be debug, info, warn or error"},
		{"log.format", slices.Contains([]string{"text", "json"}, c.Log.Format), "must be text or json"},
		{"execution.cpu_cores", c.Execution.CPUCores > 0, "must be above 0"},
		{"execution.memory_mb", c.Execution.MemoryMB > 0, "must be above 0"},
		{"execution.disk_mb", c.Execution.DiskMB > 0, "must be above 0"},
		{"execution.pids", c.Execution.PIDs > 0, "must be above 0"},
		{"execution.timeout", c.Execution.Timeout > 0, "must be above 0"},
		{"admission.concurrent", c.Admission.Concurrent >= 0, "must not be negative"},
		{"admission.queue", c.Admission.Queue >= -1, "must not be below -1"},
		{"admission.key_concurrent", c.Admission.KeyConcurrent >= 0, "must not be negative"},
		{"admission.key_queue", c.Admission.KeyQueue >= 0, "must not be negative"},
		{"pooling.max_idle", c.Pooling.MaxIdle >= 1, "must be at least 1"},
		{"pooling.max_age", c.Pooling.MaxAge > 0, "must be above 0"},
		{"pooling.refill", c.Pooling.Refill >= 0, "must not be negative"},
		{"pooling.reserve_mb", c.Pooling.ReserveMB >= 0, "must not be negative"},
		{"native.launcher", slices.Contains([]string{"auto", "builtin", "crun", "runc"}, c.Native.Launcher), "must be auto, builtin, crun or runc"},
		{"microvm.accel", slices.Contains([]string{"auto", "kvm", "tcg"}, c.MicroVM.Accel), "must be auto, kvm or tcg"},
		{"microvm.kernel", c.MicroVM.Kernel == "" || filepath.IsAbs(c.MicroVM.Kernel), "must be an absolute path"},
		{"gvisor.platform", slices.Contains([]string{"systrap", "kvm"}, c.GVisor.Platform), "must be systrap or kvm"},
		{"policy.min_isolation", slices.Contains([]string{"", "process", "userns", "kernel", "vm"}, c.Policy.MinIsolation), "must be process, userns, kernel or vm"},
	}
	for _, check := range checks {
		if !check.ok {
			return faas.InvalidField(check.key, "%s", check.why)
		}
	}
	if err := c.validateRuntimes(); err != nil {
		return err
	}
	if _, err := c.Admission.Limits(); err != nil {
		return err
	}
	if err := c.SSH.validate(); err != nil {
		return err
	}
	if err := c.Network.validate(); err != nil {
		return err
	}
	return c.Snapshots.validate()
}

// The longest and shortest prefixes that sandboxes are given addresses from.
const (
	shortestPrefix = 8
	longestPrefix  = 28
)

func (n Network) validate() error {
	if n.Prefix != "" {
		prefix, err := netip.ParsePrefix(n.Prefix)
		if err != nil || !prefix.Addr().Is4() || prefix.Bits() < shortestPrefix || prefix.Bits() > longestPrefix {
			return faas.InvalidField("network.prefix", "%q is not an IPv4 network between /%d and /%d, such as 10.213.0.0/16",
				n.Prefix, shortestPrefix, longestPrefix)
		}
	}
	for _, server := range n.DNS {
		if addr, err := netip.ParseAddr(server); err != nil || !addr.Is4() || addr.IsLoopback() {
			return faas.InvalidField("network.dns", "%q is not an IPv4 address that a sandbox could reach", server)
		}
	}
	return nil
}

func (c *Config) validateRuntimes() error {
	for key, names := range map[string][]string{"policy.allowed": c.Policy.Allowed, "policy.order": c.Policy.Order} {
		for _, name := range names {
			if !slices.Contains(faas.Runtimes(), faas.Runtime(name)) {
				return faas.InvalidField(key, "there is no runtime %q", name)
			}
		}
	}
	for i, pool := range c.Pools {
		key := fmt.Sprintf("pools[%d]", i)
		if !slices.Contains(faas.Runtimes(), faas.Runtime(pool.Runtime)) {
			return faas.InvalidField(key+".runtime", "there is no runtime %q", pool.Runtime)
		}
		if pool.Min < 0 || pool.Min > faas.MaxPoolSize {
			return faas.InvalidField(key+".min", "must be 0 to %d", faas.MaxPoolSize)
		}
		if pool.Max != 0 && pool.Max < pool.Min || pool.Max > faas.MaxPoolSize || pool.Min+pool.Max == 0 {
			return faas.InvalidField(key+".max", "must be at least min, 1 and at most %d", faas.MaxPoolSize)
		}
	}
	return nil
}

func validListen(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port != ""
}

func validURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// Loopback says whether the gateway listens where only this machine reaches it.
func (c *Config) Loopback() bool {
	host, _, err := net.SplitHostPort(c.Server.Listen)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
