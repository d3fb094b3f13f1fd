//go:build unix

package agent

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/faas-platform/faas"
)

// user is who a command runs as, or who owns a file.
type user struct {
	uid, gid   int
	home       string
	credential *syscall.Credential // nil: as the agent
}

// passwd is one line of /etc/passwd.
type passwd struct {
	name     string
	uid, gid int
	home     string
}

// lookupUser resolves name, uid, name:group or uid:gid with the sandbox's own
// files. The empty name is root, or whoever the agent is.
func (a *Agent) lookupUser(spec string) (user, error) {
	self, group := os.Geteuid(), os.Getgid()
	name, groupName, _ := strings.Cut(spec, ":")
	who := user{uid: self, gid: group, home: "/"}
	entry, found := a.passwdEntry(name, self)
	switch {
	case name == "":
	case found:
		who.uid, who.gid = entry.uid, entry.gid
	default:
		uid, err := strconv.ParseUint(name, 10, 31)
		if err != nil {
			return who, faas.InvalidField("user", "%q is not a user of the sandbox", name)
		}
		who.uid, who.gid = int(uid), 0
	}
	if found && entry.home != "" {
		who.home = entry.home
	}
	var groups []int
	if groupName != "" {
		gid, err := a.groupID(groupName)
		if err != nil {
			return who, err
		}
		who.gid = gid
	} else if found {
		groups = a.groupsOf(entry.name)
	}
	return a.credentials(who, groups)
}

// credentials adds what the agent must change to become who.
func (a *Agent) credentials(who user, groups []int) (user, error) {
	self, group := os.Geteuid(), os.Getgid()
	own, err := os.Getgroups()
	if err != nil {
		own = nil
	}
	own = slices.DeleteFunc(own, func(g int) bool { return g == group })
	groups = slices.DeleteFunc(groups, func(g int) bool { return g == who.gid })
	// An agent whose real user is apart from root hands on neither.
	same := who.uid == self && who.gid == group && self == os.Getuid()
	if self != 0 {
		if !same {
			return who, &faas.Error{
				Kind: faas.KindCapabilityUnavailable, Field: "user",
				Detail: "this sandbox has one user only, uid " + strconv.Itoa(self), Remedy: "leave the user empty",
			}
		}
		return who, nil
	}
	fixed := groupsFixed()
	slices.Sort(own)
	slices.Sort(groups)
	if same && (fixed || slices.Equal(own, groups)) {
		return who, nil
	}
	who.credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid), NoSetGroups: fixed}
	for _, g := range groups {
		who.credential.Groups = append(who.credential.Groups, uint32(g))
	}
	return who, nil
}

// groupsFixed says whether supplementary groups cannot be changed, as in a
// user namespace that an unprivileged user made.
func groupsFixed() bool {
	b, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(b)) == "deny"
}

// maxAccounts bounds what is read of the account files, which belong to the
// sandbox.
const maxAccounts = 4 << 20

// accounts calls f with the fields of every line of a file like /etc/passwd
// until it returns false.
func (a *Agent) accounts(file string, fields int, f func([]string) bool) {
	file = filepath.Join(a.cfg.Root, file)
	in, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if a.cfg.Root == "" || !errors.Is(err, fs.ErrNotExist) {
			return
		}
		if in, err = os.Open(strings.TrimPrefix(file, a.cfg.Root)); err != nil {
			return
		}
	}
	defer in.Close() //nolint:errcheck // read only
	read := 0
	for s := bufio.NewScanner(in); s.Scan() && read < maxAccounts; {
		read += len(s.Bytes())
		parts := strings.Split(s.Text(), ":")
		if len(parts) >= fields && !f(parts) {
			return
		}
	}
}

// passwdEntry finds a user by name, else by number; the empty name is uid.
func (a *Agent) passwdEntry(name string, uid int) (passwd, bool) {
	wanted := uid
	if name != "" {
		n, err := strconv.Atoi(name)
		if err != nil {
			n = -1
		}
		wanted = n
	}
	var byName, byNumber *passwd
	a.accounts("/etc/passwd", 7, func(f []string) bool {
		u, uerr := strconv.Atoi(f[2])
		g, gerr := strconv.Atoi(f[3])
		if uerr != nil || gerr != nil {
			return true
		}
		e := &passwd{f[0], u, g, f[5]}
		if name != "" && f[0] == name {
			byName = e
		}
		if u == wanted && byNumber == nil {
			byNumber = e
		}
		return byName == nil && (name != "" || byNumber == nil)
	})
	switch {
	case byName != nil:
		return *byName, true
	case byNumber != nil:
		return *byNumber, true
	}
	return passwd{}, false
}

func (a *Agent) groupID(name string) (int, error) {
	gid := -1
	a.accounts("/etc/group", 3, func(f []string) bool {
		if f[0] == name {
			if n, err := strconv.Atoi(f[2]); err == nil {
				gid = n
			}
		}
		return gid < 0
	})
	if gid >= 0 {
		return gid, nil
	}
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		return 0, faas.InvalidField("user", "%q is not a group of the sandbox", name)
	}
	return int(n), nil
}

// groupsOf lists the supplementary groups of a user.
func (a *Agent) groupsOf(name string) []int {
	var out []int
	a.accounts("/etc/group", 4, func(f []string) bool {
		if gid, err := strconv.Atoi(f[2]); err == nil && slices.Contains(strings.Split(f[3], ","), name) {
			out = append(out, gid)
		}
		return true
	})
	return out
}
