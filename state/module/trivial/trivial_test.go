package trivial

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"orrery/state"
	"orrery/state/module/moduletest"
)

func target(t *testing.T, name string) state.Target {
	t.Helper()
	return state.Target{Component: state.Component{Name: name, Container: "echo"}, Directory: t.TempDir()}
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{Module: NewEcho(nil), NewTarget: target, Bad: []state.Properties{{"message": 3}}})
	moduletest.Run(t, moduletest.Harness{Module: Noop{}, NewTarget: target})
}

func TestEcho(t *testing.T) {
	var log bytes.Buffer
	e := NewEcho(slog.New(slog.NewTextHandler(&log, nil)))
	at := target(t, "hello")
	at.Component.Properties = state.Properties{"message": "first light"}
	if err := e.Activate(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, `operation=activate component=echo/hello message="first light"`) {
		t.Error(got)
	}
}
