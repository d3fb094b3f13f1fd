package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/executor"
	"github.com/faas-platform/faas/image"
	"github.com/faas-platform/faas/internal/audit"
	"github.com/faas-platform/faas/internal/auth"
	"github.com/faas-platform/faas/internal/config"
	"github.com/faas-platform/faas/internal/gateway"
	"github.com/faas-platform/faas/internal/meta"
	"github.com/faas-platform/faas/internal/quota"
	"github.com/faas-platform/faas/internal/usage"
)

type serveCommand struct {
	Listen string `help:"Address and port (default: server.listen, 127.0.0.1:8080)." placeholder:"HOST:PORT"`
	SSH    string `name:"ssh" help:"Serve SSH too: address and port (default: ssh.listen; without a value 127.0.0.1:2222)." placeholder:"[HOST:PORT]"`
	NoAuth bool   `help:"Ask for no key: everyone who reaches the address is an admin. Refused off loopback unless --force."`
	Force  bool   `help:"Allow --no-auth on an address that others can reach."`

	Profile string `help:"Serve runtime profiles (pprof) at this loopback address." placeholder:"HOST:PORT"`
}

// Run implements the command.
func (c *serveCommand) Run(line *commands) error {
	flags := append(flag("--listen", "server.listen", c.Listen), flag("--ssh", "ssh.listen", c.SSH)...)
	if c.NoAuth {
		flags = append(flags, config.Flag{Key: "auth.disabled", Value: "true", Name: "--no-auth"})
	}
	if c.Force {
		flags = append(flags, config.Flag{Key: "auth.force", Value: "true", Name: "--force"})
	}
	cfg, err := line.load(flags...)
	if err != nil {
		return err
	}
	if cfg.Auth.Disabled && !cfg.Loopback() && !cfg.Auth.Force {
		return &faas.Error{
			Kind: faas.KindFailedPrecondition, Op: "serve",
			Detail: "without keys everyone who reaches " + cfg.Server.Listen + " could run commands here",
			Remedy: "listen on 127.0.0.1, leave --no-auth out, or add --force",
		}
	}
	if c.Profile != "" {
		stop, err := serveProfiles(logger(cfg), c.Profile)
		if err != nil {
			return err
		}
		defer stop()
	}
	return serve(cfg)
}

// serve runs the daemon until a signal ends it.
func serve(cfg *config.Loaded) error {
	log := logger(cfg)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	// The address first: a daemon that is running already must be noticed
	// before anything of its state is touched.
	listener, err := listen(context.Background(), cfg.Server.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if listener, err = secure(cfg, listener, log); err != nil {
		return err
	}
	if err := makeDataDir(cfg); err != nil {
		return err
	}
	accounts, err := meta.OpenAccounts(context.Background(), cfg.Data.Dir)
	if err != nil {
		return err
	}
	defer accounts.Close()
	authenticator, err := authentication(cfg, log, accounts)
	if err != nil {
		return err
	}
	front, err := openSSH(cfg, accounts, audit.New(accounts, log))
	if err != nil {
		return err
	}
	defer front.close()
	opts := executorOptions(cfg)
	opts.Logger = log
	if opts.Tiers, err = tiers(cfg, log); err != nil {
		return err
	}
	opts.Drivers = drivers(cfg, log, faas.RuntimeAuto)
	engine, err := executor.New(context.Background(), opts)
	if err != nil {
		return errors.Join(err, closeDrivers(opts.Drivers))
	}
	if err := front.serve(cfg, log, engine); err != nil {
		return errors.Join(err, engine.Close(context.Background()))
	}
	return serveWith(cfg, log, listener, engine, accounts, authenticator, front, signals)
}

// serveWith serves until a signal or an error of the listener, then drains.
func serveWith(cfg *config.Loaded, log *slog.Logger, listener net.Listener, engine *executor.Executor, accounts *meta.Accounts, authenticator *auth.Authenticator, front *sshFront, signals <-chan os.Signal) error {
	meter := usage.NewMeter(accounts, holdings(engine), log)
	images, err := openImages(cfg, log)
	if err != nil {
		log.Warn("the image store cannot be opened", "error", err)
	}
	gate, err := gateway.New(gateway.Options{
		Images: imageStore(images), ImageNames: accounts,
		Executor: engine, Auth: authenticator, Audit: front.events, SSH: front.about, Version: version, Logger: log,
		Usage: meter, Answers: accounts, Quota: quota.New(executionsSince(accounts)), Resources: executorOptions(cfg).Default.Resources,
		AllowedHosts: cfg.Server.AllowedHosts, AllowedOrigins: cfg.Server.AllowedOrigins,
		MaxBodyBytes: cfg.Server.MaxBodyMB << 20, Counters: counters(engine),
	})
	if err != nil {
		return errors.Join(err, engine.Close(context.Background()), meter.Close())
	}
	server := gate.Server()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	gate.Probe()
	defer announce(cfg, listener.Addr())()
	stopCollecting := collectImages(cfg, log)
	defer stopCollecting()
	log.Info("serving", "address", scheme(cfg)+"://"+listener.Addr().String(), "version", version, "data", cfg.Data.Dir)
	select {
	case err = <-failed:
		log.Error("the listener failed", "error", err)
	case err = <-front.failed:
		log.Error("the SSH server failed", "error", err)
	case s := <-signals:
		err = nil
		log.Info("shutting down; once more ends what still runs", "signal", s.String(), "drain_timeout", time.Duration(cfg.Server.DrainTimeout).String())
	}
	return errors.Join(err, shutdown(cfg, log, server, gate, engine, front, signals), meter.Close())
}

// shutdown lets running requests end, for as long as the configuration allows
// or until a second signal, then cancels them.
func shutdown(cfg *config.Loaded, log *slog.Logger, server *http.Server, gate *gateway.Gateway, engine *executor.Executor, front *sshFront, signals <-chan os.Signal) error {
	ctx, force := context.WithTimeout(context.Background(), time.Duration(cfg.Server.DrainTimeout))
	defer force()
	go func() {
		select {
		case <-signals:
			force()
		case <-ctx.Done():
		}
	}()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_ = gate.Drain(ctx) //nolint:errcheck // what is left is cancelled below
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		front.drain(ctx)
	}()
	err := server.Shutdown(ctx)
	<-drained
	<-ended
	if err != nil || ctx.Err() != nil {
		log.Warn("ending what still runs")
	}
	gate.Close()
	err = engine.Close(ctx)
	if closeErr := server.Close(); closeErr != nil && err == nil {
		err = closeErr
	}
	log.Info("stopped")
	return err
}

