// Package auth says who a caller is: API keys, each in one project, with a
// role, scopes, an expiry and quotas, kept as hashes; and the local key that
// the user who started the server finds in a file of their own.
//
// A key holds 256 random bits, so one round of SHA-256 is enough to keep it:
// there is nothing to guess. The plain key is shown once, when it is made.
package auth

import (
	"slices"

	"github.com/faas-platform/faas"
)

// Role says what a key may do.
type Role string

// The roles. A read-only key sees what its project has, a user's uses the
// project, an admin's manages it. Admins of the default project manage the
// installation besides: see Identity.Installation.
const (
	RoleReadOnly Role = "read-only"
	RoleUser     Role = "user"
	RoleAdmin    Role = "admin"
)

// Roles lists the roles, the weakest first.
func Roles() []Role { return []Role{RoleReadOnly, RoleUser, RoleAdmin} }

// Allows says whether the role includes what another may do.
func (r Role) Allows(need Role) bool {
	ranks := Roles()
	return slices.Index(ranks, r) >= slices.Index(ranks, need) && slices.Contains(ranks, r)
}

// Identity is an authenticated caller.
type Identity struct {
	KeyID   string
	Project string
	Role    Role
	Scopes  []string // see Key
	Quota   Quota
}

// Installation says whether the caller manages the whole installation: makes
// keys of other projects, profiles the daemon, brings in memory images. Only
// the admins of the default project do, so that a tenant can have admins.
func (i Identity) Installation() bool {
	return i.Role == RoleAdmin && i.Project == faas.DefaultProject
}

// InScope says whether the key's scopes cover an area of the API ("instances",
// "images", …), for reading or for changing it.
func (i Identity) InScope(area string, change bool) bool {
	if len(i.Scopes) == 0 {
		return true
	}
	return slices.ContainsFunc(i.Scopes, func(scope string) bool {
		return scope == area || !change && scope == area+readSuffix
	})
}

// readSuffix limits a scope to reading.
const readSuffix = ":read"
