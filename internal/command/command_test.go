package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func sh(script string) Program { return Program{Path: "/bin/sh", Args: []string{"-c", script}} }

func TestRun(t *testing.T) {
	p := sh(`cat; echo "$NAME" >&2; exit 3`)
	p.Env, p.In, p.Secrets = []string{"NAME=wrong password hush"}, strings.NewReader("in"), []string{"hush"}
	var out bytes.Buffer
	p.Out = &out
	err := p.Run(t.Context())
	failure, ok := errors.AsType[*Failure](err)
	if !ok || failure.Status != 3 || err.Error() != "sh: wrong password [secret]" || out.String() != "in" {
		t.Errorf("%v, %q", err, out.String())
	}
	if got, err := sh("echo $HOME $ODD").Output(t.Context(), 100); err != nil || string(got) != "/nonexistent\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := sh("echo too much").Output(t.Context(), 3); !errors.Is(err, errTooMuch) {
		t.Error(err)
	}
	if err := (Program{Path: "/no/such"}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot run such") {
		t.Error(err)
	}
}

var errInjected = errors.New("injected")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errInjected }

func TestBrokenPipes(t *testing.T) {
	p := sh("echo x; cat >/dev/null")
	p.Out = failing{}
	if err := p.Run(t.Context()); !errors.Is(err, errInjected) {
		t.Error(err)
	}
	p.Out, p.In = nil, io.MultiReader(strings.NewReader("x"), iotest.ErrReader(errInjected))
	if err := p.Run(t.Context()); !errors.Is(err, errInjected) {
		t.Error(err)
	}
	p = sh("exit 0") // a program that does not read to the end is no error
	p.In = strings.NewReader(strings.Repeat("x", 1<<20))
	if err := p.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// A cancelled program ends with its children, which hold its output open.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	p := sh("echo ready; sleep 1000 & sleep 1000")
	p.Out = w
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(began); took > grace {
		t.Errorf("children were waited for: %v", took)
	}
	if err := p.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
