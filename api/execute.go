package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/faas-platform/faas"
)

// Command is what an execution runs: on the wire a string, which sh -c runs,
// or an array, which runs as it is.
type Command struct {
	Shell string
	Args  []string
}

// Argv returns the command's argument vector, nil when there is none.
func (c Command) Argv() []string {
	if c.Shell != "" {
		return []string{"sh", "-c", c.Shell}
	}
	return c.Args
}

// MarshalJSON encodes the form that is set.
func (c Command) MarshalJSON() ([]byte, error) {
	if c.Shell != "" {
		return json.Marshal(c.Shell)
	}
	return json.Marshal(c.Args)
}

// UnmarshalJSON accepts both forms.
func (c *Command) UnmarshalJSON(b []byte) error {
	*c = Command{}
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '"' {
		return json.Unmarshal(b, &c.Shell)
	}
	if err := json.Unmarshal(b, &c.Args); err != nil {
		return errors.New("must be a string or an array of strings")
	}
	return nil
}

// File is the content of one file that is written before a command: on the
// wire {"base64": …}, or a string where the content is text.
type File []byte

// MarshalJSON encodes text as a string and everything else as base64.
func (f File) MarshalJSON() ([]byte, error) {
	if utf8.Valid(f) {
		return json.Marshal(string(f))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString(f)})
}

// UnmarshalJSON accepts a string, {"text": …} and {"base64": …}.
func (f *File) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err == nil {
		*f = File(text)
		return nil
	}
	var object struct {
		Text   *string `json:"text"`
		Base64 *string `json:"base64"`
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&object); err != nil || (object.Text == nil) == (object.Base64 == nil) {
		return errors.New(`must be a string, {"text": string} or {"base64": string}`)
	}
	if object.Text != nil {
		*f = File(*object.Text)
		return nil
	}
	content, err := base64.StdEncoding.DecodeString(*object.Base64)
	if err != nil {
		return errors.New("base64: is not standard base64")
	}
	*f = content
	return nil
}

// ExecuteRequest asks for one execution. A field that is absent or null takes
// its default. Fields named as aliases say the same thing twice over: both may
// be given only when they agree.
type ExecuteRequest struct {
	Command       Command             `json:"command" doc:"A string, run by sh -c, or an array of arguments, run as it is."`
	Image         string              `json:"image,omitempty" doc:"An OCI reference, an imported image, or host. Default: the server's configuration." example:"host"`
	Runtime       faas.Runtime        `json:"runtime,omitempty" enum:"auto,docker,native,gvisor,firecracker,qemu" doc:"What isolates. Default: auto, the strongest that offers what the request needs."`
	Mode          faas.Mode           `json:"mode,omitempty" enum:"ephemeral,cached,checkpointed,branched,persistent" doc:"What becomes of the sandbox afterwards. Default: ephemeral."`
	Stdin         *string             `json:"stdin,omitempty" doc:"Text given to the command on its standard input."`
	StdinBase64   []byte              `json:"stdin_base64,omitempty" doc:"Bytes given to the command on its standard input. Alias of stdin."`
	Payload       []int               `json:"payload,omitempty" doc:"An array of bytes given to the command on its standard input, for older clients. Alias of stdin."`
	EnvVars       map[string]string   `json:"env_vars,omitempty" doc:"Environment on top of the image's own: an object, or an array of [name, value] pairs."`
	Env           map[string]string   `json:"env,omitempty" doc:"Alias of env_vars."`
	WorkingDir    string              `json:"working_dir,omitempty" doc:"Absolute. Default: the image's own, or /." example:"/work"`
	User          string              `json:"user,omitempty" doc:"Name or uid[:gid] inside the sandbox. Default: the image's own, or root inside." example:"1000:1000"`
	Files         map[string]File     `json:"files,omitempty" doc:"Files written before the command, path to content: a string, {\"text\": string} or {\"base64\": string}. A relative path is below working_dir."`
	TimeoutMS     int64               `json:"timeout_ms,omitempty" minimum:"1" doc:"Limit on the command's run time. Default: the server's configuration."`
	TimeoutSecs   float64             `json:"timeout_secs,omitempty" doc:"Alias of timeout_ms, in seconds."`
	CPUCores      float64             `json:"cpu_cores,omitempty" doc:"Cores, fractions allowed." example:"1"`
	MemoryMB      int64               `json:"memory_mb,omitempty" minimum:"1" doc:"MiB of memory." example:"512"`
	DiskMB        int64               `json:"disk_mb,omitempty" minimum:"1" doc:"MiB of the writable layer." example:"256"`
	PIDs          int64               `json:"pids,omitempty" minimum:"1" doc:"Processes and threads." example:"256"`
	Network       *faas.NetworkPolicy `json:"network,omitempty" doc:"What the sandbox may reach: {\"mode\": \"none\"} (default), {\"mode\": \"egress\", \"allow\": [CIDR …]}, or the bare mode as a string."`
	CacheKey      string              `json:"cache_key,omitempty" doc:"Cached mode: a further part of the key, never the whole of it."`
	CacheTTLMS    int64               `json:"cache_ttl_ms,omitempty" minimum:"1" doc:"Cached mode: how long the result may be answered again."`
	CacheFailures bool                `json:"cache_failures,omitempty" doc:"Cached mode: keep the result of a command that failed, too."`
	SnapshotID    string              `json:"snapshot_id,omitempty" doc:"Start from this snapshot."`
	CheckpointID  string              `json:"checkpoint_id,omitempty" doc:"Alias of snapshot_id, for older clients."`
	BranchFrom    string              `json:"branch_from,omitempty" doc:"An execution, snapshot or branch to continue from."`
	AllowDegraded bool                `json:"allow_degraded,omitempty" doc:"Accept a weaker substitute, named in the answer."`
	Entropy       faas.Entropy        `json:"entropy,omitempty" enum:"report,strict" doc:"What a start from a full snapshot does about processes whose random generators cannot be renewed: report (default) goes on, strict refuses."`
	Labels        map[string]string   `json:"labels,omitempty" doc:"Kept with the execution."`
}

