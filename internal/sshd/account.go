package sshd

import (
	"context"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
)

const (
	// accountTimeout bounds the reading of the instance's account files.
	accountTimeout = 15 * time.Second
	maxPasswd      = 1 << 20
	defaultShell   = "/bin/sh"
)

// account is who a connection is inside.
type account struct {
	user  string // as given; root when empty
	name  string
	home  string // a directory that is there
	shell string // a file that is there; empty: the image has none
}

// who reads once who the connection is inside.
func (c *connection) who(g *guest.Client) (account, error) {
	c.accountOnce.Do(func() {
		ctx, cancel := context.WithTimeout(c.ctx, accountTimeout)
		defer cancel()
		c.account, c.accountErr = readAccount(ctx, g, c.target.user)
	})
	return c.account, c.accountErr
}

func readAccount(ctx context.Context, g *guest.Client, user string) (account, error) {
	a := account{user: user, name: user, home: "/root", shell: defaultShell}
	content, err := readSmall(ctx, g, "/etc/passwd", maxPasswd)
	if err != nil && faas.KindOf(err) != faas.KindNotFound {
		return a, err
	}
	// Without a name whoever the agent runs commands as: root.
	name, _, _ := strings.Cut(user, ":")
	if name == "" {
		name, a.name = "root", "root"
	}
	found := false
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) < 7 || fields[0] != name && fields[2] != name {
			continue
		}
		found, a.name = true, fields[0]
		a.home, a.shell = orElse(fields[5], "/"), orElse(fields[6], defaultShell)
		break
	}
	if _, err := strconv.ParseUint(name, 10, 31); !found && user != "" && err != nil {
		return a, faas.InvalidField("user", "the instance has no user %q", user)
	}
	if info, err := statFollowing(ctx, g, a.home); err != nil || !info.Mode.IsDir() {
		a.home = "/"
	}
	a.shell = firstShell(ctx, g, a.shell, defaultShell, "/bin/bash", "/bin/ash", "/busybox/sh")
	return a, nil
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

// firstShell returns the first of the candidates that is a file.
func firstShell(ctx context.Context, g *guest.Client, candidates ...string) string {
	for _, candidate := range candidates {
		if !path.IsAbs(candidate) {
			continue
		}
		if info, err := statFollowing(ctx, g, candidate); err == nil && info.Mode.IsRegular() && info.Mode&0o111 != 0 {
			return candidate
		}
	}
	return ""
}

// maxLinks bounds how many symbolic links a path may go through at its end.
const maxLinks = 40

// statFollowing describes what is at the end of a path's symbolic links. It
// asks for nothing that the oldest agents do not know.
func statFollowing(ctx context.Context, g *guest.Client, name string) (guest.FileInfo, error) {
	for range maxLinks {
		info, err := g.Stat(ctx, name)
		if err != nil || info.Mode&fs.ModeSymlink == 0 {
			return info, err
		}
		if path.IsAbs(info.Target) {
			name = info.Target
		} else {
			name = path.Join(path.Dir(name), info.Target)
		}
	}
	return guest.FileInfo{}, faas.InvalidField("path", "%s: too many symbolic links", name)
}

func readSmall(ctx context.Context, g *guest.Client, name string, limit int64) ([]byte, error) {
	r, _, err := g.ReadFile(ctx, name, 0, limit)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
