package fileset

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/module/moduletest"
)

func TestConformance(t *testing.T) {
	folder := func(t *testing.T, target state.Target) string {
		t.Helper()
		path, _, err := locate(target)
		check(t, err)
		return path
	}
	moduletest.Run(t, moduletest.Harness{
		Module: New(nil),
		NewTarget: func(t *testing.T, name string) state.Target {
			t.Helper()
			target := newTarget(t, nil)
			target.Component.Name = name
			return target
		},
		Bad: []state.Properties{{"dir": "/x"}, {"directory": "relative"}, {"content": 3}},
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			sub := filepath.Join(folder(t, target), fmt.Sprint(n))
			check(t, os.MkdirAll(sub, 0o755))
			check(t, os.WriteFile(filepath.Join(sub, "file"), fmt.Append(nil, n, time.Now()), 0o600))
		},
		Digest: func(t *testing.T, target state.Target) string {
			t.Helper()
			var all strings.Builder
			entries, err := walk(t.Context(), folder(t, target))
			check(t, err)
			for _, e := range entries {
				fmt.Fprintln(&all, e.path, e.mode)
				if e.mode.IsRegular() {
					content, err := os.ReadFile(filepath.Join(folder(t, target), e.path))
					check(t, err)
					all.Write(content)
				}
			}
			return all.String()
		},
	})
}
