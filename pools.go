package faas

import "time"

// Pool is a set of warm sandboxes of one kind, which belongs to the
// installation: whoever claims one makes it a project's.
type Pool struct {
	ID        string    `json:"id" doc:"The same for the same runtime, image and limits."`
	Runtime   Runtime   `json:"runtime"`
	Image     string    `json:"image"`
	Resources Resources `json:"-"`
	Min       int       `json:"min" doc:"Sandboxes kept ready whatever the demand."`
	Max       int       `json:"max" doc:"Sandboxes kept ready at most."`
	Priority  int       `json:"priority" doc:"The highest is served first when sandboxes or memory are short."`
	Source    string    `json:"source" enum:"configuration,api,prewarm" doc:"Where it comes from; one of a prewarm goes when its time is over."`

	Target   int    `json:"target" doc:"Sandboxes that are to be ready now."`
	Why      string `json:"why" doc:"Why target is what it is."`
	Idle     int    `json:"idle" doc:"Sandboxes that are ready."`
	Making   int    `json:"making" doc:"Sandboxes under way."`
	Hits     int64  `json:"hits" doc:"Claims that found one."`
	Misses   int64  `json:"misses" doc:"Claims that found none, and had one made."`
	MissMS   int64  `json:"miss_ms" doc:"Time that those took to make one, in all."`
	MakeMS   int64  `json:"make_ms" doc:"Time to make one ahead, of late."`
	Aged     int64  `json:"aged" doc:"Sandboxes replaced for their age."`
	OldestMS int64  `json:"oldest_ms" doc:"Age of the oldest that is ready."`
	Error    string `json:"error,omitempty" doc:"Why the last attempt to make one failed."`
}

// PoolSource says where a pool comes from.
const (
	PoolConfigured = "configuration"
	PoolSet        = "api"
	PoolPrewarmed  = "prewarm"
)

// PoolRequest asks for a pool. What it leaves open is the default of
// executions: the image, the limits, and for RuntimeAuto the runtime that would
// be chosen.
type PoolRequest struct {
	Runtime   Runtime
	Image     string
	Resources Resources
	Min       int // sandboxes kept ready whatever the demand
	Max       int // at most; 0: Min
	Priority  int
}

// Bounds of one pool.
const (
	MaxPoolSize   = 1024
	MaxPrewarm    = 256
	PrewarmPeriod = 10 * time.Minute // how long prewarmed sandboxes are kept
)
