package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Runner carries out operations on components of one state directory.
type Runner struct {
	Catalog
	Directory *Directory
	// Path is the search path of the programs that modules call.
	Path     string
	Out, Err io.Writer
	// AnyName gives executable modules names that a shell would interpret; they must quote their arguments.
	AnyName bool
}

// Operate carries out a request. A module that fails is a *Status.
func (r Runner) Operate(ctx context.Context, request Request) error {
	job, err := r.Resolve(request)
	if err != nil && (!r.AnyName || !errors.Is(err, ErrUnquotable)) {
		return err
	}
	release, err := r.Directory.Lock(ctx, job.Ref)
	if err != nil {
		return err
	}
	defer release()
	if job.Operation == "restore" {
		if err := r.restorable(job.Ref); err != nil {
			return err
		}
	}
	if err := r.carryOut(ctx, job); err != nil {
		return err
	}
	return r.after(job)
}

// restorable refuses a restore from a snapshot that is not what was taken.
func (r Runner) restorable(ref Ref) error {
	latest, err := r.Directory.Latest(ref)
	if errors.Is(err, ErrNotFound) {
		return nil // nothing to restore is no failure
	}
	if err != nil {
		return err
	}
	if err := r.Directory.Verify(latest); err != nil && !IsUnknown(err) {
		return fmt.Errorf("cannot restore %s: %w (the state is untouched)", ref, err)
	}
	return nil
}

// after makes durable what an executable module left, and remembers what was activated.
func (r Runner) after(job Job) error {
	switch job.Operation {
	case "snapshot":
		return r.Directory.seal(job.Ref)
	case "activate":
		return r.Directory.rememberContent(job.Ref, job.Path)
	}
	return nil
}

// Status is a module that ended with another status than 0.
type Status struct {
	Module string
	Code   int // -1: ended by a signal
}

// Error implements error.
func (s *Status) Error() string {
	if s.Code < 0 {
		return fmt.Sprintf("module %s was ended by a signal", s.Module)
	}
	return fmt.Sprintf("module %s ended with status %d", s.Module, s.Code)
}

// Exit is the status that Dysnomia, which calls modules through xargs, ends with.
func (s *Status) Exit() int {
	switch s.Code {
	case 255:
		return 124
	case -1:
		return 125
	}
	return 123
}

func (r Runner) carryOut(ctx context.Context, job Job) error {
	environment := r.environment(job)
	if job.Builtin != nil {
		err := job.Builtin(ctx, Call{Job: job, Directory: r.Directory, Out: r.Out, Err: r.Err, Environment: environment})
		if err != nil && !errors.As(err, new(*Status)) {
			fmt.Fprintf(r.Err, "cannot %s %s: %v\n", job.Operation, job.Ref, err)
			err = errors.Join(&Status{job.Type, 1}, err)
		}
		return err
	}
	return Execute(ctx, Program{Path: job.Module, Args: []string{job.Operation, job.Path, job.Container}, Env: environment, Out: r.Out, Err: r.Err})
}

// environment is what a module gets: the container's properties as they are, where its programs and its state are.
func (r Runner) environment(job Job) []string {
	ours := []string{"PATH=" + r.Path, "DYSNOMIA_STATEDIR=" + r.Directory.Path(), HeldVariable + "=" + r.Directory.Held(job.Ref)}
	theirs := slices.DeleteFunc(slices.Clone(job.Properties), func(property string) bool {
		name, _, _ := strings.Cut(property, "=")
		return slices.ContainsFunc(ours, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	})
	return append(theirs, ours...)
}

// Program is an executable that shows what it does to a person, unlike those of internal/command.
type Program struct {
	Path     string
	Args     []string
	Env      []string // all of it
	Dir      string
	Out, Err io.Writer
}

// Execute carries out a program; one that fails is a *Status. When ctx ends, it ends with all its children.
func Execute(ctx context.Context, p Program) error {
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = p.Env, p.Dir, p.Out, p.Err
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what did not end when it was told to
		return ctx.Err()
	}
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return &Status{filepath.Base(p.Path), failed.ExitCode()}
	case errors.Is(err, exec.ErrWaitDelay): // a daemon that it started holds its output
		return nil
	case err != nil:
		return fmt.Errorf("cannot run %s: %w", p.Path, err)
	}
	return nil
}

// seal makes the newest snapshot of a component durable and gives it our checksum.
func (d *Directory) seal(r Ref) error {
	latest, err := d.Latest(r)
	if errors.Is(err, ErrNotFound) {
		return nil // of a component without state
	}
	if err != nil {
		return err
	}
	path := d.SnapshotPath(r, latest.Snapshot)
	if !exists(path) {
		return fmt.Errorf("module of %s recorded snapshot %s but did not make it", r, latest.Snapshot)
	}
	sum := d.join(filepath.Join(own, checksums), r, latest.Snapshot)
	if exists(sum) {
		return nil
	}
	if err := syncTree(path); err != nil {
		return err
	}
	hash, err := outputHash(path, true)
	if err != nil {
		return err
	}
	return writeFile(sum, hash)
}

// rememberContent notes what a component was made from when it was activated.
func (d *Directory) rememberContent(r Ref, path string) error {
	if !exists(path) || !d.IsActive(r) || strings.HasPrefix(path, d.path+"/") {
		return nil // there is nothing to compare with later
	}
	hash, err := outputHash(path, true)
	if err != nil {
		return err
	}
	return writeFile(d.join(filepath.Join(own, "contents"), r), hash)
}
