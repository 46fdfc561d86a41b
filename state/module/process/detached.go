package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orrery/state"
)

// Files in the run folder of a component whose supervisor is a process of its own.
const (
	fileSupervisor = "supervisor"      // its process id; locked (flock) while it lives
	fileTarget     = "supervised.json" // state.Target: what it supervises
	fileReport     = "report.json"     // what came of its start
)

// Detached is the module where no node runs: each component has a small supervisor, which is a process of its own that
// outlives the command that started it. It is found again by a lock that it holds, and ends with the component. It does
// not come back after a restart of the machine. A node that takes over the folder ends it first.
type Detached struct {
	*Module
	command []string // runs Supervise for the folder that is added to it
}

var (
	_ state.Module   = (*Detached)(nil)
	_ state.Exporter = (*Detached)(nil)
	_ state.Doctor   = (*Detached)(nil)
)

// NewDetached makes the module; the command with a component's folder added must call Supervise.
func NewDetached(c Config, command []string) *Detached {
	return &Detached{Module: New(c), command: command}
}

// report is what a supervisor says once its process is ready, or not.
type report struct {
	Error string `json:"error,omitempty"`
	Port  int    `json:"port,omitempty"`
}

// descriptorReady is where a supervisor finds the pipe on which it reports.
const descriptorReady = 3

// Supervise runs the process of the component with that folder until ctx ends, and reports what came of its start to who
// started it. It is the other side of Detached, in a program that does nothing else.
func Supervise(ctx context.Context, c Config, directory string) (err error) {
	syscall.CloseOnExec(descriptorReady) // it is not the process's
	ready := os.NewFile(descriptorReady, "ready")
	file, locked, err := lockSupervisor(directory)
	if err != nil || !locked {
		return errors.Join(err, fmt.Errorf("%s has a supervisor: %w", directory, state.ErrInUse), ready.Close())
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := errors.Join(file.Truncate(0), writeAt(file, strconv.Itoa(os.Getpid()))); err != nil {
		return errors.Join(err, ready.Close())
	}
	content, err := os.ReadFile(filepath.Join(runDirectory(directory), fileTarget))
	if err != nil {
		return errors.Join(err, ready.Close())
	}
	var t state.Target
	if err := json.Unmarshal(content, &t); err != nil {
		return errors.Join(err, ready.Close())
	}
	m := New(c)
	m.detached = true
	var r report
	failed := m.Activate(ctx, t)
	if failed != nil {
		r.Error = failed.Error()
	} else if s := m.find(t); s != nil {
		r.Port = s.spec.port
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = replaceFile(filepath.Join(runDirectory(directory), fileReport), text)
	}
	if err == nil {
		_, err = ready.Write(text)
	}
	// Whoever waited may have gone; the process is not theirs.
	if err = errors.Join(err, ready.Close()); failed != nil || err != nil && !errors.Is(err, syscall.EPIPE) {
		return errors.Join(failed, err, m.Deactivate(context.WithoutCancel(ctx), t))
	}
	<-ctx.Done()
	return m.Deactivate(context.WithoutCancel(ctx), t)
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// lockSupervisor takes the lock that a supervisor holds while it lives; locked is false if there is one.
func lockSupervisor(directory string) (f *os.File, locked bool, err error) {
	if err := os.MkdirAll(runDirectory(directory), 0o700); err != nil {
		return nil, false, err
	}
	f, err = os.OpenFile(filepath.Join(runDirectory(directory), fileSupervisor), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, f.Close()
	}
	if err != nil {
		return nil, false, errors.Join(err, f.Close())
	}
	return f, true, nil
}

// supervised says whether the component has a supervisor of its own.
func supervised(directory string) (bool, error) {
	if _, err := os.Stat(filepath.Join(runDirectory(directory), fileSupervisor)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	f, free, err := lockSupervisor(directory)
	if err != nil || !free {
		return err == nil, err
	}
	return false, f.Close()
}

// endDetached ends the component's supervisor, and with it the process; when ctx ends first, by force.
func endDetached(ctx context.Context, directory string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := ctx.Done()
	for signal := syscall.SIGTERM; ; {
		there, err := supervised(directory)
		if err != nil || !there {
			return err
		}
		text, err := os.ReadFile(filepath.Join(runDirectory(directory), fileSupervisor))
		if err != nil {
			return err
		}
		// While the lock is held the id is the holder's; it is empty for the moment before that is written.
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("cannot end the supervisor, process %d: %w", pid, err)
			}
		}
		select {
		case <-tick.C:
		case <-patience:
			signal, patience = syscall.SIGKILL, nil // the kernel kills its process, and killStale the rest
		}
	}
}

// Activate implements state.Module. A process that runs with the same properties is left alone.
func (d *Detached) Activate(ctx context.Context, t state.Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.Check(t.Component); err != nil {
		return err
	}
	wanted, err := json.Marshal(t)
	if err != nil {
		return err
	}
	file := filepath.Join(runDirectory(t.Directory), fileTarget)
	there, err := supervised(t.Directory)
	if err != nil {
		return err
	}
	if there {
		if old, err := os.ReadFile(file); err == nil && string(old) == string(wanted) && d.Health(ctx, t) == nil {
			return nil
		}
		if err := endDetached(ctx, t.Directory); err != nil {
			return err
		}
	}
	if err := replaceFile(file, wanted); err != nil {
		return err
	}
	if err := d.start(ctx, t); err != nil {
		return errors.Join(err, endDetached(context.WithoutCancel(ctx), t.Directory))
	}
	return nil
}

// start starts a supervisor and waits for its report.
func (d *Detached) start(ctx context.Context, t state.Target) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // everything was read from it, or nobody wants it
	arguments := append(append([]string{}, d.command[1:]...), t.Directory)
	// It outlives the context: what ends with that is the wait.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), d.command[0], arguments...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + t.Directory}
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return fmt.Errorf("cannot start a supervisor for %s: %w", t.Component.Ref(), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	var said report
	err = json.NewDecoder(io.LimitReader(r, 1<<20)).Decode(&said)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), cmd.Process.Kill(), ignoreEnded(cmd.Wait()))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("the supervisor of %s ended without a word: %w", t.Component.Ref(), err), cmd.Process.Kill(), ignoreEnded(cmd.Wait()))
	}
	if said.Error != "" {
		return errors.Join(errors.New(said.Error), ignoreEnded(cmd.Wait()))
	}
	return cmd.Process.Release()
}

