package conformance

import (
	"os"
	"path/filepath"
	"testing"

	"orrery/state"
	"orrery/state/module/external"
)

func try(t *testing.T, path string, container state.Properties) (problems int) {
	t.Helper()
	m, err := external.Open(t.Context(), path, external.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range Run(t.Context(), m, nil, container, t.TempDir()) {
		if one.Problem != "" {
			t.Logf("%s: %s", one.Case, one.Problem)
			problems++
		}
	}
	return problems
}

func TestGoodModules(t *testing.T) {
	if try(t, "../../../../examples/modules/folder", nil) != 0 || try(t, "../testdata/keeping", state.Properties{"dataDir": t.TempDir()}) != 0 {
		t.Error("a good module has problems")
	}
}

func TestBadModule(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad")
	const script = `#!/bin/sh
case $1 in
describe) echo '{"protocol":1,"description":{"name":"bad","doc":"x","stateful":true}}' ;;
snapshot) cat /proc/sys/kernel/random/uuid ;;
esac
`
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	if n := try(t, path, nil); n != 4 {
		t.Errorf("%d problems", n)
	}
}
