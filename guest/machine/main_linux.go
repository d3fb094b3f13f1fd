package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest/launch"
)

// drivesWithin bounds how long the drives may take to appear.
const drivesWithin = 30 * time.Second

// Places below the root that the machine has until the sandbox's is entered.
const (
	drivesDir = "/drives"
	layerDir  = "/layer"
	groupDir  = "/cgroup"
	extraDir  = "/extra" // what the sandbox's root has below every image
	deviceDir = "/device"
)

// Main makes the sandbox and becomes its agent. It is called as process 1 of
// the machine's kernel, and returns only when that failed; the reason is on the
// console then, and the machine is powered off.
func Main() int {
	err := start()
	report(err)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) //nolint:errcheck // there is nothing left to do
	return 1
}

// messages takes lines for the kernel's log, which unlike a terminal's are out
// before the machine is off. It stays open when the sandbox's root is entered.
var messages *os.File

func report(err error) {
	line := "<3>faas machine: " + err.Error() + "\n" // an error, in the kernel's terms
	if _, failed := messages.WriteString(line); failed != nil {
		os.Stderr.WriteString(line) //nolint:errcheck // nobody is left to tell
	}
}

func start() error {
	if os.Getpid() != 1 {
		return errors.New("this is not the init process of a machine")
	}
	for _, m := range []struct{ kind, target string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := unix.Mount(m.kind, m.target, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	messages, _ = os.OpenFile("/dev/kmsg", os.O_WRONLY, 0) //nolint:errcheck // report does without
	if err := loadModules(); err != nil {
		return err
	}
	cfg, paths, err := findDrives()
	if err != nil {
		return err
	}
	if err := leaveInitialRoot(); err != nil {
		return fmt.Errorf("leave the initial root: %w", err)
	}
	if err := furnish(cfg, paths); err != nil {
		return err
	}
	if err := confine(cfg); err != nil {
		return fmt.Errorf("limit the sandbox: %w", err)
	}
	ports, err := findPorts()
	if err != nil {
		return err
	}
	var kept launch.Kept
	if kept.Descriptors, err = keep(cfg); err != nil {
		return err
	}
	cfg.Launch.Args = append(cfg.Launch.Args, arguments(cfg, ports)...)
	if messages != nil {
		kept.Messages = int(messages.Fd())
	}
	return launch.Enter(&cfg.Launch, kept)
}

// loadModules loads the kernel's modules in the order of the list.
func loadModules() error {
	list, err := os.ReadFile(ModulesList)
	if err != nil {
		return fmt.Errorf("read the list of modules: %w", err)
	}
	for name := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(filepath.Join(ModulesDir, name+".ko"))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close() //nolint:errcheck // read only
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load the module %s: %w", name, err)
		}
	}
	return nil
}

