package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/client"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/internal/config"
)

// load reads the configuration with the flags of the command line on top.
func (c *commands) load(flags ...config.Flag) (*config.Loaded, error) {
	home, err := os.UserHomeDir()
	if err != nil && os.Geteuid() != 0 {
		return nil, faas.Errorf(faas.KindFailedPrecondition, "where are you at home? %w", err)
	}
	for _, text := range c.Set {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, faas.InvalidField("--set", "%q is not KEY=VALUE", text)
		}
		flags = append(flags, config.Flag{Key: key, Value: value, Name: "--set"})
	}
	return config.Load(config.Options{
		File: c.Config, Flags: flags,
		Environment: config.Environment{
			Getenv: os.Getenv, Root: os.Geteuid() == 0, UserID: os.Geteuid(), Home: home, TempDir: os.TempDir(),
		},
	})
}

// dataDirMode lets others pass through the data directory, not look: what some
// runtimes start reaches its files as users that are nobody on this machine.
// What is not for others has a mode of its own.
const dataDirMode = 0o711

// makeDataDir makes the directory of all durable state when it is missing.
func makeDataDir(cfg *config.Loaded) error {
	if err := os.MkdirAll(cfg.Data.Dir, dataDirMode); err != nil {
		return faas.Errorf(faas.KindFailedPrecondition, "make the data directory: %w", err)
	}
	return nil
}

// flag makes a setting of a command-line flag that was given.
func flag(name, key, value string) []config.Flag {
	if value == "" {
		return nil
	}
	return []config.Flag{{Key: key, Value: value, Name: name}}
}

// logger writes the structured log to standard error.
func logger(cfg *config.Loaded) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) //nolint:errcheck // the configuration was validated
	options := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// server returns a client when the configuration names a server, else nil.
func server(cfg *config.Loaded) (*client.Client, error) {
	if cfg.API.URL == "" {
		return nil, nil
	}
	opts := client.Options{URL: cfg.API.URL, Key: cfg.API.Key}
	if _, err := os.Stat(cfg.API.KeyFile); err == nil {
		opts.KeyFile = cfg.API.KeyFile
	}
	return client.New(opts)
}

// executorOptions turns the configuration into the library's terms.
func executorOptions(cfg *config.Loaded) executor.Options {
	opts := executor.Options{
		DataDir: cfg.Data.Dir,
		Policy: executor.Policy{
			Allowed: runtimes(cfg.Policy.Allowed), Order: runtimes(cfg.Policy.Order),
			MinIsolation: executor.Isolation(cfg.Policy.MinIsolation),
		},
		Default: executor.Defaults{
			Image: cfg.Execution.Image, Timeout: time.Duration(cfg.Execution.Timeout),
			Resources: faas.Resources{
				CPUCores: cfg.Execution.CPUCores, MemoryMB: cfg.Execution.MemoryMB,
				DiskMB: cfg.Execution.DiskMB, PIDs: cfg.Execution.PIDs,
			},
		},
	}
	limits, _ := cfg.Admission.Limits() //nolint:errcheck // the configuration was validated
	opts.Admission = executor.Admission{
		Concurrent: cfg.Admission.Concurrent, Queue: cfg.Admission.Queue, KeyConcurrent: cfg.Admission.KeyConcurrent,
		KeyQueue: cfg.Admission.KeyQueue, Runtimes: limits,
		MemoryOvercommit: cfg.Admission.MemoryOvercommit, CPUOvercommit: cfg.Admission.CPUOvercommit,
	}
	opts.Pooling = executor.Pooling{
		Predict: cfg.Pooling.Predict, MaxIdle: cfg.Pooling.MaxIdle, MaxAge: time.Duration(cfg.Pooling.MaxAge),
		Refill: cfg.Pooling.Refill, ReserveMB: cfg.Pooling.ReserveMB,
	}
	opts.Transfer.MaxBytes = cfg.Snapshots.MaxImportMB << 20
	opts.Transfer.Trusted, _ = cfg.Snapshots.Trusted() //nolint:errcheck // validated when it was loaded
	for _, pool := range cfg.Pools {
		opts.Pools = append(opts.Pools, faas.PoolRequest{
			Runtime: faas.Runtime(pool.Runtime), Image: pool.Image, Min: pool.Min, Max: pool.Max, Priority: pool.Priority,
			Resources: faas.Resources{CPUCores: pool.CPUCores, MemoryMB: pool.MemoryMB, DiskMB: pool.DiskMB, PIDs: pool.PIDs},
		})
	}
	return opts
}

func runtimes(names []string) []faas.Runtime {
	var all []faas.Runtime
	for _, name := range names {
		all = append(all, faas.Runtime(name))
	}
	return all
}

func printJSON(v any) error {
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

type configCommand struct {
	Show showConfigCommand `cmd:"" default:"withargs" help:"Print every setting with its value and where it came from."`
}

type showConfigCommand struct {
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *showConfigCommand) Run(line *commands) error {
	cfg, err := line.load()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(cfg.Show())
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, s := range cfg.Show() {
		value, err := json.Marshal(s.Value)
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Key, value, s.Source)
	}
	return table.Flush()
}
