package wrapper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/state"
	"orrery/state/module/moduletest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program keeps its state in a file.
const program = `#!/bin/sh
set -eu
case "$1" in
activate) mkdir -p data; [ -e data/state ] || echo fresh >data/state ;;
snapshot) cat data/state ;;
restore) mkdir -p data; cat >data/next; mv data/next data/state ;;
collect-garbage) rm -rf data ;;
lock) [ ! -e data/busy ] || { echo "somebody works on it" >&2; exit 1; } ;;
esac
`

func targets(script string) func(t *testing.T, name string) state.Target {
	return func(t *testing.T, name string) state.Target {
		t.Helper()
		path := filepath.Join(t.TempDir(), "wrapper")
		must(t, os.WriteFile(path, []byte(script), 0o700))
		return state.Target{
			Component: state.Component{Name: name, Module: "wrapper", Container: "wrapper", Properties: state.Properties{"wrapper": path}},
			Container: state.Container{Name: "wrapper", Module: "wrapper"}, Directory: t.TempDir(),
		}
	}
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: targets(program),
		Bad: []state.Properties{{}, {"wrapper": "relative"}, {"wrapper": "/x", "environment": map[string]string{"a b": ""}}, {"wrapper": "/x", "timeout": "-1s"}},
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			f, err := os.OpenFile(filepath.Join(target.Directory, "data/state"), os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = fmt.Fprint(f, n, strings.Repeat("x", 100<<10), "\n")
			must(t, errors.Join(err, f.Close()))
		},
		Digest: func(t *testing.T, target state.Target) string {
			t.Helper()
			content, err := os.ReadFile(filepath.Join(target.Directory, "data/state"))
			must(t, err)
			return string(content)
		},
	})
}

// The program gets values as they are, and nothing of the node's environment.
func TestEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_NODE", "1")
	target := targets("#!/bin/sh\necho \"$1 $2\"; env -0 | sort -z | tr '\\0' '|'\n")(t, "odd")
	target.Container.Properties = state.Properties{"text": `a 'b" $(id) é`, "list": []any{"a", 1.0}, "lines": "x\ny"}
	target.Component.Properties["environment"] = map[string]string{"OWN": "*"}
	var framed, out bytes.Buffer
	must(t, New().Snapshot(t.Context(), target, &framed))
	must(t, New().Export(t.Context(), bytes.NewReader(framed.Bytes()), &out))
	got := out.String()
	for _, want := range []string{"snapshot wrapper\n", "|text=a 'b\" $(id) é|", `|list=["a",1]|`, "|lines=x\ny|", "|OWN=*|", "|ORRERY_COMPONENT=odd|", "|ORRERY_DIRECTORY=" + target.Directory + "|"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if strings.Contains(got, "SECRET_OF_NODE") {
		t.Errorf("the node's environment: %q", got)
	}
	var again bytes.Buffer
	must(t, New().Import(t.Context(), &out, &again))
	if !bytes.Equal(again.Bytes(), framed.Bytes()) {
		t.Error("importing what was exported gives another snapshot")
	}
	target.Container.Properties = state.Properties{"a-b": ""}
	if err := New().Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	failing := targets("#!/bin/sh\necho half; echo no such planet >&2; exit 3\n")(t, "failing")
	if err := New().Snapshot(t.Context(), failing, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "no such planet") {
		t.Error(err)
	}
	slow := targets("#!/bin/sh\nsleep 1000 & wait\n")(t, "slow")
	slow.Component.Properties["timeout"] = "50ms"
	if err := New().Activate(t.Context(), slow); err == nil || !strings.Contains(err.Error(), "longer than 50ms") {
		t.Error(err)
	}
	missing := targets("")(t, "missing")
	missing.Component.Properties["wrapper"] = "/no/such/program"
	if err := New().Activate(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	target := targets(program)(t, "locked")
	must(t, New().Activate(t.Context(), target))
	must(t, New().Lock(t.Context(), target))
	must(t, New().Unlock(t.Context(), target))
	must(t, os.WriteFile(filepath.Join(target.Directory, "data/busy"), nil, 0o600))
	if err := New().Lock(t.Context(), target); !errors.Is(err, state.ErrVeto) || !strings.Contains(err.Error(), "somebody works") {
		t.Error(err)
	}
}

func FuzzUnframe(f *testing.F) {
	for _, content := range []string{"", "x", strings.Repeat("y", blockSize+1)} {
		var b bytes.Buffer
		w := newFramer(&b)
		_, err := w.Write([]byte(content))
		if err := errors.Join(err, w.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var content, again bytes.Buffer
		if unframe(bytes.NewReader(frame), &content) != nil {
			return
		}
		w := newFramer(&again)
		_, err := w.Write(content.Bytes())
		must(t, errors.Join(err, w.Close()))
		if !bytes.Equal(again.Bytes(), frame) {
			t.Error("a frame that is not canonical was accepted")
		}
	})
}
