// Package thin runs PostgreSQL servers on copies of a base backup that share its storage.
//
// A copy's server listens on the loopback address, runs as the owner of the data, and outlives the process that started it.
package thin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orrery/internal/command"
	"orrery/internal/cow"
)

const logName = "log"

// Copy is a copy of a base backup, in a folder of its own.
type Copy struct {
	cow.Copy
	Bin string // of the server's programs
}

// Owner is whom a server's programs run as: root cannot run them.
func Owner() (*syscall.Credential, error) { return cow.Account("postgres") }

// Running says whether the copy's server runs.
func (c Copy) Running() bool {
	content, err := os.ReadFile(filepath.Join(c.Data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return false
	}
	// Another process may have the number after a restart of the machine.
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && !strings.Contains(string(name), "postgres") {
		return false
	}
	return syscall.Kill(pid, 0) == nil
}

// Start starts the server and returns once it answers; nothing happens if it runs.
func (c Copy) Start(ctx context.Context) error {
	if err := c.Mount(); err != nil {
		return err
	}
	if c.Running() {
		return nil
	}
	// A pg_ctl that is ended leaves a server behind that nobody knows of yet.
	err := c.control(context.WithoutCancel(ctx), "start", "-w", "-t", "120", "-l", filepath.Join(c.Data(), logName), "-o", "-c config_file="+ConfigName+" -c hba_file="+HBAName+" -c ident_file=")
	if err != nil {
		return fmt.Errorf("%w: %s", err, c.LastWords())
	}
	return ctx.Err()
}

// LastWords is the end of the server's own log.
func (c Copy) LastWords() string {
	content, err := os.ReadFile(filepath.Join(c.Data(), logName))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content[max(0, len(content)-1000):]))
}

// Stop ends the server; nothing happens if it does not run.
func (c Copy) Stop(ctx context.Context) error {
	if !c.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	return c.control(ctx, "stop", "-w", "-m", "fast")
}

func (c Copy) control(ctx context.Context, args ...string) error {
	return command.Program{Path: filepath.Join(c.Bin, "pg_ctl"), Args: append(args, "-s", "-D", c.Data()), Credential: c.Owner, Dir: c.Data()}.Run(ctx)
}

// The files of settings, in the folder of the data.
const (
	ConfigName = "orrery.conf"
	HBAName    = "orrery_hba.conf"
)
