package conformance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

func configureChecks() []Check {
	return []Check{
		{Name: "configure/hostname", UserFacing: true, Run: checkHostname, Isolates: true},
		{Name: "configure/identity", Run: checkIdentity, Isolates: true},
		{Name: "configure/rename", Run: checkRename, Isolates: true},
		{Name: "configure/environment-and-secrets", Run: checkSecrets, Isolates: true},
		{Name: "configure/channel-secret", Run: checkRotation},
		{Name: "configure/wrong-secret", UserFacing: true, Run: checkWrongSecret},
		{Name: "configure/hooks", Run: checkHooks, Isolates: true},
	}
}

func checkHostname(ctx context.Context, env *Env) error {
	b, err := env.create(ctx, func(s *faas.Spec) { s.Hostname = "named-by-spec" })
	if err != nil {
		return err
	}
	if err := b.expect(ctx, "uname -n", "named-by-spec"); err != nil {
		return err
	}
	other, err := env.create(ctx)
	if err != nil {
		return err
	}
	return other.expect(ctx, "uname -n", other.ID())
}

func checkIdentity(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	want := guest.Identity{
		ID: faas.NewID(faas.PrefixInstance), Project: "a-project",
		MachineID: strings.Repeat("0123456789abcdef", 2), Labels: map[string]string{"key": "value"},
	}
	done, err := b.client.Configure(ctx, guest.Configuration{Identity: &want})
	if err != nil {
		return err
	}
	if len(done.Skipped) > 0 {
		return fmt.Errorf("of the identity the agent skipped %v", done.Skipped)
	}
	text, err := b.read(ctx, "/run/faas/instance.json", 0, -1)
	if err != nil {
		return err
	}
	var got guest.Identity
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return fmt.Errorf("/run/faas/instance.json: %w", err)
	}
	if got.ID != want.ID || got.Project != want.Project || got.Labels["key"] != "value" {
		return fmt.Errorf("/run/faas/instance.json holds %+v, want %+v", got, want)
	}
	return b.expect(ctx, "cat /etc/machine-id", want.MachineID)
}

// checkRename gives a running sandbox another host name, which takes an agent
// with privileges in the sandbox's own user namespace. One without says so.
func checkRename(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	done, err := b.client.Configure(ctx, guest.Configuration{
		Identity: &guest.Identity{ID: faas.NewID(faas.PrefixInstance), Project: faas.DefaultProject, Hostname: "renamed"},
	})
	if err != nil {
		return err
	}
	if why := done.Skipped["hostname"]; why != "" {
		return skipError("the agent may not set the host name: " + why)
	}
	return b.expect(ctx, "uname -n", "renamed")
}

func checkSecrets(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	const secret = "told-to-commands-only"
	_, err = b.client.Configure(ctx, guest.Configuration{
		Identity: &guest.Identity{ID: faas.NewID(faas.PrefixInstance), Project: faas.DefaultProject},
		Env:      map[string]string{"PLAIN": "plain"},
		Secrets:  map[string]string{"TOKEN": secret},
	})
	if err != nil {
		return err
	}
	return firstError(
		func() error { return b.expect(ctx, `echo "$PLAIN $TOKEN"`, "plain "+secret) },
		func() error {
			return b.expect(ctx, `grep -l told-to-commands /run/faas/instance.json /proc/1/environ /proc/1/cmdline 2>/dev/null; echo none`, "none")
		},
	)
}

// checkRotation changes the channel's secret: later connections need the new
// one, and the old one opens nothing.
func checkRotation(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret) //nolint:errcheck // never fails
	if _, err := b.client.Configure(ctx, guest.Configuration{Secret: secret}); err != nil {
		return err
	}
	if err := b.client.Close(); err != nil {
		return err
	}
	stale := connect(b.Sandbox, b.Channel().Secret)
	defer stale.Close() //nolint:errcheck // it never opened
	if _, err := stale.Hello(ctx); err == nil {
		return fmt.Errorf("the channel's old secret still opens it")
	}
	b.client = connect(b.Sandbox, secret)
	return b.alive(ctx)
}

func checkWrongSecret(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	for what, secret := range map[string][]byte{"a wrong secret": make([]byte, 32), "no secret": nil} {
		c := connect(b.Sandbox, secret)
		_, err := c.Hello(ctx)
		c.Close() //nolint:errcheck // it never opened
		if err := wantKind(what, err, faas.KindUnauthenticated, faas.KindPermissionDenied, faas.KindInvalidArgument); err != nil {
			return err
		}
	}
	return b.alive(ctx)
}

func checkHooks(ctx context.Context, env *Env) error {
	b, err := env.create(ctx)
	if err != nil {
		return err
	}
	hook := guest.WriteOptions{Mode: 0o755, Parents: true}
	err = firstError(
		func() error {
			return b.write(ctx, "/etc/faas/on-restore.d/20-second", "#!/bin/sh\necho second >> /tmp/order; exit 4\n", hook)
		},
		func() error {
			return b.write(ctx, "/etc/faas/on-restore.d/10-first", "#!/bin/sh\necho first >> /tmp/order; echo said\n", hook)
		},
		func() error {
			return b.write(ctx, "/etc/faas/on-restore.d/30-not-executable", "exit 1\n", guest.WriteOptions{})
		},
	)
	if err != nil {
		return err
	}
	done, err := b.client.Configure(ctx, guest.Configuration{RunHooks: true})
	if err != nil {
		return err
	}
	if len(done.Hooks) < 2 || done.Hooks[0].Exit.Code != 0 || strings.TrimSpace(done.Hooks[0].Output) != "said" || done.Hooks[1].Exit.Code != 4 {
		return fmt.Errorf("the hooks' outcome is %+v", done.Hooks)
	}
	return b.expect(ctx, "cat /tmp/order", "first\nsecond")
}