// Usage is what an execution consumed.
type Usage = faas.Usage

// ExecuteResponse is the outcome of an execution that ran, whatever its exit
// code.
type ExecuteResponse struct {
	RequestID    string          `json:"request_id" doc:"Id of the execution." example:"exec-0c7v4g6k1w0003f9a2m5d8r1t6"`
	ExitCode     int             `json:"exit_code" doc:"The command's exit code; 128 + signal when a signal ended it."`
	Signal       string          `json:"signal,omitempty" doc:"Signal that ended the command." example:"SIGKILL"`
	Stdout       string          `json:"stdout" doc:"Standard output; bytes that are not UTF-8 are replaced, and stdout_base64 has them all."`
	Stderr       string          `json:"stderr" doc:"Standard error, likewise."`
	StdoutBase64 []byte          `json:"stdout_base64,omitempty" doc:"Standard output, when it is not UTF-8."`
	StderrBase64 []byte          `json:"stderr_base64,omitempty" doc:"Standard error, when it is not UTF-8."`
	Truncated    bool            `json:"truncated" doc:"Output beyond the kept size was dropped."`
	TimedOut     bool            `json:"timed_out" doc:"The command ran into its time-out."`
	LimitsHit    []faas.LimitHit `json:"limits_hit,omitempty" enum:"memory,pids,disk,timeout" doc:"Limits that ended or hindered the command."`
	DurationMS   float64         `json:"duration_ms" doc:"Of the command inside the sandbox."`
	QueuedMS     float64         `json:"queued_ms" doc:"Before a sandbox was its own."`
	CacheHit     bool            `json:"cache_hit"`
	RuntimeUsed  faas.Runtime    `json:"runtime_used" example:"native"`
	Degraded     string          `json:"degraded,omitempty" doc:"What is weaker than asked, and why."`
	SnapshotID   string          `json:"snapshot_id,omitempty"`
	InstanceID   string          `json:"instance_id,omitempty"`
	Usage        Usage           `json:"usage"`
	Output       string          `json:"output" doc:"The same as stdout, for older clients."`
	Logs         string          `json:"logs" doc:"The same as stderr, for older clients."`
	Error        *string         `json:"error" doc:"Null, or why the platform ended the command."`
}

// NewExecuteResponse puts a result into the form of the wire.
func NewExecuteResponse(result *faas.Result) *ExecuteResponse {
	response := &ExecuteResponse{
		RequestID: result.ID, ExitCode: result.ExitCode, Signal: result.Signal,
		Truncated: result.Truncated, TimedOut: result.TimedOut, LimitsHit: result.LimitsHit,
		DurationMS: result.DurationMS, QueuedMS: result.QueuedMS, CacheHit: result.CacheHit,
		RuntimeUsed: result.RuntimeUsed, Degraded: result.Degraded,
		SnapshotID: result.SnapshotID, InstanceID: result.InstanceID, Usage: result.Usage,
	}
	response.Stdout, response.StdoutBase64 = text(result.Stdout)
	response.Stderr, response.StderrBase64 = text(result.Stderr)
	response.Output, response.Logs = response.Stdout, response.Stderr
	if result.Error != "" {
		response.Error = &result.Error
	}
	return response
}

// text returns output as text and, when it is not UTF-8, as bytes besides.
func text(output []byte) (string, []byte) {
	if utf8.Valid(output) {
		return string(output), nil
	}
	return string(bytes.ToValidUTF8(output, []byte("\uFFFD"))), output
}

// Result is the inverse of NewExecuteResponse.
func (r *ExecuteResponse) Result() *faas.Result {
	result := &faas.Result{
		ID: r.RequestID, ExitCode: r.ExitCode, Signal: r.Signal,
		Truncated: r.Truncated, TimedOut: r.TimedOut, LimitsHit: r.LimitsHit,
		DurationMS: r.DurationMS, QueuedMS: r.QueuedMS, CacheHit: r.CacheHit,
		RuntimeUsed: r.RuntimeUsed, Degraded: r.Degraded,
		SnapshotID: r.SnapshotID, InstanceID: r.InstanceID, Usage: r.Usage,
		Stdout: []byte(r.Stdout), Stderr: []byte(r.Stderr),
	}
	if r.StdoutBase64 != nil {
		result.Stdout = r.StdoutBase64
	}
	if r.StderrBase64 != nil {
		result.Stderr = r.StderrBase64
	}
	if r.Error != nil {
		result.Error = *r.Error
	}
	return result
}
