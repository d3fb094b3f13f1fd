package oci

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// idCount is how many user and group ids a sandbox has when it can have more
// than one.
const idCount = 65536

// preferredShift is the first host id of root's sandboxes: high enough to
// belong to nobody, below the range that some systems refuse.
const preferredShift = 0x70000000

// idMap says which ids of the host the ids inside are.
type idMap struct {
	uids, gids []specs.LinuxIDMapping
	// programs is true where the setuid programs newuidmap and newgidmap must
	// write the map, since the ids are not the caller's own.
	programs bool
	// limited says in words why there is only one id; empty when there are
	// idCount.
	limited string
}

// single says that root is the only user inside.
func (m idMap) single() bool { return m.limited != "" }

// IDShift returns the host id of root inside the sandboxes of this user: the
// shift that the image store must unpack with. It is 0 for plain users, whose
// image files are their own.
func IDShift() (int, error) {
	if os.Geteuid() != 0 {
		return 0, nil
	}
	for _, shift := range []int{preferredShift, idCount} {
		covered, err := mapped("/proc/self/uid_map", shift)
		if err != nil {
			return 0, err
		}
		groups, err := mapped("/proc/self/gid_map", shift)
		if err != nil {
			return 0, err
		}
		if covered && groups {
			return shift, nil
		}
	}
	return 0, errors.New("this process runs in a user namespace without spare ids for sandboxes: " +
		"give it at least 131072 ids")
}

// mapped says whether the ids of a sandbox starting at first exist in this
// process's own user namespace.
func mapped(path string, first int) (bool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		inside, err1 := strconv.Atoi(fields[0])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil && inside <= first && first+idCount <= inside+count {
			return true, nil
		}
	}
	return false, nil
}

// rootMap is the map of root's sandboxes.
func rootMap(shift int) idMap {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(shift), Size: idCount}}
	return idMap{uids: ids, gids: ids}
}

// singleMap makes root inside the calling user and nobody else anybody.
func singleMap(why string) idMap {
	return idMap{
		uids:    []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(os.Geteuid()), Size: 1}},
		gids:    []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(os.Getegid()), Size: 1}},
		limited: why,
	}
}

// userMap is the map of a plain user's sandboxes: root inside is the user, the
// other ids come from the ranges that the machine's administrator gave them.
// Whether the programs that write it work is not tried here.
func userMap() idMap {
	name := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	m := idMap{programs: true}
	var err error
	if m.uids, err = subordinate("/etc/subuid", name, os.Geteuid(), os.Geteuid()); err != nil {
		return singleMap(err.Error())
	}
	if m.gids, err = subordinate("/etc/subgid", name, os.Geteuid(), os.Getegid()); err != nil {
		return singleMap(err.Error())
	}
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			return singleMap("the program " + program + " is not installed")
		}
	}
	return m
}

// subordinate returns the map with the user's ranges in a subuid or subgid
// file, which names users by name or number.
func subordinate(path, name string, uid, own int) ([]specs.LinuxIDMapping, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: uint32(own), Size: 1}}
	next := uint32(1)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 || fields[0] != name && fields[0] != strconv.Itoa(uid) {
			continue
		}
		first, err1 := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 != nil || err2 != nil || next >= idCount {
			continue
		}
		size := min(uint32(count), idCount-next)
		ids = append(ids, specs.LinuxIDMapping{ContainerID: next, HostID: uint32(first), Size: size})
		next += size
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if next == 1 {
		return nil, fmt.Errorf("%s has no range for user %s", path, name)
	}
	return ids, nil
}

// arguments are those of newuidmap and newgidmap after the process number.
func arguments(ids []specs.LinuxIDMapping) []string {
	var out []string
	for _, m := range ids {
		for _, n := range []uint32{m.ContainerID, m.HostID, m.Size} {
			out = append(out, strconv.FormatUint(uint64(n), 10))
		}
	}
	return out
}
