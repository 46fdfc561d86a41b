package webapp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"orrery/internal/command"
	"orrery/state"
)

// snippet is where the application's piece of configuration is placed; marker says that it was placed here.
func (s site) snippet() string { return filepath.Join(s.server.ConfigurationDir, s.Path+".conf") }
func (s site) marker() string  { return filepath.Join(s.target.Directory, "configured") }

// configure places the configuration, has it verified and taken up. Back undoes that.
func (s site) configure(ctx context.Context) (back func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	if s.Configuration == "" {
		return nothing, s.unconfigure(ctx)
	}
	wanted, err := os.ReadFile(s.Configuration)
	if err != nil {
		return nothing, fmt.Errorf("configuration: %w", err)
	}
	before, err := os.ReadFile(s.snippet())
	existed := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nothing, err
	}
	if _, err := os.Stat(s.marker()); existed && err != nil {
		return nothing, fmt.Errorf("%s exists and is not of this component: %w (remove it, or set path)", s.snippet(), state.ErrInUse)
	}
	if existed && bytes.Equal(before, wanted) {
		return nothing, nil
	}
	if info, err := os.Stat(s.server.ConfigurationDir); err != nil || !info.IsDir() {
		return nothing, fmt.Errorf("configurationDir %s: %w (is the server installed?)", s.server.ConfigurationDir, state.ErrUnreachable)
	}
	if err := errors.Join(os.MkdirAll(s.target.Directory, 0o700), os.WriteFile(s.marker(), nil, 0o600)); err != nil {
		return nothing, err
	}
	took := false
	back = func(ctx context.Context) error {
		undo := s.write(before)
		if !existed {
			undo = os.Remove(s.snippet())
			if errors.Is(undo, fs.ErrNotExist) {
				undo = nil
			}
			undo = errors.Join(undo, os.Remove(s.marker()))
		}
		if took {
			undo = errors.Join(undo, s.call(ctx, s.server.kind.reload))
		}
		return undo
	}
	if err := s.write(wanted); err != nil {
		return back, err
	}
	if err := s.call(ctx, s.server.kind.verify); err != nil {
		return back, fmt.Errorf("the server does not accept the configuration: %w", err)
	}
	took = true
	if err := s.call(ctx, s.server.kind.reload); err != nil {
		took = false // nothing was taken up
		return back, fmt.Errorf("the server does not reload: %w: %w (is it running?)", state.ErrUnreachable, err)
	}
	return back, nil
}

// unconfigure takes the configuration away, if it was placed.
func (s site) unconfigure(ctx context.Context) error {
	if _, err := os.Stat(s.marker()); err != nil {
		return nil //nolint:nilerr // nothing was placed
	}
	err := os.Remove(s.snippet())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.call(ctx, s.server.kind.verify); err == nil {
		// A server that does not run reads its files when it starts.
		if err := s.call(ctx, s.server.kind.reload); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return os.Remove(s.marker())
}

// write replaces the configuration by a whole file.
func (s site) write(content []byte) error {
	side := filepath.Join(s.server.ConfigurationDir, "."+s.Path+".orrery-new")
	if err := os.WriteFile(side, content, 0o644); err != nil { //nolint:gosec // the server's user may have to read it
		return errors.Join(err, os.Remove(side))
	}
	return os.Rename(side, s.snippet())
}

// call runs a program of the server on the main configuration.
func (s site) call(ctx context.Context, argv []string) error {
	path := ""
	for _, folder := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/run/current-system/sw/bin"} {
		if found, err := exec.LookPath(filepath.Join(folder, argv[0])); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return fmt.Errorf("program %s: %w (install the server)", argv[0], state.ErrNotFound)
	}
	args := argv[1:]
	if s.server.Configuration != "" {
		args = append([]string{s.server.kind.main, s.server.Configuration}, args...)
	}
	return command.Program{Path: path, Args: args}.Run(ctx)
}
