package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is the program of a component of the module process.
type daemon struct {
	program string
	pidFile string
}

// Process is the module of components that are a program which makes itself a daemon and writes its process id into
// a file.
func Process(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate") {
		return nil
	}
	d, err := c.daemon()
	if err != nil {
		return err
	}
	accounts := NewAccounts(c.Err)
	switch c.Operation {
	case "activate":
		err := errors.Join(accounts.AddGroups(ctx, c.Path), accounts.AddUsers(ctx, c.Path))
		if err == nil {
			err = c.start(ctx, d)
		}
		if err != nil {
			return errors.Join(err, accounts.DeleteUsers(ctx, c.Path), accounts.DeleteGroups(ctx, c.Path))
		}
		return c.Directory.MarkActive(c.Ref)
	case "deactivate":
		if err := c.stop(ctx, d); err != nil {
			return err
		}
		return errors.Join(accounts.DeleteUsers(ctx, c.Path), accounts.DeleteGroups(ctx, c.Path), c.Directory.Unmark(c.Ref))
	}
	return nil
}

// daemon finds the program: what etc/dysnomia/process/* says, or the only file in bin.
func (c Call) daemon() (d daemon, err error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(c.Path), "etc", "dysnomia", "process", "*"))
	if err != nil {
		return d, err
	}
	for _, file := range files {
		settings, err := ReadSettings(file)
		if err != nil {
			return d, err
		}
		d.program, d.pidFile = settings.text("process"), settings.text("pidFile")
	}
	if d.program == "" {
		found, err := names(filepath.Join(c.Path, "bin"))
		switch {
		case err != nil:
			return d, err
		case len(found) == 0:
			return d, fmt.Errorf("no process in %s (there must be an executable in bin/, or process= in etc/dysnomia/process)", c.Path)
		case len(found) > 1:
			return d, fmt.Errorf("more than one process in %s/bin (say which in etc/dysnomia/process)", c.Path)
		}
		d.program = filepath.Join(c.Path, "bin", found[0])
	}
	if d.pidFile == "" {
		d.pidFile = filepath.Join(c.Property("runtimeDir", "/var/run"), filepath.Base(d.program)+".pid")
	}
	return d, nil
}

var globEscapes = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

func escapeGlob(path string) string { return globEscapes.Replace(path) }

// pid is the process of a daemon that lives; 0 if there is none.
func (d daemon) pid() (int, error) {
	content, err := os.ReadFile(d.pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("%s does not hold the id of a process", d.pidFile)
	}
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return 0, nil // a file that outlived it
	}
	return pid, nil
}

func (c Call) start(ctx context.Context, d daemon) error {
	pid, err := d.pid()
	if err != nil {
		return err
	}
	if pid != 0 {
		fmt.Fprintf(c.Err, "process %d of %s runs already\n", pid, d.pidFile)
		return nil
	}
	if err := removeIfThere(d.pidFile); err != nil { // of a process that is gone
		return err
	}
	if err := Execute(ctx, Program{Path: d.program, Env: c.Environment, Out: c.Out, Err: c.Err}); err != nil {
		return err
	}
	timeout, err := strconv.Atoi(c.Property("timeout", "1"))
	if err != nil || timeout < 0 {
		return fmt.Errorf("%w: timeout is not a number of seconds", ErrSettings)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(timeout)*time.Second)
	defer cancel()
	if err := await(ctx, func() bool { return exists(d.pidFile) }); err != nil {
		fmt.Fprintf(c.Err, "WARNING: %s did not appear within %d s after the start: the process cannot be stopped without it (increase timeout)\n", d.pidFile, timeout)
	}
	return nil
}

// stop tells the daemon to end, and waits until it has.
func (c Call) stop(ctx context.Context, d daemon) error {
	pid, err := d.pid()
	if err != nil {
		return err
	}
	if pid == 0 {
		fmt.Fprintf(c.Err, "%s names no process: it was stopped already\n", d.pidFile)
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := await(ctx, func() bool { return gone(pid) }); err != nil {
		return fmt.Errorf("process %d was told to end and goes on: %w", pid, err)
	}
	return removeIfThere(d.pidFile)
}

// gone says whether a process has ended; one that nobody has waited for has, too.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// await waits for a condition, looking often.
func await(ctx context.Context, condition func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
