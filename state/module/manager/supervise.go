package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"orrery/state"
)

// The engines s6 and runit have a folder per service, with a script run, in a folder that a scanner looks into. The
// service's folder is the component's own; the scanner's has a link to it.

func serviceDir(s spec) string { return filepath.Join(s.target.Directory, "service") }

// service is what is placed for both.
func service(s spec, scanned, run string, finish string) (item, error) {
	if err := os.MkdirAll(serviceDir(s), 0o755); err != nil {
		return item{}, err
	}
	it := item{
		files: []file{{filepath.Join(serviceDir(s), "run"), []byte(run), 0o755}},
		links: []link{{filepath.Join(scanned, s.Name), serviceDir(s)}},
	}
	if finish != "" {
		it.files = append(it.files, file{filepath.Join(serviceDir(s), "finish"), []byte("#!/bin/sh\n" + finish + "\n"), 0o755})
	}
	return it, nil
}

// nonBlocking makes opening a pipe that nobody reads fail instead of wait.
const nonBlocking = unix.O_NONBLOCK

// supervised says whether the service's supervisor listens to its control pipe.
func supervised(s spec) bool {
	f, err := os.OpenFile(filepath.Join(serviceDir(s), "supervise", "control"), os.O_WRONLY|nonBlocking, 0)
	if err != nil {
		return false
	}
	_ = f.Close() // nothing was written
	return true
}

// unlink takes a service away from the scanner, so that its supervisor is not started again.
func unlink(s spec, scanned string) error {
	path := filepath.Join(scanned, s.Name)
	if target, err := os.Readlink(path); err != nil || target != serviceDir(s) {
		return nil //nolint:nilerr // it is not there
	}
	return os.Remove(path)
}

// s6 is the engine of services of s6.
type s6 struct {
	ScanDir string `json:"scanDir"`
}

func (s6) describe() state.Description {
	return state.Description{
		Name: "s6-service",
		Doc:  "A service under s6: its service folder is linked into the scan folder of an s6-svscan that runs. Output goes where s6-svscan's goes.",
		Container: []state.Property{
			{Name: "scanDir", Type: "string", Default: "/run/service", Doc: "The scan folder of s6-svscan."},
		},
	}
}

func (s6) open(c state.Container) (server, error) {
	d := s6{ScanDir: "/run/service"}
	if err := c.Properties.Decode(&d); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(d.ScanDir) {
		return nil, bad("scanDir must be an absolute path")
	}
	return d, nil
}

func (d s6) fit(s spec) error {
	names := []string{"s6-svscanctl", "s6-svc", "s6-svstat"}
	if s.User != "" && s.content == nil {
		names = append(names, "s6-setuidgid")
	}
	return errors.Join(folder("scanDir", d.ScanDir), programs(names...))
}

func (d s6) item(s spec) (item, error) {
	var as []string
	if s.User != "" {
		as = []string{"s6-setuidgid", s.User}
	}
	finish := map[string]string{restartOnFailure: `[ "$1" = 0 ] && exit 125; exit 0`, restartNever: "exit 125"}[s.Restart]
	return service(s, d.ScanDir, string(s.script(as...)), finish)
}

func (d s6) start(ctx context.Context, s spec) error {
	before := supervised(s)
	if _, err := call(ctx, "s6-svscanctl", "-a", d.ScanDir); err != nil {
		return fmt.Errorf("s6-svscan in %s: %w: %w", d.ScanDir, state.ErrUnreachable, err)
	}
	err := until(ctx, time.Duration(s.ReadyTimeout), func(context.Context) (bool, error) { return supervised(s), nil })
	if err != nil {
		return fmt.Errorf("s6-svscan does not supervise it: %w", err)
	}
	if before { // by an earlier definition
		if err := d.down(ctx, s); err != nil {
			return err
		}
	}
	_, err = call(ctx, "s6-svc", "-u", serviceDir(s))
	return err
}

// down ends the program, and kills it where it takes too long.
func (s6) down(ctx context.Context, s spec) error {
	milliseconds := strconv.FormatInt(time.Duration(s.StopTimeout).Milliseconds(), 10)
	_, err := call(ctx, "s6-svc", "-wD", "-T", milliseconds, "-d", serviceDir(s))
	if failed(err) {
		_, err = call(ctx, "s6-svc", "-wD", "-T", milliseconds, "-k", serviceDir(s))
	}
	return err
}

