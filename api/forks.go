package api

// PathFork runs commands in copies of one state.
const PathFork = "/api/v1/fork"

// InstanceForkRequest asks for copies of an instance.
type InstanceForkRequest struct {
	Count    int                `json:"count,omitempty" minimum:"1" maximum:"256" doc:"Copies. Default: 1, or one for each of variants."`
	Variants []InstanceSettings `json:"variants,omitempty" maxItems:"256" doc:"What each copy is to be like, where it differs."`
	InstanceSettings
}

// InstanceFork are the copies of an instance, in the order of the request.
type InstanceFork struct {
	Instances []*Instance   `json:"instances" doc:"The copies that were made."`
	Failures  []ForkFailure `json:"failures" doc:"Those that could not be made; nothing of them is left."`
	PauseMS   float64       `json:"pause_ms" doc:"How long the source stood still."`
}

// ForkFailure says why one copy could not be made.
type ForkFailure struct {
	Index   int      `json:"index" doc:"Place in the request, from 0."`
	Problem *Problem `json:"problem"`
}

// ForkRequest runs commands beside each other, each in a copy of one state.
// What it says itself holds for every copy; a variant says what differs.
type ForkRequest struct {
	ExecuteRequest
	InstanceID  string           `json:"instance_id,omitempty" doc:"Fork this instance, which goes on."`
	ContainerID string           `json:"container_id,omitempty" doc:"Alias of instance_id, for older clients."`
	ExecutionID string           `json:"execution_id,omitempty" doc:"Fork what this execution left."`
	Count       int              `json:"count,omitempty" minimum:"1" maximum:"256" doc:"Copies. Default: 1, or one for each of variants."`
	Variants    []ExecuteRequest `json:"variants,omitempty" maxItems:"256" doc:"What differs, one for each copy."`
}

// ForkedExecution is what became of one copy. One that could not run has the
// exit code -1, error says why, and problem is the whole of it.
type ForkedExecution struct {
	ExecuteResponse
	Problem *Problem `json:"problem,omitempty"`
	PauseMS float64  `json:"pause_ms" doc:"How long the source stood still, for all copies together."`
}
