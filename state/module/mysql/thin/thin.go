// Package thin runs MariaDB servers on copies of a physical backup that share its storage.
//
// A copy's server listens on the loopback address and a socket in its folder, runs as the owner of the data, and outlives the
// process that started it.
package thin

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

	"orrery/internal/command"
	"orrery/internal/cow"
)

const (
	logName = "log"
	pidName = "pid"
	// ConfigName is the file of the server's settings, in the folder of the data.
	ConfigName = "orrery.cnf"
	// stopLimit is how long a server may take to write what it holds.
	stopLimit = 2 * time.Minute
	killLimit = 30 * time.Second
	tick      = 20 * time.Millisecond
)

// Copy is a copy of a backup, in a folder of its own.
type Copy struct {
	cow.Copy
	Program string // the server
}

// Owner is whom a server runs as: root cannot run it.
func Owner() (*syscall.Credential, error) { return cow.Account("mysql") }

// Socket is the path of the server's socket.
func (c Copy) Socket() string { return filepath.Join(c.Folder, "s") }

// Temporary is the folder of the server's temporary files.
func (c Copy) Temporary() string { return filepath.Join(c.Folder, "tmp") }

// Log is the path of the server's own log.
func (c Copy) Log() string { return filepath.Join(c.Folder, logName) }

// Running says whether the copy's server runs.
func (c Copy) Running() bool { return c.pid() > 0 }

// pid is the number of the server's process, 0 if it does not run.
func (c Copy) pid() int {
	content, err := os.ReadFile(filepath.Join(c.Folder, pidName))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || pid <= 0 {
		return 0
	}
	if !c.isServer(pid) {
		return 0
	}
	return pid
}

// isServer says whether a process is the copy's server: another one may have its number after a restart of the machine. A process
// that is ending has no arguments any more, but still holds files, until it is a zombie.
func (c Copy) isServer(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	if len(line) > 0 {
		return strings.Contains(string(line), filepath.Join(c.Data(), ConfigName))
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // PID (NAME) STATE ...
	if err != nil || !strings.Contains(string(status), "("+filepath.Base(c.Program)+") ") {
		return false
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)) // the first one is a zombie while others end
	return err == nil && (len(threads) > 1 || !strings.Contains(string(status), ") Z "))
}

// startScript starts the server in a session of its own and notes its process, before anybody can forget it.
const startScript = `setsid "$@" >>"$0/log" 2>&1 </dev/null & echo $! >"$0/pid.new" && mv "$0/pid.new" "$0/pid"`

// Start starts the server and returns once ready, asked often, says that it answers. Nothing is started where it runs.
func (c Copy) Start(ctx context.Context, ready func(context.Context) error) error {
	if err := c.Mount(); err != nil {
		return err
	}
	if !c.Running() {
		if err := c.Mkdir(c.Temporary()); err != nil {
			return err
		}
		if err := os.Remove(c.Log()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		args := []string{"-c", startScript, c.Folder, c.Program, "--defaults-file=" + filepath.Join(c.Data(), ConfigName)}
		// A start that is interrupted leaves no server behind that nobody knows of.
		if err := (command.Program{Path: "/bin/sh", Args: args, Credential: c.Owner, Dir: c.Folder}).Run(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-t.C:
		}
		if !c.Running() {
			return fmt.Errorf("the server ended: %s", c.LastWords())
		}
	}
}

// LastWords is the end of the server's own log.
func (c Copy) LastWords() string {
	content, err := os.ReadFile(c.Log())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content[max(0, len(content)-1000):]))
}

// Stop ends the server; nothing happens if it does not run. One that does not end, as MariaDB does where it was asked to while it
// started, is killed: it starts again with all that was committed.
func (c Copy) Stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	limited, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	if err := c.end(limited, syscall.SIGTERM); limited.Err() == nil {
		return err
	}
	return c.Kill(ctx)
}

// Kill ends a server of whose data nothing is needed any more, or that does not answer.
func (c Copy) Kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killLimit)
	defer cancel()
	return c.end(ctx, syscall.SIGKILL)
}

func (c Copy) end(ctx context.Context, by syscall.Signal) error {
	pid := c.pid()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, by); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for c.Running() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server of %s does not end: %w", c.Folder, ctx.Err())
		case <-t.C:
		}
	}
	return nil
}
