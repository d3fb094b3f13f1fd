//go:build unix

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// execVariable names the command in the environment of all that it starts.
const execVariable = "FAAS_EXEC_ID"

// defaultPath is the PATH of a command whose environment sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// commandError is an error about the command's own name.
type commandError struct {
	err   *faas.Error
	cause string
}

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

func notFound(name string) error {
	return &commandError{faas.InvalidField("command", "%q was not found", name), wire.CauseNotFound}
}

func notExecutable(name, why string) error {
	return &commandError{faas.InvalidField("command", "%q cannot be executed: %s", name, why), wire.CauseNotExecutable}
}

// process is a started command.
type process struct {
	pid     int
	mark    uint64 // see spawner; 0: none
	started time.Time
	wait    func() guest.Exit
	stdin   *os.File
	outputs [2]*outputFile
	tty     *os.File
}

// outputFile is where a command's output is read.
type outputFile struct {
	file   *os.File
	linger atomic.Int64 // nanoseconds; not 0: the command has ended
	once   sync.Once
	taken  atomic.Bool
	pace   pace
}

// A command that writes much in small pieces would have the agent, and the
// host, woken for each of them: on a busy machine that costs several times the
// processor time of the output itself. Once so many bytes came in so short a
// time, the pipe gets more room, and after a few small reads in a row the
// agent lets it fill.
const (
	busyBytes  = 1 << 20
	busyTime   = 20 * time.Millisecond
	smallRead  = 16 << 10
	smallReads = 4
	fillTime   = 200 * time.Microsecond
)

// pace knows how fast output comes.
type pace struct {
	since time.Time // start of the present busyBytes
	bytes int
	small int // small reads in a row
	busy  bool
	large bool // the pipe has been enlarged
}

// await lets a busy pipe fill.
func (p *pace) await() {
	if p.busy && p.small >= smallReads {
		time.Sleep(fillTime)
	}
}

// note accounts for a read, and says whether the pipe deserves more room.
func (p *pace) note(n int) (enlarge bool) {
	p.small++
	if n >= smallRead {
		p.small = 0
	}
	if p.bytes == 0 {
		p.since = time.Now()
	}
	if p.bytes += n; p.bytes < busyBytes {
		return false
	}
	p.busy, p.bytes = time.Since(p.since) < busyTime, 0
	enlarge = p.busy && !p.large
	p.large = p.large || p.busy
	return enlarge
}

// Read reads output.
func (f *outputFile) Read(p []byte) (int, error) {
	f.Prepare()
	n, err := f.file.Read(p)
	f.Moved(n)
	if errors.Is(err, syscall.EIO) { // a terminal that nobody has open any more
		err = errEOF
	}
	return n, err
}

// Prepare is called before each wait for output. Once the command has ended,
// what it left behind has no longer than the linger time to write more.
func (f *outputFile) Prepare() {
	if linger := f.linger.Load(); linger > 0 {
		f.file.SetReadDeadline(time.Now().Add(time.Duration(linger))) //nolint:errcheck // pipes and terminals have them
	}
	f.pace.await()
}

// Moved accounts for what a wait found.
func (f *outputFile) Moved(n int) {
	if f.pace.note(n) {
		enlarge(f.file)
	}
}

// SyscallConn gives access to the pipe itself.
func (f *outputFile) SyscallConn() (syscall.RawConn, error) { return f.file.SyscallConn() }

func (f *outputFile) close() { f.once.Do(func() { f.file.Close() }) } //nolint:errcheck // it was read only

func (f *outputFile) takeOver() {
	f.taken.Store(true)
	f.linger.Store(0)
	f.file.SetReadDeadline(time.Time{}) //nolint:errcheck // see Prepare
}

// exited begins the linger time.
func (p *process) exited(linger time.Duration) {
	for _, f := range p.outputs {
		if f != nil && linger > 0 {
			f.linger.Store(int64(linger))
			f.file.SetReadDeadline(time.Now().Add(linger)) //nolint:errcheck // see Prepare
		}
	}
	if p.stdin != nil && p.tty == nil {
		p.stdin.Close() //nolint:errcheck // nobody reads it
	}
}

func (p *process) close() {
	for _, f := range p.outputs {
		if f != nil && !f.taken.Load() {
			f.close()
		}
	}
}

// signal sends a signal to the command's process group, or for a terminal to
// the group in its foreground.
func (p *process) signal(sig syscall.Signal) {
	group := p.pid
	if p.tty != nil {
		if fg := foreground(p.tty); fg > 0 {
			group = fg
		}
	}
	if sig == syscall.SIGHUP && group != p.pid {
		syscall.Kill(-p.pid, sig) //nolint:errcheck // a terminal that is lost is lost for its session's leader too
	}
	syscall.Kill(-group, sig) //nolint:errcheck // it may have ended
}

func (p *process) resize(size guest.WindowSize) {
	if p.tty != nil {
		setSize(p.tty, size) //nolint:errcheck // a terminal that ended has no size
	}
}