// findDrives reads the configuration and finds the drives that it names.
func findDrives() (*Config, map[string]string, error) {
	deadline := time.Now().Add(drivesWithin)
	for {
		cfg, paths, missing, err := lookAtDrives()
		if err != nil || missing == "" {
			return cfg, paths, err
		}
		if time.Now().After(deadline) {
			return nil, nil, fmt.Errorf("a drive did not appear: %s", missing)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// lookAtDrives returns the path of each drive by its sum.
func lookAtDrives() (cfg *Config, paths map[string]string, missing string, err error) {
	found, err := filepath.Glob("/sys/block/vd*")
	if err != nil {
		return nil, nil, "", err
	}
	paths = map[string]string{}
	for _, entry := range found {
		path := "/dev/" + filepath.Base(entry)
		f, err := os.Open(path)
		if err != nil {
			continue // its node is not there yet
		}
		c, is, err := decode(f)
		if is {
			cfg = c
			if err != nil {
				err = fmt.Errorf("read the configuration: %w", err)
			}
		} else if _, err = f.Seek(0, 0); err == nil {
			var sum string
			if sum, err = SumOf(f); err == nil {
				paths[sum] = path
			}
		}
		f.Close() //nolint:errcheck // read only
		if err != nil {
			return nil, nil, "", err
		}
	}
	if cfg == nil {
		return nil, nil, "the configuration", nil
	}
	for _, d := range cfg.drives() {
		if paths[d.Sum] == "" {
			missing = d.Type + " " + d.Sum
		}
	}
	return cfg, paths, missing, nil
}

func (c *Config) drives() []Drive {
	if c.Writable == nil {
		return c.Lower
	}
	return append(c.Lower[:len(c.Lower):len(c.Lower)], *c.Writable)
}

// leaveInitialRoot makes a tmpfs the root: the kernel's first one cannot be
// left by pivot_root, as the sandbox's later is.
func leaveInitialRoot() error {
	const next = "/root"
	if err := unix.Mount("root", next, "tmpfs", 0, "size=32m,mode=0755"); err != nil {
		return err
	}
	for _, dir := range []string{"proc", "sys", "dev"} {
		if err := os.Mkdir(next+"/"+dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/"+dir, next+"/"+dir, "", unix.MS_MOVE, ""); err != nil {
			return err
		}
	}
	if err := unix.Chdir(next); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	for _, dir := range []string{"/etc", drivesDir, layerDir, groupDir, extraDir, deviceDir} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// furnish mounts the drives and completes the launch configuration.
func furnish(cfg *Config, paths map[string]string) error {
	root := launch.Root{}
	for i, d := range cfg.Lower {
		target := drivesDir + "/" + strconv.Itoa(i)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(paths[d.Sum], target, d.Type, unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("mount layer %d (%s): %w", i, d.Type, err)
		}
		root.Lower = append(root.Lower, launch.Dir{Path: target})
	}
	if err := makeExtra(); err != nil {
		return err
	}
	// It is the lowest: what an image has in its place wins.
	root.Lower = append(root.Lower, launch.Dir{Path: extraDir})
	if w := cfg.Writable; w != nil {
		if err := unix.Mount(paths[w.Sum], layerDir, w.Type, unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
			return fmt.Errorf("mount the writable layer: %w", err)
		}
		for _, dir := range []string{"upper", "work"} {
			if err := os.Mkdir(layerDir+"/"+dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return fmt.Errorf("make the writable layer: %w", err)
			}
		}
		root.Writable = &launch.Writable{Dir: layerDir}
	}
	root.Privileged = true
	cfg.Launch.Root = root
	if err := makeDevices(); err != nil {
		return fmt.Errorf("make the sandbox's devices: %w", err)
	}
	return nil
}

// makeExtra makes the mount points, for images that lack them.
func makeExtra() error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{"/proc", 0o555}, {"/dev", 0o755}, {"/run/faas", 0o755}, {"/tmp", 0o777 | os.ModeSticky}} {
		if err := os.MkdirAll(extraDir+d.path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(extraDir+d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// deviceNodes are those of a sandbox, by the kernel's numbers.
var deviceNodes = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

func makeDevices() error {
	if err := unix.Mount("dev", deviceDir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "size=64k,mode=0755"); err != nil {
		return err
	}
	unix.Umask(0)
	defer unix.Umask(0o022)
	for _, d := range deviceNodes {
		if err := unix.Mknod(deviceDir+"/"+d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return err
		}
	}
	for _, dir := range []string{"pts", "shm"} {
		if err := os.Mkdir(deviceDir+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, deviceDir+"/"+link); err != nil {
			return err
		}
	}
	return unix.Mount("", deviceDir, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC, "")
}

// DeviceDir is where Launch.Mounts find the sandbox's devices.
const DeviceDir = deviceDir

// confine puts this process, and so all of the sandbox, into a control group.
func confine(cfg *Config) error {
	if err := unix.Mount("cgroup", groupDir, "cgroup2", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return err
	}
	if err := os.WriteFile(groupDir+"/cgroup.subtree_control", []byte("+pids +memory"), 0); err != nil {
		return err
	}
	group := groupDir + "/" + groupName
	for _, dir := range []string{group, groupDir + "/" + agentGroup} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	limits := map[string]int64{"pids.max": cfg.PIDs, "memory.max": cfg.MemoryBytes}
	for name, limit := range limits {
		if limit <= 0 {
			continue
		}
		if err := os.WriteFile(group+"/"+name, []byte(strconv.FormatInt(limit, 10)), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(group+"/cgroup.procs", []byte("1"), 0)
}

// The control groups: of the sandbox, and of the agent while the sandbox's
// processes stand still.
const (
	groupName  = "sandbox"
	agentGroup = "agent"
)

// findPorts returns the names of the ports' devices below /dev, by number.
func findPorts() (map[int]string, error) {
	deadline := time.Now().Add(drivesWithin)
	for {
		ports := map[int]string{}
		for n := ControlPort; n <= lastPort; n++ {
			found, err := filepath.Glob("/dev/vport*p" + strconv.Itoa(n))
			if err != nil {
				return nil, err
			}
			if len(found) > 0 {
				ports[n] = filepath.Base(found[0])
			}
		}
		if len(ports) == lastPort-ControlPort+1 {
			return ports, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("of %d ports to the host only %d appeared", lastPort-ControlPort+1, len(ports))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// arguments tells the agent where it finds what was kept for it.
func arguments(cfg *Config, ports map[int]string) []string {
	kept := func(i int) string { return "/proc/self/fd/" + strconv.Itoa(launch.KeptFD+i) }
	var streams []string
	for n := FirstStream; n <= lastPort; n++ {
		streams = append(streams, kept(0)+"/"+ports[n])
	}
	args := []string{"--poweroff", "--device", strings.Join(streams, ","),
		"--control", kept(0) + "/" + ports[ControlPort], "--groups", kept(1)}
	if cfg.Writable != nil {
		args = append(args, "--layer", kept(2))
	}
	return args
}

// keep opens what the agent needs of the machine and its commands must not
// see; arguments tells where.
func keep(cfg *Config) ([]int, error) {
	dirs := []string{"/dev", groupDir}
	if cfg.Writable != nil {
		dirs = append(dirs, layerDir)
	}
	var kept []int
	for _, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", dir, err)
		}
		kept = append(kept, fd)
	}
	return kept, nil
}