// authentication brings the keys where they belong and sees to it that this
// user has one.
func authentication(cfg *config.Loaded, log *slog.Logger, accounts *meta.Accounts) (*auth.Authenticator, error) {
	if cfg.Auth.Disabled {
		log.Warn("serving without keys: everyone who reaches the address is an admin")
		return nil, nil
	}
	if err := auth.MigrateFile(context.Background(), accounts, filepath.Join(cfg.Data.Dir, "keys.json")); err != nil {
		return nil, err
	}
	made, err := auth.EnsureLocal(context.Background(), accounts, cfg.API.KeyFile)
	if err != nil {
		return nil, err
	}
	if made {
		log.Info("the key in the key file is an admin of this server", "file", cfg.API.KeyFile)
	}
	return auth.New(accounts), nil
}

// imageStore keeps a store that is missing from looking like one.
func imageStore(images *image.Store) gateway.ImageStore {
	if images == nil {
		return nil
	}
	return images
}

// holdings are the memory limits of the instances that have a sandbox.
func holdings(engine *executor.Executor) func() []usage.Holding {
	return func() (held []usage.Holding) {
		for _, x := range engine.LiveInstances() {
			if x.Status != faas.InstanceStopped && x.Status != faas.InstanceFailed {
				held = append(held, usage.Holding{Project: x.Project, KeyID: x.CreatedBy, MemoryMB: x.Resources.MemoryMB})
			}
		}
		return held
	}
}

// executionsSince counts what a key did before this process took over.
func executionsSince(accounts *meta.Accounts) func(context.Context, string, time.Time) (int64, error) {
	return func(ctx context.Context, keyID string, since time.Time) (n int64, err error) {
		records, err := accounts.Usage(ctx, usage.Filter{KeyID: keyID, Since: since})
		for _, r := range records {
			n += r.Executions
		}
		return n, err
	}
}

func counters(engine *executor.Executor) func() *api.ExecutorMetrics {
	return func() *api.ExecutorMetrics {
		s := engine.Stats()
		m := &api.ExecutorMetrics{
			Requests: s.Requests, Running: s.Running, Queued: s.Queued, Dying: s.Dying,
			PoolHits: s.PoolHits, ColdStarts: s.ColdStarts, PoolMissMS: s.MissTime.Milliseconds(),
		}
		if all := s.PoolHits + s.ColdStarts; all > 0 {
			m.PoolHitRate = float64(s.PoolHits) / float64(all)
		}
		return m
	}
}

// scheme is how clients speak to the server.
func scheme(cfg *config.Loaded) string {
	if cfg.Server.TLSCert != "" {
		return "https"
	}
	return "http"
}