// start starts a command.
func (s *spawner) start(c *command) (*process, error) {
	who, err := s.agent.lookupUser(c.args.User)
	if err != nil {
		return nil, err
	}
	dir, err := s.agent.workingDir(c.args.Dir, who)
	if err != nil {
		return nil, err
	}
	env := s.agent.environment(c, who)
	path, err := lookPath(c.args.Args[0], dir, env)
	if err != nil {
		return nil, err
	}
	p, files, err := s.agent.openStreams(c)
	if err != nil {
		return nil, err
	}
	defer files.close()
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Files: files.child(), Sys: &syscall.SysProcAttr{
		Setsid: true, Credential: who.credential, Setctty: c.args.TTY != nil,
	}}
	p.started = time.Now()
	if err := s.fork(p, path, c.args.Args, attr); err != nil {
		p.abandon()
		return nil, forkError(c.args.Args[0], dir, err)
	}
	return p, nil
}

// abandon closes what a process that never ran would have used.
func (p *process) abandon() {
	p.close()
	if p.stdin != nil {
		p.stdin.Close() //nolint:errcheck // unused
	}
}

func forkError(name, dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return notExecutable(name, "its interpreter is missing")
	case errors.Is(err, syscall.ENOEXEC):
		return notExecutable(name, "it is neither a program for this machine nor a script that names its interpreter")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EISDIR):
		return notExecutable(name, "permission denied (for it, or for the working directory "+dir+")")
	case errors.Is(err, syscall.EAGAIN):
		return &faas.Error{
			Kind: faas.KindResourceExhausted, Detail: "the sandbox has no room for another process",
			Remedy: "end processes in it, or raise its limit of processes", Err: err,
		}
	case errors.Is(err, syscall.ENOMEM):
		return &faas.Error{
			Kind: faas.KindResourceExhausted, Detail: "the sandbox has no memory for another process",
			Remedy: "end processes in it, or raise its limit of memory", Err: err,
		}
	case errors.Is(err, syscall.E2BIG):
		return faas.Errorf(faas.KindPayloadTooLarge, "the arguments and the environment are larger than the system takes")
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL):
		return &faas.Error{
			Kind: faas.KindFailedPrecondition, Detail: "the command could not be started as this user",
			Remedy: "this sandbox may have one user only: leave the user empty", Err: err,
		}
	default:
		return &faas.Error{Kind: faas.KindInternal, Detail: fmt.Sprintf("start %q", name), Err: err}
	}
}

// workingDir makes the directory that a command runs in.
func (a *Agent) workingDir(dir string, who user) (string, error) {
	if dir == "" {
		dir = "/"
	}
	path, err := a.path(dir)
	if err != nil {
		return "", faas.InvalidField("working_dir", "%q is not an absolute path", dir)
	}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = a.makeDirs(path, 0o755, who); err == nil {
			return path, nil
		}
	}
	if err != nil {
		return "", fileError("working_dir", dir, err)
	}
	if !st.IsDir() {
		return "", faas.InvalidField("working_dir", "%q is not a directory", dir)
	}
	return path, nil
}

// environment is that of a command: later entries win.
func (a *Agent) environment(c *command, who user) []string {
	set := newEnvironment("PATH="+defaultPath, "HOME="+who.home)
	if c.args.TTY != nil {
		set.add("TERM=xterm-256color")
	}
	for _, kv := range a.cfg.Env {
		set.add(kv)
	}
	a.mu.Lock()
	for k, v := range a.env {
		set.add(k + "=" + v)
	}
	for k, v := range a.secrets {
		set.add(k + "=" + v)
	}
	a.mu.Unlock()
	for _, kv := range c.args.Env {
		set.add(kv)
	}
	set.add(execVariable + "=" + c.id)
	return set.list
}

// environment is an ordered set of KEY=VALUE.
type environment struct {
	list  []string
	index map[string]int
}

func newEnvironment(entries ...string) *environment {
	e := &environment{index: make(map[string]int, 16)}
	for _, kv := range entries {
		e.add(kv)
	}
	return e
}

func (e *environment) add(kv string) {
	key, _, ok := strings.Cut(kv, "=")
	if !ok || key == "" || strings.ContainsRune(kv, 0) {
		return
	}
	if i, ok := e.index[key]; ok {
		e.list[i] = kv
		return
	}
	e.index[key] = len(e.list)
	e.list = append(e.list, kv)
}

// lookPath finds a command the way that execvp does, in the command's own PATH.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return path, executable(name, path)
	}
	var path string
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	var denied error
	for _, d := range filepath.SplitList(path) {
		if d == "" {
			d = "."
		}
		if !filepath.IsAbs(d) {
			d = filepath.Join(dir, d)
		}
		full := filepath.Join(d, name)
		err := executable(name, full)
		if err == nil {
			return full, nil
		}
		var ce *commandError
		if errors.As(err, &ce) && ce.cause == wire.CauseNotExecutable {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", notFound(name)
}

func executable(name, path string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return notExecutable(name, "permission denied")
	case err != nil:
		return notFound(name)
	case st.IsDir():
		return notExecutable(name, "it is a directory")
	case st.Mode()&0o111 == 0:
		return notExecutable(name, "it is not marked executable")
	}
	return nil
}
