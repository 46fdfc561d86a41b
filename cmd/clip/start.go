package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"orrery/clip/control"
)

// startTime is how long a recorder may take until it answers.
const startTime = 10 * time.Second

// running says how the recorder is, and starts one if none runs: the first time that somebody picks is no time to be told of another command.
func (c *cli) running(ctx context.Context) (*control.Status, error) {
	s, err := c.status(ctx)
	if !errors.Is(err, control.ErrNoRecorder) {
		return s, err
	}
	dir := filepath.Join(folder("XDG_STATE_HOME", ".local/state"), "orrery-clip")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "record.log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the recorder has its own
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// Not by package command, and without a context: it outlives this process.
	cmd := exec.Command(self, "record", "--socket", c.socket, "--dir", c.directory, "--settings", c.settings, "--display", c.display) //nolint:gosec,noctx // itself
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start a recorder: %w", err)
	}
	return c.awaitRecorder(ctx, cmd.Process.Pid, log.Name())
}

// awaitRecorder waits until the recorder answers. One that has ended may have found another one that somebody started in the same moment.
func (c *cli) awaitRecorder(ctx context.Context, pid int, log string) (*control.Status, error) {
	until := time.Now().Add(startTime)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var ended unix.WaitStatus
		gone, _ := unix.Wait4(pid, &ended, unix.WNOHANG, nil)
		s, err := c.status(ctx)
		if err == nil || !errors.Is(err, control.ErrNoRecorder) {
			return s, err
		}
		if gone == pid || time.Now().After(until) {
			text, _ := os.ReadFile(log)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			return nil, fmt.Errorf("%w, and one that was started does not answer (%s): %s", err, log, lines[len(lines)-1])
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}
