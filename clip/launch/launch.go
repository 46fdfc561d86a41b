// Package launch runs programs for items: those of actions, the desktop's opener, the editor.
//
// They get the environment of whoever picks. No shell is between, unless an action is a shell's line; what an item says is at most one argument, or the standard input.
package launch

import (
	"bytes"
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

	"orrery/clip"
	"orrery/clip/action"
	"orrery/internal/command"
)

const (
	// maxPrinted is how much an action may print.
	maxPrinted = 16 << 20
	// settles is how long a program that opens something is watched for failure. Some end at once, others become the browser.
	settles = 1500 * time.Millisecond
)

// Run carries out an action that makes something of an item, and returns that; for builtins that only show something it is an error.
func Run(ctx context.Context, a action.Action, item *clip.Item) ([]byte, error) {
	if made, ok, err := a.Apply(action.Text(item)); ok {
		return []byte(made), err
	}
	switch a.Builtin {
	case "":
	case action.Open:
		address, ok := action.Address(action.Text(item))
		if !ok {
			return nil, errors.New("the item is no address that can be opened")
		}
		return nil, Open(ctx, address)
	default:
		return nil, fmt.Errorf("action %q is for the picker", a.Name)
	}
	program, stdin, err := a.Command(item)
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath(program[0])
	if err != nil {
		return nil, fmt.Errorf("action %q: cannot run %s: %w", a.Name, program[0], errors.Unwrap(err))
	}
	timeout := a.Timeout
	if timeout == 0 {
		timeout = action.DefaultTimeout
	}
	limited, end := context.WithTimeout(ctx, timeout)
	defer end()
	p := command.Program{Path: path, Args: program[1:], Env: os.Environ(), Dir: home(), In: bytes.NewReader(stdin)}
	printed, err := p.Output(limited, maxPrinted)
	switch {
	case limited.Err() != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("action %q: %s did not end within %s, and was ended", a.Name, filepath.Base(path), timeout)
	case errors.Is(err, syscall.EPIPE):
		err = nil // it did not read all of the item
	}
	if err != nil {
		return nil, fmt.Errorf("action %q: %w", a.Name, err)
	}
	return printed, nil
}

func home() string {
	if dir, err := os.UserHomeDir(); err == nil {
		return dir
	}
	return "/"
}

// Open has the desktop open an address. The program goes on when this process ends.
func Open(ctx context.Context, address string) (err error) {
	complaints, err := os.CreateTemp("", "clip-open-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, complaints.Close(), os.Remove(complaints.Name())) }()
	// Neither package command nor a context: it is to go on, as a browser does, when the picker has ended.
	cmd := exec.Command("xdg-open", address) //nolint:noctx // see above
	cmd.Dir, cmd.Stderr = home(), complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("cannot open %s: there is no xdg-open here (install xdg-utils)", address)
		}
		return fmt.Errorf("cannot open %s: %w", address, err)
	}
	ended, err := endsSoon(ctx, cmd.Process.Pid)
	if err != nil || !ended {
		return errors.Join(err, cmd.Process.Release())
	}
	if err := cmd.Wait(); err != nil {
		text, _ := os.ReadFile(complaints.Name())
		return fmt.Errorf("cannot open %s: %w: %s", address, err, strings.TrimSpace(string(text[:min(len(text), 500)])))
	}
	return nil
}

// endsSoon waits for a child for a while.
func endsSoon(ctx context.Context, pid int) (bool, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	until := time.Now().Add(settles)
	for ctx.Err() == nil {
		left := time.Until(until)
		if left <= 0 {
			return false, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, 100*time.Millisecond).Milliseconds())+1) //nolint:gosec // a descriptor
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, ctx.Err()
}
