// Package thin runs PostgreSQL servers on copies of a base backup that share its storage.
//
// A copy's server listens on the loopback address, runs as the owner of the data, and outlives the process that started it.
package thin

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orrery/internal/command"
	"orrery/internal/cow"
)

const logName = "orrery.log"

// Copy is a copy of a base backup, in a folder of its own.
type Copy struct {
	cow.Copy
	Bin string // of the server's programs
}

// Owner is whom a server's programs run as: root cannot run them.
func Owner() (*syscall.Credential, error) { return cow.Account("postgres") }

// Running says whether the copy's server runs.
func (c Copy) Running() bool {
	_, ok := c.Process()
	return ok
}

// Process is the number of the server's first process, if it runs.
func (c Copy) Process() (pid int, ok bool) {
	content, err := os.ReadFile(filepath.Join(c.Data(), "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(content), "\n")
	pid, err = strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return 0, false
	}
	// Another process may have the number after a restart of the machine.
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && !strings.Contains(string(name), "postgres") {
		return 0, false
	}
	return pid, syscall.Kill(pid, 0) == nil
}

// Start starts the server, with options of its command line, and returns once it answers; nothing happens if it runs.
func (c Copy) Start(ctx context.Context, options ...string) error {
	if err := c.Mount(); err != nil {
		return err
	}
	if c.Running() {
		return nil
	}
	// A pg_ctl that is ended leaves a server behind that nobody knows of yet.
	line := strings.Join(append([]string{"-c config_file=" + ConfigName + " -c hba_file=" + HBAName + " -c ident_file="}, options...), " ")
	err := c.control(context.WithoutCancel(ctx), "start", "-w", "-t", "120", "-l", filepath.Join(c.Data(), logName), "-o", line)
	if err != nil {
		return fmt.Errorf("%w: %s", err, c.LastWords())
	}
	return ctx.Err()
}

// LastWords is the end of the server's own log.
func (c Copy) LastWords() string {
	const enough = 1000
	content, err := c.tail(enough)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content))
}

// LastFailure is the last line of the server's own log that begins a failure, without what is before that word; empty if a line
// with the text since came after it, or none is near the end.
func (c Copy) LastFailure(since string) string {
	const enough = 64 << 10
	content, err := c.tail(enough)
	if err != nil {
		return err.Error()
	}
	failure := ""
	for line := range strings.Lines(string(content)) {
		if _, after, ok := strings.Cut(line, "FATAL:  "); ok {
			failure = strings.TrimSpace(after)
		} else if strings.Contains(line, since) {
			failure = ""
		}
	}
	return failure
}

// tail is the end of the log file that was written last.
func (c Copy) tail(n int64) ([]byte, error) {
	newest, when := filepath.Join(c.Data(), logName), time.Time{}
	files, err := filepath.Glob(filepath.Join(c.Data(), LogFolder, "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range append(files, newest) {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(when) {
			newest, when = file, info.ModTime()
		}
	}
	f, err := os.Open(newest)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-n), n))
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

// LogFolder is where a server that is set to collect its log keeps it, in the folder of the data.
const LogFolder = "orrery_logs"
