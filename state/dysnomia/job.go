package dysnomia

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Request is what somebody wants done with one component.
type Request struct {
	Operation string
	Component string // a name, or a path
	Container string // a name, or a path; default: the type
	Type      string // the module, where the container's settings do not say it
	// FromEnvironment takes the container's properties from Environment instead of its file.
	FromEnvironment bool
	Environment     []string
}

// Job is a request with everything found.
type Job struct {
	Operation string
	Ref       Ref    // what the component's state is called
	Path      string // of the component, absolute and without links
	Container string // as it was given
	// Properties are the container's, as NAME=VALUE; all of the environment where it was taken from there.
	Properties []string
	Module     string // path of an executable; empty for a built-in module
	Builtin    Operator
	Type       string
}

// Operator is a built-in module.
type Operator func(ctx context.Context, c Call) error

// Call is one operation of a built-in module. The component's lock is held.
type Call struct {
	Job
	Directory *Directory
	// Foreign carries out other programs for the component: their output, and the environment that they get.
	Out, Err    io.Writer
	Environment []string
}

// Property is the value of one of the container's properties, or fallback if it is empty.
func (c Call) Property(name, fallback string) string {
	for _, one := range slices.Backward(c.Properties) {
		if value, ok := strings.CutPrefix(one, name+"="); ok && value != "" {
			return value
		}
	}
	return fallback
}

// is says whether the operation is one of those. What a module does not know it leaves alone without a look at the
// properties: Disnix gives none with lock and unlock.
func (c Call) is(operations ...string) bool { return slices.Contains(operations, c.Operation) }

// Resolve finds what a request names.
func (c Catalog) Resolve(r Request) (Job, error) {
	job := Job{Operation: r.Operation, Type: r.Type, Container: r.Container}
	switch {
	case r.FromEnvironment:
		job.Properties = r.Environment
		if job.Container == "" {
			job.Container = r.Type
		}
	case r.Container != "":
		settings, err := c.Container(r.Container)
		if err != nil {
			return job, err
		}
		kind, ok := settings.Get("type")
		if !ok || kind == "" {
			return job, Said("ERROR: No type specified in the container configuration!")
		}
		job.Type, job.Properties = kind, settings.Environment()
	default:
		return job, Said("No container file or environment specified!")
	}
	if r.Component == "" {
		return job, Said("ERROR: No component is specified!")
	}
	var err error
	if job.Path, err = c.component(job.Container, r.Component); err != nil {
		return job, err
	}
	if job.Module, job.Builtin, err = c.module(job.Type); err != nil {
		return job, err
	}
	job.Ref = Ref{storedName(job.Container, c.NixStore), storedName(job.Path, c.NixStore)}
	if job.Ref.Container == "" { // a type that is a path
		job.Ref.Container = filepath.Base(job.Type)
	}
	return job, job.check()
}

// check refuses names that cannot be kept, and those that a shell script would take for something else.
func (j Job) check() error {
	if err := j.Ref.check(); err != nil {
		return err
	}
	if j.Module == "" {
		return nil
	}
	for _, one := range []string{j.Path, j.Container} {
		if !Plain(one) {
			return fmt.Errorf("%w: %q has characters that a module in shell may carry out (rename it, or set ORRERY_COMPAT_NAMES=any if module %s quotes its arguments)",
				ErrUnquotable, one, j.Module)
		}
	}
	return nil
}

// ErrUnquotable says that a name is not safe to give to a program that was written for Dysnomia.
var ErrUnquotable = fmt.Errorf("%w for a module that is a script", ErrName)
