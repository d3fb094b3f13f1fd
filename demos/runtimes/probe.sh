# What a program sees of the sandbox that it runs in, one `name: value` a line.
# It uses a POSIX shell and what busybox has.
field() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }
attempt() { if ("$@") >/dev/null 2>&1; then echo yes; else echo no; fi; }
try_write() { echo x >"$1"; }

echo "arithmetic: $((6 * 7))"
echo "input: $(cat | tr a-z A-Z)"
echo "variable: $GREETING"
echo "user: $(id -u)"
echo "process: $(tr '\0' ' ' </proc/1/cmdline | sed 's/ .*//; s,.*/,,')"
echo "kernel: $(uname -s) $(uname -r)"
echo "interfaces: $(sed -n 's/^ *\([^:]*\):.*/\1/p' /proc/net/dev | sort | tr '\n' ' ')"
echo "root inside is: $(awk 'NR == 1 { print $2 }' /proc/self/uid_map 2>/dev/null)"
echo "capabilities: $(field CapEff)"
echo "no new privileges: $(field NoNewPrivs)"
echo "seccomp: $(field Seccomp)"
echo "file system: $(awk '$2 == "/" { print $3 }' /proc/mounts | tail -n 1)"
echo "mounts: $(wc -l </proc/mounts)"
echo "writes to /tmp: $(attempt try_write /tmp/x)"
# Into a layer of its own where it succeeds: never into the machine's.
echo "writes to /usr: $(attempt try_write /usr/x)"
echo "mounts a tmpfs: $(attempt mount -t tmpfs none /mnt)"
echo "sets the clock: $(attempt date -s @0)"
