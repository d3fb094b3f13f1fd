package gateway

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

func exampleResponse() *api.ExecuteResponse {
	return api.NewExecuteResponse(&faas.Result{
		ID: "exec-0c7v4g6k1w0003f9a2m5d8r1t6", ExitCode: 3, Stdout: []byte("hello\n"), DurationMS: 1.8, QueuedMS: 0.4,
		RuntimeUsed: faas.RuntimeNative, Usage: faas.Usage{CPUMS: 1, MaxMemoryBytes: 1 << 20},
	})
}

// Examples of answers, for the description of the API.
var (
	exampleTime   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	exampleHealth = api.Health{
		Status: "ok", Version: "1.0.0", UptimeMS: 60000, Docker: true, Runtimes: []faas.Runtime{faas.RuntimeNative, faas.RuntimeDocker},
	}
	exampleRuntimes = api.RuntimeList{Runtimes: []faas.Capabilities{{
		Runtime: faas.RuntimeNative, Available: true, Version: "1", ProbedAt: exampleTime, ProbeMS: 42,
		Features: []faas.Capability{
			{Feature: faas.FeatureExec, Available: true},
			{Feature: faas.FeatureNetworkEgress, Reason: "needs root", Remedy: "run the server as root"},
		},
	}}}
	exampleMetrics = api.Metrics{
		TotalRequests: 120, Running: 2, AvgExecutionTimeMS: 8.5, ErrorRate: 0.01,
		ExecutionsByRuntime: map[faas.Runtime]int64{faas.RuntimeNative: 119}, UptimeMS: 60000,
	}
	examplePool = faas.Pool{
		ID: "pool-5f2c1a9e0b7d4c83", Runtime: faas.RuntimeNative, Image: faas.HostImage,
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 256, PIDs: 256},
		Min:       2, Max: 16, Source: faas.PoolSet, Target: 5, Why: "4.1 a second of late; 45ms to make one",
		Idle: 5, Hits: 812, Misses: 3, MissMS: 126, MakeMS: 45, OldestMS: 90000,
	}
	exampleExecution = faas.Execution{
		ID: "exec-0c7v4g6k1w0003f9a2m5d8r1t6", Project: faas.DefaultProject, Status: faas.ExecutionRunning,
		Command: []string{"sh", "-c", "echo hello"}, Image: faas.HostImage, Runtime: faas.RuntimeNative, Mode: faas.ModeEphemeral, CreatedAt: exampleTime,
	}
)

func exampleInstance() *api.Instance {
	return api.NewInstance(&faas.Instance{
		ID: "inst-0c7v4g6k1w0003f9a2m5d8r1t6", Project: faas.DefaultProject, Name: "notebook", Status: faas.InstanceRunning,
		Image: faas.HostImage, Runtime: faas.RuntimeNative, Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 256, PIDs: 256},
		Network: faas.NetworkPolicy{Mode: faas.NetworkNone}, Labels: map[string]string{"team": "a"}, CreatedAt: exampleTime, StartedAt: &exampleTime,
	})
}

func exampleSnapshot() *api.Snapshot {
	return api.NewSnapshot(&faas.Snapshot{
		ID: "snap-0c7v4g6k1w0003f9a2m5d8r1t6", Name: "warm", Kind: faas.SnapshotFull, Runtime: faas.RuntimeNative,
		InstanceID: "inst-0c7v4g6k1w0003f9a2m5d8r1t6", Image: faas.HostImage, ImageDigest: "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 512, DiskMB: 256, PIDs: 256}, CreatedAt: exampleTime,
		SizeBytes: 12 << 20, MemoryBytes: 9 << 20, Depth: 1, Tier: faas.TierHot, PauseMS: 41.5,
	})
}

func exampleBranch() *api.Branch {
	return api.NewBranch(&faas.Branch{
		ID: "br-0c7v4g6k1w0003f9a2m5d8r1t6", Name: "main", Head: "snap-0c7v4g6k1w0003f9a2m5d8r1t6", CreatedAt: exampleTime, UpdatedAt: exampleTime,
	})
}

// tidySchemas takes out what no operation refers to, and says what the types
// cannot: that no list is ever null.
func tidySchemas(all map[string]*huma.Schema) {
	for _, unused := range []string{"ErrorModel", "ErrorDetail", "Command"} {
		delete(all, unused)
	}
	for _, schema := range all {
		for _, property := range schema.Properties {
			if property.Type == huma.TypeArray {
				property.Nullable = false
			}
		}
	}
}

var exampleSSHKey = faas.SSHKey{
	ID: "sshkey-0c7v4g6k1w0003f9a2m5d8r1t6", Project: faas.DefaultProject, Name: "laptop", Kind: faas.SSHKeyPlain, Origin: "imported",
	Type: "ssh-ed25519", Fingerprint: "SHA256:EWm+kPqoVOgH4VPGN0vzK+JPsHbiIzGYNN2Bqr2F2qI",
	PublicKey:   "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEsg6Fup3hPvhNHxTyvMPiOFU7bn0mYDMIwYA3ZGDGzS laptop",
	InstanceIDs: []string{}, CreatedBy: "key-0c7v4g6k1w0003f9a2m5d8r1t6", CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
}

var exampleSSHServer = api.SSHServer{
	Host: "127.0.0.1", Port: 2222,
	HostKeys: []api.SSHHostKey{{
		Type: "ssh-ed25519", Fingerprint: "SHA256:EWm+kPqoVOgH4VPGN0vzK+JPsHbiIzGYNN2Bqr2F2qI",
		PublicKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEsg6Fup3hPvhNHxTyvMPiOFU7bn0mYDMIwYA3ZGDGzS",
	}},
	KnownHosts: "[127.0.0.1]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEsg6Fup3hPvhNHxTyvMPiOFU7bn0mYDMIwYA3ZGDGzS\n",
	UserCA:     "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEsg6Fup3hPvhNHxTyvMPiOFU7bn0mYDMIwYA3ZGDGzS",
}
