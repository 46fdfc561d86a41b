package command

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestFeed(t *testing.T) {
	var out bytes.Buffer
	p := sh("cat")
	p.Out = &out
	err := p.Feed(t.Context(), func(w io.Writer) error { _, err := io.WriteString(w, "fed"); return err })
	if err != nil || out.String() != "fed" {
		t.Errorf("%v, %q", err, out.String())
	}
	endless := func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return err
			}
		}
	}
	if err := sh("exit 0").Feed(t.Context(), endless); !errors.Is(err, errEnded) {
		t.Error(err)
	}
	if err := sh("echo why >&2; exit 2").Feed(t.Context(), endless); err == nil || err.Error() != "sh: why" {
		t.Error(err)
	}
	if err := sh("cat >/dev/null").Feed(t.Context(), func(io.Writer) error { return errInjected }); !errors.Is(err, errInjected) {
		t.Error(err)
	}
}

func TestDrain(t *testing.T) {
	all := func(into *string) func(io.Reader) error {
		return func(r io.Reader) error {
			b, err := io.ReadAll(r)
			*into = string(b)
			return err
		}
	}
	var got string
	if err := sh("echo x").Drain(t.Context(), all(&got)); err != nil || got != "x\n" {
		t.Errorf("%v, %q", err, got)
	}
	if err := sh("echo x; echo why >&2; exit 1").Drain(t.Context(), all(&got)); err == nil || err.Error() != "sh: why" {
		t.Error(err)
	}
	nothing := func(io.Reader) error { return nil }
	if err := sh("echo x; exit 1").Drain(t.Context(), nothing); err == nil || !strings.HasPrefix(err.Error(), "sh: ") {
		t.Error(err)
	}
	if err := sh("cat /dev/zero").Drain(t.Context(), func(io.Reader) error { return errInjected }); !errors.Is(err, errInjected) {
		t.Error(err)
	}
}
