package process

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

// supervise is the helper that supervises one component.
func supervise(directory string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Supervise(ctx, Config{}, directory); err != nil {
		return 1
	}
	return 0
}

func newDetached() *Detached {
	return NewDetached(Config{}, []string{os.Args[0], "helper", "supervise"})
}

// detachedTarget is a component that is deactivated when the test ends.
func detachedTarget(t *testing.T, p state.Properties) state.Target {
	t.Helper()
	at := target(t, p)
	t.Cleanup(func() {
		if err := newDetached().Deactivate(context.WithoutCancel(t.Context()), at); err != nil {
			t.Error(err)
		}
	})
	return at
}

func TestDetachedConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: newDetached(),
		NewTarget: func(t *testing.T, name string) state.Target {
			t.Helper()
			at := detachedTarget(t, state.Properties{"command": command("serve")})
			at.Component.Name = name
			return at
		},
		Bad: []state.Properties{{}, {"command": []string{"relative"}}},
	})
}

func pidOf(t *testing.T, m state.Exporter, at state.Target) int {
	t.Helper()
	values, err := m.Exports(at)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(values["pid"])
	if err != nil {
		return 0
	}
	return pid
}

func TestDetachedLife(t *testing.T) {
	ctx, m := t.Context(), newDetached()
	at := detachedTarget(t, state.Properties{"command": command("serve")})
	if err := m.Activate(ctx, at); err != nil {
		t.Fatal(err)
	}
	first := pidOf(t, m, at)
	// Another command finds it, and leaves it alone.
	m = newDetached()
	if err := m.Activate(ctx, at); err != nil {
		t.Fatal(err)
	}
	if got := pidOf(t, m, at); got != first || first == 0 {
		t.Errorf("process %d became %d", first, got)
	}
	// It is started again when it ends.
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the process is started again", func() bool {
		pid := pidOf(t, m, at)
		return pid != 0 && pid != first && m.Health(ctx, at) == nil
	})
	// Other properties are another process.
	at.Component.Properties = state.Properties{"command": command("serve"), "environment": map[string]any{"NEW": "yes"}}
	second := pidOf(t, m, at)
	if err := m.Activate(ctx, at); err != nil {
		t.Fatal(err)
	}
	third := pidOf(t, m, at)
	if third == second || third == 0 || syscall.Kill(second, 0) == nil {
		t.Errorf("process %d became %d", second, third)
	}
	// A node takes over: there is one process, which is its own.
	node := newModule(t)
	if err := node.Activate(ctx, at); err != nil {
		t.Fatal(err)
	}
	if there, err := supervised(at.Directory); err != nil || there || syscall.Kill(third, 0) == nil {
		t.Errorf("the supervisor still runs: %v, %v", there, err)
	}
	if err := node.Deactivate(ctx, at); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(ctx, at); err == nil {
		t.Error("what does not run is well")
	}
}

func TestDetachedFailure(t *testing.T) {
	ctx, m := t.Context(), newDetached()
	at := detachedTarget(t, state.Properties{"command": command("fail"), "port": "none", "ready": "none", "restart": "never"})
	at.Component.Properties = state.Properties{"command": command("fail")}
	if err := m.Activate(ctx, at); err == nil || !strings.Contains(err.Error(), "no such table: planets") {
		t.Errorf("a process that ends: %v", err)
	}
	if there, err := supervised(at.Directory); err != nil || there {
		t.Errorf("a supervisor stayed: %v, %v", there, err)
	}
	// A supervisor that is killed takes the process along, and the next activation starts both.
	at.Component.Properties = state.Properties{"command": command("serve")}
	if err := m.Activate(ctx, at); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, m, at)
	text, err := os.ReadFile(filepath.Join(runDirectory(at.Directory), fileSupervisor))
	if err != nil {
		t.Fatal(err)
	}
	leader, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(leader, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the supervisor is gone", func() bool {
		there, err := supervised(at.Directory)
		return err == nil && !there
	})
	if err := m.Activate(ctx, at); err != nil {
		t.Fatal(err)
	}
	if got := pidOf(t, m, at); got == pid || got == 0 {
		t.Errorf("process %d became %d", pid, got)
	}
}