func (d s6) stop(ctx context.Context, s spec) error {
	if err := unlink(s, d.ScanDir); err != nil {
		return err
	}
	if !supervised(s) {
		return nil
	}
	if err := d.down(ctx, s); err != nil && !failed(err) {
		return err
	}
	// The scanner must have forgotten it, or it would start the supervisor again.
	if _, err := call(ctx, "s6-svscanctl", "-an", d.ScanDir); err != nil && !failed(err) {
		return err
	}
	return until(ctx, time.Duration(s.StopTimeout)+10*time.Second, func(ctx context.Context) (bool, error) {
		if !supervised(s) {
			return true, nil
		}
		_, err := call(ctx, "s6-svc", "-xd", serviceDir(s))
		if failed(err) {
			err = nil // it ended meanwhile
		}
		return false, err
	})
}

func (s6) removed(context.Context, spec) error { return nil }

func (d s6) status(ctx context.Context, s spec) error {
	out, err := call(ctx, "s6-svstat", "-o", "up", serviceDir(s))
	if err != nil {
		return fmt.Errorf("it is not supervised: %w", err)
	}
	if out != "true" {
		return errDown
	}
	return nil
}

var errDown = errors.New("it does not run")

// runit is the engine of services of runit.
type runit struct {
	ServiceDir string `json:"serviceDir"`
}

func (runit) describe() state.Description {
	return state.Description{
		Name: "runit-service",
		Doc:  "A service under runit: its service folder is linked into the folder of a runsvdir that runs, which looks into it every five seconds.",
		Container: []state.Property{
			{Name: "serviceDir", Type: "string", Default: "/etc/service", Doc: "The folder that runsvdir looks into."},
		},
	}
}

func (runit) open(c state.Container) (server, error) {
	d := runit{ServiceDir: "/etc/service"}
	if err := c.Properties.Decode(&d); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(d.ServiceDir) {
		return nil, bad("serviceDir must be an absolute path")
	}
	return d, nil
}

func (d runit) fit(s spec) error {
	names := []string{"sv"}
	if s.User != "" && s.content == nil {
		names = append(names, "chpst")
	}
	return errors.Join(folder("serviceDir", d.ServiceDir), programs(names...))
}

func (d runit) item(s spec) (item, error) {
	var as []string
	if s.User != "" {
		as = []string{"chpst", "-u", s.User}
	}
	finish := map[string]string{restartOnFailure: `[ "$1" = 0 ] && printf d >supervise/control; exit 0`, restartNever: "printf d >supervise/control"}[s.Restart]
	return service(s, d.ServiceDir, string(s.script(as...)), finish)
}

func (d runit) start(ctx context.Context, s spec) error {
	before := supervised(s)
	err := until(ctx, time.Duration(s.ReadyTimeout), func(context.Context) (bool, error) { return supervised(s), nil })
	if err != nil {
		return fmt.Errorf("runsvdir in %s: %w: %w (is it running?)", d.ServiceDir, state.ErrUnreachable, err)
	}
	if before { // by an earlier definition
		if err := d.down(ctx, s); err != nil {
			return err
		}
	}
	return until(ctx, time.Duration(s.ReadyTimeout), func(ctx context.Context) (bool, error) {
		_, err := call(ctx, "sv", "-w", "2", "start", serviceDir(s)) // which is lost while an earlier end is being noticed
		if failed(err) {
			return false, nil
		}
		return err == nil, err
	})
}

// down ends the program, and kills it where it takes too long.
func (runit) down(ctx context.Context, s spec) error {
	seconds := strconv.Itoa(max(1, int(time.Duration(s.StopTimeout)/time.Second)))
	_, err := call(ctx, "sv", "-w", seconds, "force-stop", serviceDir(s))
	return err
}

func (d runit) stop(ctx context.Context, s spec) error {
	if err := unlink(s, d.ServiceDir); err != nil {
		return err
	}
	if !supervised(s) {
		return nil
	}
	if err := d.down(ctx, s); err != nil && !failed(err) {
		return err
	}
	// A supervisor that ends while the scanner still has the link in mind is started once more.
	return until(ctx, time.Duration(s.StopTimeout)+15*time.Second, func(ctx context.Context) (bool, error) {
		if !supervised(s) {
			return true, nil
		}
		_, err := call(ctx, "sv", "-w", "1", "force-shutdown", serviceDir(s))
		if failed(err) {
			err = nil
		}
		return false, err
	})
}

func (runit) removed(context.Context, spec) error { return nil }

func (runit) status(ctx context.Context, s spec) error {
	if !supervised(s) {
		return fmt.Errorf("it is not supervised: %w", errDown)
	}
	out, err := call(ctx, "sv", "status", serviceDir(s))
	if err != nil && !failed(err) {
		return err
	}
	if !strings.HasPrefix(out, "run: ") {
		return fmt.Errorf("runit says: %s", out)
	}
	return nil
}
