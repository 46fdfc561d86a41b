package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jezek/xgb"

	"orrery/bench/internal/desktop"
	"orrery/bench/internal/server"
)

// patience is how long anything may take.
const patience = 2 * time.Minute

// rig is an X server, and what runs on it.
type rig struct {
	folder    string
	env       []string
	processes []*server.Process
}

func newRig() (r *rig, err error) {
	folder, err := os.MkdirTemp("", "orrery-bench-clip-")
	if err != nil {
		return nil, err
	}
	r = &rig{folder: folder}
	r.env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+filepath.Join(folder, "config"), "XDG_DATA_HOME="+filepath.Join(folder, "data"), "XDG_CACHE_HOME="+filepath.Join(folder, "cache"),
		"XDG_STATE_HOME="+filepath.Join(folder, "state"), "XDG_RUNTIME_DIR="+filepath.Join(folder, "run"), "WAYLAND_DISPLAY=", "DBUS_SESSION_BUS_ADDRESS=", "NO_AT_BRIDGE=1", "QT_QPA_PLATFORM=xcb")
	settings := filepath.Join(folder, "config", "orrery-clip", "clip.toml")
	if err = errors.Join(os.MkdirAll(filepath.Dir(settings), 0o700), os.Mkdir(filepath.Join(folder, "run"), 0o700), os.WriteFile(settings, []byte("[limits]\nitems = 0\n"), 0o600)); err == nil {
		err = r.startX()
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) close() error {
	var errs []error
	for _, p := range slices.Backward(r.processes) {
		errs = append(errs, p.Stop(os.Interrupt))
	}
	return errors.Join(append(errs, os.RemoveAll(r.folder))...)
}

func (r *rig) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...) //nolint:noctx // it ends with the benchmark
	cmd.Env, cmd.Dir = r.env, r.folder
	return cmd
}

func (r *rig) start(cmd *exec.Cmd, name string) (*server.Process, error) {
	p, err := server.Start(cmd, filepath.Join(r.folder, name+".log"))
	if err == nil {
		r.processes = append(r.processes, p)
	}
	return p, err
}

func (r *rig) startX() error {
	p, display, err := desktop.StartX(filepath.Join(r.folder, "x.log"))
	if p != nil {
		r.processes = append(r.processes, p)
	}
	if err != nil {
		return err
	}
	xgb.Logger.SetOutput(io.Discard)
	r.env = append(r.env, "DISPLAY="+display)
	return os.Setenv("DISPLAY", display) // for what this process reads back
}

func await(what string, condition func() bool) error {
	for end := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s did not come", what)
		}
	}
	return nil
}
