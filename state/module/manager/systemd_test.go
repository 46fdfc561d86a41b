package manager

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

// image is a system that does not run, with a folder for units.
func image(t *testing.T) (w world, root string) {
	t.Helper()
	testenv.Need(t, "systemctl", "apt-get install systemd", "/usr/bin/systemctl", "/bin/systemctl")
	testenv.Need(t, "systemd-analyze", "apt-get install systemd", "/usr/bin/systemd-analyze")
	root = folders(t, "etc/systemd/system")
	return world{
		module: module(t, "systemd-unit"), container: state.Properties{"root": root}, folder: filepath.Join(root, "etc/systemd/system"),
		command: []string{"/bin/sleep", "1000"},
	}, root
}

func (w world) atRest(t *testing.T, name string) state.Target {
	t.Helper()
	target := w.target(t, name)
	target.Component.Properties["ready"] = "running"
	return target
}

// Systemd does not run where tests do: units are placed into an image, verified and enabled by its own tools.
func TestSystemd(t *testing.T) {
	w, _ := image(t)
	moduletest.Run(t, moduletest.Harness{Module: w.module, NewTarget: w.atRest})
	target := w.atRest(t, "sleeper")
	p := target.Component.Properties
	p["command"] = []string{"/bin/sleep", odd}
	p["environment"] = map[string]string{"ODD": odd}
	p["user"], p["restart"], p["stopTimeout"] = "nobody", "on-failure", "1500ms"
	must(t, w.module.Activate(t.Context(), target))
	content, err := os.ReadFile(filepath.Join(w.folder, "sleeper.service"))
	must(t, err)
	for _, want := range []string{
		`ExecStart="/bin/sleep" "a b'c\"d$$e %%f \\g ;h {self} é"`, `Environment="ODD=a b'c\"d$e %%f \\g ;h {self} é"`,
		"User=nobody", "Restart=on-failure", "TimeoutStopSec=1500ms",
	} {
		if !strings.Contains(string(content), want+"\n") {
			t.Errorf("no line %s in\n%s", want, content)
		}
	}
	wants := filepath.Join(w.folder, "multi-user.target.wants")
	if _, err := os.Lstat(filepath.Join(wants, "sleeper.service")); err != nil {
		t.Errorf("not enabled: %v", err)
	}
	must(t, w.module.Deactivate(t.Context(), target))
	if left := listing(t, w.folder); left != "" {
		t.Errorf("left: %s", left)
	}
}

// A unit that systemd-analyze does not accept is taken away again.
func TestBadUnit(t *testing.T) {
	w, root := image(t)
	unit := filepath.Join(root, "bad")
	must(t, os.WriteFile(unit, []byte("[Service]\nExecStart=/bin/sleep 1\nRestrat=always\n[Install]\nWantedBy=multi-user.target\n"), 0o600))
	target := w.atRest(t, "bad")
	delete(target.Component.Properties, "command")
	target.Component.Properties["definition"] = unit
	if err := w.module.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "Restrat") {
		t.Error(err)
	}
	if left := listing(t, w.folder); left != "" {
		t.Errorf("left: %s", left)
	}
	target.Component.Properties = state.Properties{"command": []string{"/bin/sleep", "line\nbreak"}}
	if err := w.module.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}
