package api

import "time"

// Paths of the routes about callers.
const (
	PathAPIKeys = "/api/v1/api-keys"
	PathAudit   = "/api/v1/audit"
	PathUsage   = "/api/v1/usage"
	PathTickets = "/api/v1/tickets"
)

// Roles of API keys, the weakest first.
const (
	RoleReadOnly = "read-only" // sees what its project has
	RoleUser     = "user"      // uses its project
	RoleAdmin    = "admin"     // manages its project; that of the default project manages the installation
)

// Quota bounds what one key uses. A field at zero bounds nothing. What exceeds
// a bound is refused with resource_exhausted and Retry-After.
type Quota struct {
	ExecutionsPerDay int64   `json:"executions_per_day,omitempty" minimum:"0" doc:"Executions begun since midnight UTC. 0: no bound."`
	Concurrency      int64   `json:"concurrency,omitempty" minimum:"0" doc:"Executions that run or wait, and instances that are not stopped, at one time. 0: no bound."`
	MemoryMB         int64   `json:"memory_mb,omitempty" minimum:"0" doc:"Memory limits of all of those together, in MiB. 0: no bound."`
	DiskMB           int64   `json:"disk_mb,omitempty" minimum:"0" doc:"Disk limits of all of those together, in MiB. 0: no bound."`
	RatePerSecond    float64 `json:"rate_per_second,omitempty" minimum:"0" doc:"Requests a second. 0: no bound."`
	Burst            int64   `json:"burst,omitempty" minimum:"0" doc:"Requests that may come at once within the rate. 0: one second's."`
}

// APIKey is what is known of a key. Its plain form is nowhere.
type APIKey struct { //nolint:revive // the HTTP API's own word
	ID         string     `json:"id" example:"key-0c7v4g6k1w0003f9a2m5d8r1t6"`
	Name       string     `json:"name" example:"ci"`
	Project    string     `json:"project" example:"default"`
	Role       string     `json:"role" enum:"admin,user,read-only"`
	Scopes     []string   `json:"scopes" doc:"Areas of the API that the key is for (its tags), each for everything or, as area:read, for reading. Empty: every area."`
	Quota      Quota      `json:"quota"`
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty" doc:"Absent: never."`
	LastUsedAt *time.Time `json:"last_used_at,omitempty" doc:"To the minute."`
}

// CreateAPIKeyRequest asks for a new key.
type CreateAPIKeyRequest struct {
	Name      string     `json:"name" minLength:"1" maxLength:"128" doc:"What the key is for." example:"ci"`
	Project   string     `json:"project,omitempty" maxLength:"63" doc:"Project of the key, made when missing. Default: the caller's. Another one only for admins of the project default." example:"default"`
	Role      string     `json:"role,omitempty" enum:"admin,user,read-only" doc:"Default: user."`
	Scopes    []string   `json:"scopes,omitempty" maxItems:"64" doc:"Areas of the API (its tags), each for everything or, as area:read, for reading. Default: every area."`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"When the key ends. Default: never."`
	TTLMS     int64      `json:"ttl_ms,omitempty" minimum:"1" maximum:"3153600000000" doc:"How long the key lives, in the place of expires_at."`
	Quota     *Quota     `json:"quota,omitempty"`
}

// NewAPIKey is a key that was just made: the only time its plain form shows.
type NewAPIKey struct {
	APIKey
	Key string `json:"key" doc:"The plain key. It is not kept: store it now."`
}

// APIKeyList is one page of keys, oldest first.
type APIKeyList struct { //nolint:revive // as above
	APIKeys    []APIKey `json:"api_keys"`
	NextCursor string   `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// AuditEvent is one change, or an attempt at one.
type AuditEvent struct {
	ID        string            `json:"id" example:"audit-0c7v4g6k1w0003f9a2m5d8r1t6"`
	At        time.Time         `json:"at"`
	Project   string            `json:"project"`
	KeyID     string            `json:"key_id" doc:"Key that did it; empty for what the platform did by itself."`
	Action    string            `json:"action" doc:"What was done: the id of the API's operation, or another front door's word." example:"create-api-key"`
	Object    string            `json:"object" doc:"What it was done to; empty when it has no id."`
	Outcome   string            `json:"outcome" enum:"done,refused,failed"`
	RequestID string            `json:"request_id,omitempty"`
	Remote    string            `json:"remote,omitempty" doc:"Address that it came from." example:"127.0.0.1"`
	Details   map[string]string `json:"details,omitempty" doc:"What else is worth knowing."`
}

// AuditList is one page of the audit log, newest first.
type AuditList struct {
	Events     []AuditEvent `json:"events"`
	NextCursor string       `json:"next_cursor" doc:"Cursor of the next page; empty at the end."`
}

// UsageRecord is what one key used in one hour.
type UsageRecord struct {
	Hour            time.Time `json:"hour" doc:"When the hour began, in UTC."`
	Project         string    `json:"project"`
	KeyID           string    `json:"key_id"`
	Executions      int64     `json:"executions" doc:"Commands that ended."`
	CPUMS           int64     `json:"cpu_ms" doc:"CPU time of the commands."`
	MemoryMBSeconds float64   `json:"memory_mb_seconds" doc:"Memory limit in MiB times seconds, of commands and of running or paused instances."`
	SnapshotBytes   int64     `json:"snapshot_bytes" doc:"Bytes of the snapshots taken."`
}

// UsageReport is what keys used.
type UsageReport struct {
	Records []UsageRecord `json:"records" doc:"By hour, then by key."`
}

// CreateTicketRequest asks for a ticket.
type CreateTicketRequest struct {
	Path string `json:"path,omitempty" maxLength:"2048" doc:"Path that the ticket is for. Default: any WebSocket or event stream of the project." example:"/api/v1/events"`
}

// Ticket stands for its maker's key once, on one WebSocket or event stream, as
// the query parameter ticket: browsers cannot send a header there.
type Ticket struct {
	Ticket    string    `json:"ticket"`
	ExpiresAt time.Time `json:"expires_at"`
}
