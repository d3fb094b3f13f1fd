package faas

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"
)

// Prefixes of the ids of the platform's objects.
const (
	PrefixExecution = "exec"
	PrefixSandbox   = "sbx"
	PrefixInstance  = "inst"
	PrefixSnapshot  = "snap"
	PrefixBranch    = "br"
	PrefixKey       = "key"
	PrefixRequest   = "req"
	PrefixAudit     = "audit"
)

// idEncoding is base32 with an alphabet in ASCII order, so that ids sort as
// the bytes that they encode.
var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID returns a new id: the prefix, a hyphen, and 26 characters that hold
// 48 bits of Unix milliseconds, 16 bits left for the number of a node (0 on a
// single machine) and 64 random bits. Ids are DNS labels and sort by time.
func NewID(prefix string) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16)
	rand.Read(b[8:]) //nolint:errcheck // crypto/rand.Read never fails since Go 1.24
	return prefix + "-" + idEncoding.EncodeToString(b[:])
}

// ValidID says whether id has the form that NewID gives it. It is the check
// before an id becomes part of a path or a query.
func ValidID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix+"-")
	if !ok || len(rest) != 26 {
		return false
	}
	b, err := idEncoding.DecodeString(rest)
	return err == nil && len(b) == 16
}

// ValidProject says whether a name can be a project's: up to 63 lower-case
// letters, digits and hyphens, with no hyphen at either end.
func ValidProject(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