// ignoreEnded drops how a supervisor ended that has said why, or was killed.
func ignoreEnded(err error) error {
	if errors.As(err, new(*exec.ExitError)) {
		return nil
	}
	return err
}

// Deactivate implements state.Module.
func (d *Detached) Deactivate(ctx context.Context, t state.Target) error {
	return d.Module.Deactivate(ctx, t) // which ends a supervisor first
}

// Close implements nothing: the processes go on.
func (d *Detached) Close(context.Context) error { return nil }

// Exports implements state.Exporter.
func (d *Detached) Exports(t state.Target) (map[string]string, error) {
	values := map[string]string{}
	there, err := supervised(t.Directory)
	if err != nil || !there {
		return values, err
	}
	if port := readReport(t.Directory).Port; port != 0 {
		text := strconv.Itoa(port)
		values["port"], values["address"], values["url"] = text, address(text), "http://"+address(text)
	}
	if pid := runningPid(t.Directory); pid != 0 {
		values["pid"] = strconv.Itoa(pid)
	}
	return values, nil
}

func readReport(directory string) (r report) {
	content, err := os.ReadFile(filepath.Join(runDirectory(directory), fileReport))
	if err != nil || json.Unmarshal(content, &r) != nil {
		return report{}
	}
	return r
}

// runningPid is the process that the run file names, if that runs; 0 otherwise.
func runningPid(directory string) int {
	content, err := os.ReadFile(runFilePath(directory))
	var r runFile
	if err != nil || json.Unmarshal(content, &r) != nil || r.Boot != bootID() {
		return 0
	}
	if stat, ok := readStat(r.Pid); !ok || stat.start != r.Start || stat.state == "Z" {
		return 0
	}
	return r.Pid
}

// Health implements state.Doctor: supervisor and process run, and the process is ready if it says how.
func (d *Detached) Health(ctx context.Context, t state.Target) error {
	there, err := supervised(t.Directory)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("process %s does not run: %w (activate it again)", t.Component.Ref(), state.ErrInactive)
	}
	if runningPid(t.Directory) == 0 {
		return fmt.Errorf("process %s has ended (its output is in %s)", t.Component.Ref(), LogDirectory(t.Directory))
	}
	p, err := decode(t.Component)
	if err != nil {
		return err
	}
	probe := supervisor{spec: spec{properties: p, port: readReport(t.Directory).Port}}
	if err := probe.probe(ctx); err != nil {
		return fmt.Errorf("process %s: %w (its output is in %s)", t.Component.Ref(), err, LogDirectory(t.Directory))
	}
	return nil
}
