package oci

// capabilityByNumber are the kernel's names, from linux/capability.h.
var capabilityByNumber = [...]string{
	"chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid",
	"setpcap", "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw",
	"ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct",
	"sys_admin", "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod",
	"lease", "audit_write", "audit_control", "setfcap", "mac_override", "mac_admin", "syslog",
	"wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
}

// commandCapabilities is what commands may have of the agent's capabilities,
// and what the seccomp filter is made for.
const commandCapabilities uint64 = 1<<capChown | 1<<capDACOverride | 1<<capFowner | 1<<capFsetid |
	1<<capKill | 1<<capSetgid | 1<<capSetuid | 1<<capNetBindService

// AgentCapabilities is the mask of what the agent may do inside its user
// namespace: own and reach any file of the sandbox, become any user of it and
// signal them, bind low ports; and what it never hands on: giving up
// capabilities on behalf of its children, tracing them, which re-seeding their
// random generators takes, and SYS_ADMIN, of which the seccomp filter leaves
// setting the host name and nothing else that matters.
const AgentCapabilities = commandCapabilities | 1<<capSetpcap | 1<<capSysPtrace | 1<<capSysAdmin

const (
	capChown          = 0
	capDACOverride    = 1
	capFowner         = 3
	capFsetid         = 4
	capKill           = 5
	capSetgid         = 6
	capSetuid         = 7
	capSetpcap        = 8
	capNetBindService = 10
	capNetAdmin       = 12
	capSysChroot      = 18
	capSysPtrace      = 19
	capSysAdmin       = 21
	capSysResource    = 24
	capSetfcap        = 31
)
