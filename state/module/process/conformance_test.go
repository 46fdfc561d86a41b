package process

import (
	"testing"

	"orrery/state"
	"orrery/state/module/moduletest"
)

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: newModule(t),
		NewTarget: func(t *testing.T, name string) state.Target {
			t.Helper()
			at := target(t, state.Properties{"command": command("serve")})
			at.Component.Name = name
			return at
		},
		Bad: []state.Properties{{}, {"command": []string{"relative"}}},
	})
}
