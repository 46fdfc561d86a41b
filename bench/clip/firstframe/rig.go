package main

import (
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/bench/internal/desktop"
	"orrery/bench/internal/server"
)

// patience is how long anything may take.
const patience = time.Minute

// rig are the servers, and the recorder.
type rig struct {
	folder    string
	items     int
	lines     string // path
	env       []string
	processes []*server.Process
	x         *xgb.Conn
	socket    string // of the compositor; empty: there is none
}

func newRig(program string, items int) (r *rig, err error) {
	folder, err := os.MkdirTemp("", "orrery-firstframe-")
	if err != nil {
		return nil, err
	}
	r = &rig{folder: folder, items: items}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	export, lines, err := desktop.History(folder, items)
	if err != nil {
		return r, err
	}
	r.lines = lines
	settings := filepath.Join(folder, "config", "orrery-clip", "clip.toml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(settings), 0o700), os.Mkdir(filepath.Join(folder, "run"), 0o700), os.WriteFile(settings, []byte("[limits]\nitems = 0\n"), 0o600)); err != nil {
		return r, err
	}
	r.env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+filepath.Join(folder, "config"), "XDG_DATA_HOME="+filepath.Join(folder, "data"), "XDG_CACHE_HOME="+filepath.Join(folder, "cache"),
		"XDG_RUNTIME_DIR="+filepath.Join(folder, "run"), "WAYLAND_DISPLAY=", "DBUS_SESSION_BUS_ADDRESS=")
	if err := r.startX(); err != nil {
		return r, err
	}
	if err := r.startSway(); err != nil {
		return r, err
	}
	if err := r.start(r.command(program, "record"), "recorder"); err != nil {
		return r, err
	}
	stats := func() error { return r.command(program, "stats").Run() }
	if err := await("the recorder", func() bool { return stats() == nil }); err != nil {
		return r, err
	}
	if out, err := r.command(program, "import", export).CombinedOutput(); err != nil {
		return r, fmt.Errorf("import: %w: %s", err, out)
	}
	return r, nil
}

func (r *rig) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...) //nolint:noctx // it ends with the benchmark
	cmd.Env = r.env
	return cmd
}

func (r *rig) start(cmd *exec.Cmd, name string) error {
	p, err := server.Start(cmd, filepath.Join(r.folder, name+".log"))
	if err == nil {
		r.processes = append(r.processes, p)
	}
	return err
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
	r.x, err = xgb.NewConnDisplay(display)
	return err
}

// nobody is whom sway runs as where this is root, whom it refuses.
const nobody = 65534

func (r *rig) startSway() error {
	if path, _ := exec.LookPath("sway"); path == "" {
		return nil // it is left out
	}
	folder := filepath.Join(r.folder, "sway")
	config := filepath.Join(folder, "config")
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Chmod(r.folder, 0o711), os.WriteFile(config, []byte("output HEADLESS-1 resolution 1280x800\nxwayland disable\n"), 0o644)); err != nil { //nolint:gosec // another user reads it
		return err
	}
	cmd := r.command("sway", "-c", config)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+folder, "WLR_BACKENDS=headless", "WLR_RENDERER=pixman", "WLR_LIBINPUT_NO_DEVICES=1", "DISPLAY=")
	if os.Geteuid() == 0 {
		if err := os.Chown(folder, nobody, nobody); err != nil {
			return err
		}
		cmd.Path, cmd.Args = "/usr/bin/setpriv", append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, cmd.Args...)
	}
	if err := r.start(cmd, "sway"); err != nil {
		return err
	}
	return await("the compositor", func() bool {
		found, _ := filepath.Glob(filepath.Join(folder, "wayland-?"))
		if len(found) > 0 {
			r.socket = found[0]
		}
		return r.socket != ""
	})
}

func await(what string, condition func() bool) error {
	for end := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s did not come", what)
		}
	}
	return nil
}

// measure starts a program some times, and prints what it takes. input is a file; empty: none.
func (r *rig) measure(display string, once func(input string) (frame, error), name string, runs int, input string) error {
	if once == nil {
		return nil
	}
	var times, cpu []time.Duration
	var resident, own []int64
	for i := range runs + 1 {
		f, err := once(input)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", display, name, err)
		}
		if i == 0 {
			continue // it fills caches
		}
		times, cpu, resident, own = append(times, f.after), append(cpu, f.cpu), append(resident, f.resident), append(own, f.own)
	}
	ms := func(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) }
	m := median(times)
	fmt.Printf("| %d | %s | %s | %s, %s, %s | %s | %.1f | %.1f | %s |\n", r.items, display, name, ms(times[0]), ms(m), ms(times[len(times)-1]), ms(median(cpu)),
		float64(median(resident))/1e6, float64(median(own))/1e6, server.Load())
	return nil
}

// frame is what a first frame took.
type frame struct {
	after         time.Duration // the start of the process
	cpu           time.Duration
	resident, own int64 // bytes
}

// look reads what a process has used.
func (f *frame) look(pid int) {
	memory := server.Memory(pid)
	f.cpu, f.resident, f.own = server.Used(pid), int64(memory["VmRSS"]), int64(memory["RssAnon"])
}

// run starts a program, waits until its frame is seen, and ends it.
func (r *rig) run(words []string, input string, env []string, seen func() (bool, error)) (f frame, err error) {
	cmd := r.command(words[0], words[1:]...)
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if input != "" {
		in, err := os.Open(input)
		if err != nil {
			return f, err
		}
		defer in.Close() //nolint:errcheck // it was only read
		cmd.Stdin = in
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return f, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	for {
		ok, err := seen()
		if err != nil {
			return f, err
		}
		if ok {
			f.after = time.Since(begun)
			f.look(cmd.Process.Pid)
			return f, nil
		}
		if time.Since(begun) > patience {
			return f, errors.New("no frame came")
		}
	}
}

// rows is where the rows of the picker's list are, on this screen; others may be anywhere.
var rows, anywhere = image.Rect(328, 175, 400, 400), image.Rect(0, 0, 1280, 800) //nolint:gochecknoglobals // constants

// x11 measures on the X server: nothing is drawn in an area before, and at least a text afterwards.
func (r *rig) x11(area image.Rectangle, words ...string) func(input string) (frame, error) {
	root := xproto.Setup(r.x).DefaultScreen(r.x).Root
	drawn := func() (bool, error) {
		shot, err := xproto.GetImage(r.x, xproto.ImageFormatZPixmap, xproto.Drawable(root), int16(area.Min.X), int16(area.Min.Y), uint16(area.Dx()), uint16(area.Dy()), ^uint32(0)).Reply() //nolint:gosec // small
		if err != nil {
			return false, err
		}
		colours := map[string]bool{}
		for i := 0; i+3 < len(shot.Data) && len(colours) < 8; i += 4 {
			colours[string(shot.Data[i:i+3])] = true
		}
		return len(colours) >= 8, nil // letters have many shades; a window's ground alone is no frame
	}
	return func(input string) (frame, error) {
		if err := await("an empty screen", func() bool { on, err := drawn(); return err == nil && !on }); err != nil {
			return frame{}, err
		}
		return r.run(words, input, nil, drawn)
	}
}

// close ends all.
func (r *rig) close() error {
	if r.x != nil {
		r.x.Close()
	}
	var errs []error
	for _, p := range slices.Backward(r.processes) {
		errs = append(errs, p.Stop(syscall.SIGTERM))
	}
	return errors.Join(append(errs, os.RemoveAll(r.folder))...)
}
