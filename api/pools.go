package api

import "github.com/faas-platform/faas"

// Pool is a pool in answers.
type Pool struct {
	faas.Pool
	CPUCores float64 `json:"cpu_cores"`
	MemoryMB int64   `json:"memory_mb"`
	DiskMB   int64   `json:"disk_mb"`
	PIDs     int64   `json:"pids"`
}

// NewPool is the answer for a pool.
func NewPool(p faas.Pool) Pool {
	r := p.Resources
	return Pool{Pool: p, CPUCores: r.CPUCores, MemoryMB: r.MemoryMB, DiskMB: r.DiskMB, PIDs: r.PIDs}
}

// PoolList is the answer of GET /api/v1/pools.
type PoolList struct {
	Pools []Pool `json:"pools"`
}

// PoolKind names the sandboxes of a pool.
type PoolKind struct {
	Image    string       `json:"image,omitempty" doc:"Default: that of executions."`
	Runtime  faas.Runtime `json:"runtime,omitempty" enum:"auto,docker,native,gvisor,firecracker,qemu" doc:"Default: auto."`
	CPUCores float64      `json:"cpu_cores,omitempty" minimum:"0" maximum:"1024"`
	MemoryMB int64        `json:"memory_mb,omitempty" minimum:"0" maximum:"16777216"`
	DiskMB   int64        `json:"disk_mb,omitempty" minimum:"0" maximum:"16777216"`
	PIDs     int64        `json:"pids,omitempty" minimum:"0" maximum:"4194304"`
}

// PoolSettings is the body of PUT /api/v1/pools.
type PoolSettings struct {
	PoolKind
	Min      int `json:"min" minimum:"0" maximum:"1024" doc:"Sandboxes kept ready whatever the demand."`
	Max      int `json:"max,omitempty" minimum:"0" maximum:"1024" doc:"Sandboxes kept ready at most, as the demand asks; default min."`
	Priority int `json:"priority,omitempty" minimum:"-100" maximum:"100" doc:"The highest is served first when sandboxes or memory are short."`
}

// Prewarm is the body of POST /api/v1/prewarm.
type Prewarm struct {
	PoolKind
	Count int `json:"count" minimum:"1" maximum:"256" doc:"Sandboxes to keep ready for ten minutes."`
}

// request is what the executor is asked for.
func (k PoolKind) request() faas.PoolRequest {
	return faas.PoolRequest{Runtime: k.Runtime, Image: k.Image, Resources: faas.Resources{
		CPUCores: k.CPUCores, MemoryMB: k.MemoryMB, DiskMB: k.DiskMB, PIDs: k.PIDs,
	}}
}

// Request is the pool that is prewarmed.
func (p Prewarm) Request() faas.PoolRequest { return p.PoolKind.request() }

// Request is the pool that is set.
func (s PoolSettings) Request() faas.PoolRequest {
	r := s.PoolKind.request()
	r.Min, r.Max, r.Priority = s.Min, s.Max, s.Priority
	return r
}
