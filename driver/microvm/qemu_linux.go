package microvm

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/faas-platform/faas/guest/machine"
)

// qemu runs machines by QEMU's microvm machine type.
type qemu struct {
	program string
	accel   string // kvm or tcg
}

var _ monitor = qemu{}

func (q qemu) name() string { return filepath.Base(q.program) }

// qemuProgram is the emulator of this machine's architecture.
func qemuProgram() string {
	if runtime.GOARCH == "arm64" {
		return "qemu-system-aarch64"
	}
	return "qemu-system-x86_64"
}

func (q qemu) command(m *configuration) ([]string, []*os.File, error) {
	accel, cpu, arguments := "tcg,thread=multi,tb-size=64", "max", kernelArguments+tscArgument()
	if q.accel == AccelKVM {
		accel, cpu, arguments = "kvm", "host", kernelArguments
	}
	args := []string{
		"-machine", qemuMachine(), "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(m.cores), "-m", strconv.FormatInt(m.memoryMB, 10) + "M",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		// What a guest breaks out into may start nothing and become nobody else.
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel", m.kernel, "-initrd", m.initial, "-append", arguments + " -- " + machine.Command,
		"-serial", "file:" + filepath.Join(m.dir, consoleFile),
		"-qmp", "unix:" + filepath.Join(m.dir, controlSock) + ",server=on,wait=off",
		"-device", "virtio-rng-" + qemuBus(),
		"-device", "virtio-serial-" + qemuBus() + ",max_ports=" + strconv.Itoa(machine.FirstStream+machine.Streams),
	}
	for port := machine.ControlPort; port < machine.FirstStream+machine.Streams; port++ {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=c%d,path=%s,server=on,wait=off", port, filepath.Join(m.dir, streamSock+strconv.Itoa(port))),
			"-device", fmt.Sprintf("virtserialport,chardev=c%d,nr=%d", port, port))
	}
	for i, d := range m.drives {
		readOnly := "off"
		if d.readOnly {
			readOnly = "on"
		}
		args = append(args,
			"-drive", fmt.Sprintf("id=d%d,file=%s,format=raw,if=none,readonly=%s,cache=writeback,discard=unmap", i, d.path, readOnly),
			"-device", fmt.Sprintf("virtio-blk-%s,drive=d%d", qemuBus(), i))
	}
	if m.tap != nil {
		args = append(args,
			"-netdev", "tap,id=n0,ifname="+m.tap.name+",script=no,downscript=no",
			"-device", "virtio-net-"+qemuBus()+",netdev=n0,mac="+m.tap.mac)
	}
	if m.state == nil {
		return args, nil, nil
	}
	return append(args, "-S", "-incoming", "fd:3"), []*os.File{m.state}, nil
}

// qemuMachine is the machine type. The kernels of distributions find devices by
// ACPI only.
func qemuMachine() string {
	if runtime.GOARCH == "arm64" {
		return "virt,gic-version=max"
	}
	return "microvm,acpi=on"
}

// qemuBus is how devices are attached, as the ends of their names.
func qemuBus() string {
	if runtime.GOARCH == "arm64" {
		return "pci"
	}
	return "device"
}

func (q qemu) connect(ctx context.Context, m *configuration) (control, error) {
	return dialQMP(ctx, filepath.Join(m.dir, controlSock))
}
