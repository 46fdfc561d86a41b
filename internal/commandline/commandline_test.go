package commandline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/cobra"
)

func TestMessagesCannotControlATerminal(t *testing.T) {
	for message, want := range map[string]string{
		"no component ä b\n\tc": "no component ä b\n\tc", "\x1b[2Ja\rb\a\u009b": `\x1b[2Ja\rb\a\u009b`, "\xff'": `\xff'`, "\u202e": `\u202e`,
	} {
		if got := Visible(message); got != want {
			t.Errorf("%q is written as %q, not as %q", message, got, want)
		}
	}
}

func TestRun(t *testing.T) {
	plain := errors.New("no\rnode")
	stopped := fmt.Errorf("cannot read %q: %w", "a", context.Canceled)
	for i, one := range []struct {
		err                         error
		interrupted, endless, quiet bool
		status                      int
		text                        string
	}{
		{nil, false, false, false, 0, ""},
		{nil, true, true, false, 0, ""},
		{plain, false, true, false, 7, "tool: no\\rnode\n"},
		{plain, false, false, true, 7, ""},
		{plain, true, true, false, Interrupted, ""},
		{stopped, true, true, false, Interrupted, ""},
		{stopped, true, false, false, 7, "tool: cannot read \"a\": interrupted\n"},
		{stopped, false, true, false, 7, "tool: cannot read \"a\": context canceled\n"},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		if one.interrupted {
			interrupt()
		}
		root := &cobra.Command{Use: "tool", SilenceErrors: true, SilenceUsage: true}
		sub := &cobra.Command{Use: "watch", RunE: func(*cobra.Command, []string) error { return one.err }}
		if one.endless {
			Endless(sub)
		}
		root.AddCommand(sub)
		root.SetArgs([]string{"watch"})
		var said bytes.Buffer
		root.SetErr(&said)
		status := Run(ctx, root, func(error) (int, bool) { return 7, !one.quiet })
		interrupt()
		if status != one.status || said.String() != one.text {
			t.Errorf("%d: status %d, %q", i, status, said.String())
		}
	}
}
