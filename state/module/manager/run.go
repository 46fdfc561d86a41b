package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"orrery/internal/command"
	"orrery/state"
)

// maxOutput bounds what a process manager's client may say.
const maxOutput = 1 << 20

// call runs a client of a process manager and returns what it said.
func call(ctx context.Context, name string, args ...string) (string, error) {
	path, err := program(name)
	if err != nil {
		return "", err
	}
	out, err := command.Program{Path: path, Args: args}.Output(ctx, maxOutput)
	text := strings.TrimSpace(string(out))
	if failure, ok := errors.AsType[*command.Failure](err); ok && text != "" && failure.Stderr == "" {
		err = fmt.Errorf("%s: %s: %w", name, text, err) // some complain on their standard output
	}
	return text, err
}

// failed says whether err is that the program ran and ended with another status than 0.
func failed(err error) bool {
	_, ok := errors.AsType[*command.Failure](err)
	return ok
}

// programFolders are where the programs of the administrator are.
var programFolders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/run/current-system/sw/bin"}

// programs finds out beforehand what is not installed.
func programs(names ...string) error {
	var missing []error
	for _, name := range names {
		_, err := program(name)
		missing = append(missing, err)
	}
	return errors.Join(missing...)
}

// program finds a program of the administrator.
func program(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, folder := range programFolders {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("program %s: %w (install the process manager)", name, state.ErrNotFound)
}

// folder says whether a folder that the container names is there.
func folder(what, path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s: %w (is the process manager installed, and set up to use it?)", what, path, state.ErrUnreachable)
	case err != nil:
		return err
	case !info.IsDir():
		return bad("%s %s is not a folder", what, path)
	}
	return nil
}

// until waits for a condition, at most so long.
func until(ctx context.Context, limit time.Duration, condition func(context.Context) (bool, error)) error {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		done, err := condition(within)
		if done || err != nil && within.Err() == nil {
			return err
		}
		timer := time.NewTimer(probePause)
		select {
		case <-timer.C:
		case <-within.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w within %v", errLate, limit)
		}
	}
}

var errLate = errors.New("the process manager did not do it")

// quote is text as one word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// script is a shell script that becomes the program, with a clean environment. As is the program, with arguments, that
// changes the user.
func (s spec) script(as ...string) []byte {
	if s.content != nil {
		return s.content
	}
	words := []string{"exec"}
	for _, w := range append(as, "env", "-i") {
		words = append(words, quote(w))
	}
	for _, w := range append(append([]string(nil), s.env...), s.Command...) {
		words = append(words, quote(w))
	}
	return []byte("#!/bin/sh\n# " + s.target.Component.Ref().String() + ", placed by Orrery\nexec 2>&1\ncd " + quote(s.Directory) + " || exit 111\n" + strings.Join(words, " ") + "\n")
}

// oneLine refuses texts that a format of lines cannot hold.
func (s spec) oneLine() error {
	for _, text := range append(append([]string{s.Directory}, s.env...), s.Command...) {
		if strings.ContainsAny(text, "\n\r") {
			return bad("%q has a line break, which this process manager's definitions cannot hold", text)
		}
	}
	return nil
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}
