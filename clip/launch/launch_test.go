package launch_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/launch"
	"orrery/internal/testenv"
)

func text(s string) *clip.Item {
	return &clip.Item{Contents: []clip.Content{{Type: "text/plain", Data: []byte(s)}}}
}

func script(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	t.Parallel()
	const nasty = `$(echo x) 'a'`
	for _, c := range []struct {
		a    action.Action
		want string
	}{
		{action.Action{Name: "a", Run: []string{"printf", "%s.", "{}", "-"}}, nasty + ".-."},
		{action.Action{Name: "a", Run: []string{"cat"}}, nasty},
		{action.Action{Name: "a", Shell: "tr a-z A-Z; echo $HOME"}, strings.ToUpper(nasty) + os.Getenv("HOME") + "\n"},
		{action.Action{Name: "a", Run: []string{"true"}}, ""}, // reads nothing
		{action.Action{Name: "a", Builtin: action.Pretty}, ""},
	} {
		i := text(nasty)
		if c.a.Builtin != "" {
			i, c.want = text("[1]"), "[\n  1\n]"
		}
		if got, err := launch.Run(t.Context(), c.a, i); err != nil || string(got) != c.want {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := launch.Run(t.Context(), action.Action{Name: "a", Run: []string{"true"}}, text(strings.Repeat("x", 1<<20))); err != nil {
		t.Error(err)
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]action.Action{
		"did not end within 20ms":     {Name: "a", Run: []string{"sleep", "60"}, Timeout: 20 * time.Millisecond},
		"cannot run no-such-program":  {Name: "a", Run: []string{"no-such-program"}},
		"action \"a\": sh: complaint": {Name: "a", Shell: "echo complaint >&2; exit 3"},
		"is no address":               {Name: "a", Builtin: action.Open},
		"is for the picker":           {Name: "a", Builtin: action.Swatch},
	} {
		if _, err := launch.Run(t.Context(), a, text("x")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := launch.Run(ctx, action.Action{Name: "a", Run: []string{"true"}}, text("x")); err == nil {
		t.Error("it runs although nobody wants it any more")
	}
}

// TestOpen: a program that fails at once is heard of, one that goes on is left alone.
func TestOpen(t *testing.T) {
	said := filepath.Join(t.TempDir(), "said")
	for body, want := range map[string]string{
		`printf '%s' "$1" >` + said:                 "",
		`echo no browser >&2; exit 3`:               "cannot open https://example.org: exit status 3: no browser",
		`echo $$ >` + said + `.pid; exec sleep 600`: "",
	} {
		t.Setenv("PATH", filepath.Dir(script(t, "xdg-open", body))+":/usr/bin:/bin")
		err := launch.Open(t.Context(), "https://example.org")
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%v, not %q", err, want)
		}
	}
	if b, err := os.ReadFile(said); err != nil || string(b) != "https://example.org" {
		t.Error(string(b), err)
	}
	var pid []byte
	testenv.Eventually(t, "the browser", func() bool {
		pid, _ = os.ReadFile(said + ".pid")
		return bytes.HasSuffix(pid, []byte("\n"))
	})
	end(t, strings.TrimSpace(string(pid)))
	t.Setenv("PATH", "/nonexistent")
	if err := launch.Open(t.Context(), "https://example.org"); err == nil || !strings.Contains(err.Error(), "install xdg-utils") {
		t.Error(err)
	}
}

func TestEdit(t *testing.T) {
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	t.Setenv("VISUAL", "")
	for body, want := range map[string]struct{ text, err string }{
		`test "$(cat "$1")" = before && echo after >"$1"; touch "$1~"`: {"after", ""},
		`printf 'x\ny' >"$1.new"; mv "$1.new" "$1"`:                    {"x\ny", ""},
		`echo before >"$1"`: {"", ""}, // the same
		`exit 3`:            {"", "nothing is kept"},
		`test "$(stat -c %a "$1" "$(dirname "$1")" | tr -d '\n')" = 600700`: {"", ""},
	} {
		t.Setenv("EDITOR", "'"+script(t, "an editor", body)+"'")
		got, err := launch.Edit(t.Context(), []byte("before"), nil, os.Stderr, os.Stderr)
		if string(got) != want.text || want.err == "" && err != nil || want.err != "" && (err == nil || !strings.Contains(err.Error(), want.err)) {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
	if left, err := os.ReadDir(run); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	t.Setenv("EDITOR", "'")
	if _, err := launch.Edit(t.Context(), nil, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "EDITOR") {
		t.Error(err)
	}
}

func end(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}
