// Package command runs the programs that modules drive: a database's dump tool, a repository's administrator.
//
// A program gets a clean environment, is ended with all its children when the context ends, and what it
// complains about becomes the error. Secrets go into the environment or a file, never into arguments.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// grace is how long a program that was told to end may take until it is killed.
const grace = 5 * time.Second

// Program is one run of a program.
type Program struct {
	Path string
	Args []string // without its own name
	// Env is added to a clean environment (PATH, HOME=/nonexistent, LC_ALL=C), and wins over it.
	Env []string
	Dir string // default: /
	In  io.Reader
	Out io.Writer
	// Credential is whom it runs as; nil: the caller.
	Credential *syscall.Credential
	// Secrets are cut out of error messages.
	Secrets []string
}

// Run carries it out. Where the program fails the error holds the end of what it wrote to its standard error
// (*Failure); where ctx ends, ctx.Err. An error of In or Out comes first.
func (p Program) Run(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C"}, p.Env...)
	cmd.Dir = p.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: p.Credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	var in *noting
	if p.In != nil {
		in = &noting{r: p.In}
		cmd.Stdin = in
	}
	var out *noting
	if p.Out != nil {
		out = &noting{w: p.Out}
		cmd.Stdout = out
	}
	var complaints tail
	cmd.Stderr = &complaints
	err := cmd.Run()
	if cmd.Process != nil && err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children that outlived it; mostly there are none
	}
	switch {
	case out.broken() != nil:
		return out.broken()
	case in.broken() != nil:
		return in.broken()
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return p.failure(err, complaints.kept)
}

// Output is Run, and what the program wrote to its standard output, at most limit bytes.
func (p Program) Output(ctx context.Context, limit int) ([]byte, error) {
	var b bytes.Buffer
	p.Out = &limited{w: &b, left: limit}
	err := p.Run(ctx)
	return b.Bytes(), err
}

// Failure is a program that ended with another status than 0.
type Failure struct {
	Program string
	Status  int    // -1: it was ended by a signal
	Stderr  string // the end of it, without secrets
	err     error
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Stderr == "" {
		return f.Program + ": " + f.err.Error()
	}
	return f.Program + ": " + f.Stderr
}

// Unwrap implements errors.
func (f *Failure) Unwrap() error { return f.err }

func (p Program) failure(err error, stderr []byte) error {
	name := filepath.Base(p.Path)
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return fmt.Errorf("cannot run %s: %w", name, err)
	}
	text := string(bytes.TrimSpace(bytes.ToValidUTF8(stderr, []byte("?"))))
	for _, secret := range p.Secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	return &Failure{Program: name, Status: ended.ExitCode(), Stderr: text, err: err}
}

// noting passes on, and remembers an error that was not the end. Whoever feeds a program that ended early may still
// be waiting for its reader when Run returns.
type noting struct {
	r io.Reader
	w io.Writer

	mu  sync.Mutex
	err error
}

func (n *noting) note(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// broken is what was noted; nil for a nil noting.
func (n *noting) broken() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *noting) Read(b []byte) (int, error) {
	k, err := n.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		n.note(err)
	}
	return k, err
}

func (n *noting) Write(b []byte) (int, error) {
	k, err := n.w.Write(b)
	if err != nil {
		n.note(err)
	}
	return k, err
}

// limited fails when it is written more than is left.
type limited struct {
	w    io.Writer
	left int
}

var errTooMuch = errors.New("the program writes more than it should")

func (l *limited) Write(b []byte) (int, error) {
	if len(b) > l.left {
		return 0, errTooMuch
	}
	l.left -= len(b)
	return l.w.Write(b)
}

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

const tailSize = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if excess := len(t.kept) - tailSize; excess > 0 {
		t.kept = append(t.kept[:0], t.kept[excess:]...)
	}
	return len(b), nil
}
