package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
)

// count is a program that notes in a file that it was started, and ends when another file is there.
func count(file, end, status string) int {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString("x")
		err = errors.Join(err, f.Close())
	}
	n, parsed := strconv.Atoi(status)
	if errors.Join(err, parsed) != nil {
		return 99
	}
	for {
		if _, err := os.Stat(end); err == nil {
			return n
		}
		<-time.After(10 * time.Millisecond)
	}
}

// of is the manager and the program of a target.
func (w world) of(t *testing.T, target state.Target) (server, spec) {
	t.Helper()
	s, err := prepare(target, true)
	must(t, err)
	v, err := w.module.engine.open(target.Container)
	must(t, err)
	return v, s
}

// What was placed when the node was killed is taken up by the next activation, or taken away.
func (w world) halfPlaced(t *testing.T) {
	t.Helper()
	target := w.target(t, "half-placed")
	v, s := w.of(t, target)
	for _, goesOn := range []bool{true, false} {
		must(t, os.MkdirAll(target.Directory, 0o755))
		it, err := v.item(s)
		must(t, err)
		if _, err := it.place(target.Directory); err != nil {
			t.Fatal(err)
		}
		must(t, os.WriteFile(temporary(it.files[0].path), []byte("cut off"), 0o600))
		if goesOn {
			must(t, w.module.Activate(t.Context(), target))
			must(t, w.module.Health(t.Context(), target))
		}
		must(t, w.module.Deactivate(t.Context(), target))
		w.nothingLeft(t, target)
	}
}

// An activation that is given up while it waits leaves neither a program nor a definition.
func (w world) cancelled(t *testing.T) {
	t.Helper()
	target := w.target(t, "given-up")
	target.Component.Properties["command"] = []string{"/bin/sleep", "1000.5"} // which listens nowhere
	v, s := w.of(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.module.Activate(ctx, target) }()
	testenv.Eventually(t, "the program runs", func() bool { return v.status(t.Context(), s) == nil })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.nothingLeft(t, target)
	if pid := running("/bin/sleep\x001000.5\x00", target); pid != "" {
		t.Errorf("process %s still runs", pid)
	}
}

// A program that does not end by itself is killed, with a client connected.
func (w world) stubborn(t *testing.T) {
	t.Helper()
	target := w.target(t, "stubborn")
	target.Component.Properties["command"] = []string{self(t), "stubborn"}
	target.Component.Properties["stopTimeout"] = "1s"
	must(t, w.module.Activate(t.Context(), target))
	client, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", target.Component.Properties["port"]))
	must(t, err)
	must(t, w.module.Deactivate(t.Context(), target))
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("it still speaks")
	}
	must(t, client.Close())
	w.nothingLeft(t, target)
	if running(self(t)+"\x00stubborn\x00", target) != "" {
		t.Error("it still runs")
	}
}

// Programs that end are started again as the property says.
func (w world) restarts(t *testing.T) {
	t.Helper()
	type one struct {
		restart string
		status  int
		again   bool
		target  state.Target
		file    string
	}
	all := []*one{
		{restart: restartAlways, status: 0, again: true},
		{restart: restartAlways, status: 1, again: true},
		{restart: restartOnFailure, status: 0},
		{restart: restartOnFailure, status: 1, again: true},
		{restart: restartNever, status: 1},
	}
	dir := t.TempDir()
	end := filepath.Join(dir, "end")
	var started sync.WaitGroup
	for i, o := range all {
		o.target, o.file = w.target(t, fmt.Sprint("restarts-", i)), filepath.Join(dir, fmt.Sprint(i))
		p := o.target.Component.Properties
		p["command"], p["ready"], p["restart"] = []string{self(t), "count", o.file, end, strconv.Itoa(o.status)}, "running", o.restart
		started.Go(func() {
			if err := w.module.Activate(t.Context(), o.target); err != nil {
				t.Error(err)
			}
		})
	}
	started.Wait()
	starts := func(o *one) int {
		content, err := os.ReadFile(o.file)
		if !errors.Is(err, fs.ErrNotExist) {
			must(t, err)
		}
		return len(content)
	}
	for _, o := range all {
		testenv.Eventually(t, o.restart+": it has begun", func() bool { return starts(o) == 1 })
	}
	must(t, os.WriteFile(end, nil, 0o600))
	for _, o := range all {
		if o.again {
			testenv.Eventually(t, o.restart+" starts it again", func() bool { return starts(o) > 1 })
		} else {
			testenv.Eventually(t, o.restart+": it has ended", func() bool { return w.module.Health(t.Context(), o.target) != nil })
		}
	}
	for _, o := range all {
		if n := starts(o); n > 1 != o.again {
			t.Errorf("%s after status %d: started %d times", o.restart, o.status, n)
		}
	}
}

// stopped are containers of managers that do not run, whose folders are there.
func stopped(t *testing.T) map[string]state.Properties {
	t.Helper()
	dir := folders(t, "a")
	folder := filepath.Join(dir, "a")
	config := filepath.Join(dir, "supervisord.conf")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "[supervisorctl]\nserverurl=unix://%s/sock\nusername=u\npassword=sesame\n", dir), 0o600))
	return map[string]state.Properties{
		"supervisord-program": {"supervisordTargetDir": folder, "config": config},
		"s6-service":          {"scanDir": folder},
		"runit-service":       {"serviceDir": folder},
		"xinetd-service":      {"xinetdTargetDir": folder, "xinetdPidFile": filepath.Join(dir, "pid")},
	}
}

// A manager that does not run is an error that says so, and no definition is left for when it does.
func TestStoppedManager(t *testing.T) {
	t.Parallel()
	for name, container := range stopped(t) {
		t.Run(name, func(t *testing.T) {
			w := world{module: module(t, name), container: container}
			folder := ""
			for key, value := range container {
				if strings.HasSuffix(key, "Dir") {
					folder = value.(string)
				}
			}
			target := w.target(t, "stopped")
			target.Component.Properties["readyTimeout"] = "200ms"
			t.Cleanup(func() { must(t, os.RemoveAll(target.Directory)) }) // what would be tried again
			err := w.module.Activate(t.Context(), target)
			if !errors.Is(err, state.ErrUnreachable) || strings.Contains(err.Error(), "sesame") {
				t.Error(err)
			}
			if left := listing(t, folder); left != "" {
				t.Errorf("left: %s", left)
			}
			if err := w.module.Health(t.Context(), target); err == nil {
				t.Error("it is well")
			}
			must(t, os.RemoveAll(target.Directory))
		})
	}
}

// A password that supervisord does not take is an error that does not tell it.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	w := worlds["supervisord-program"](t)
	w.module = module(t, "supervisord-program")
	right, err := os.ReadFile(w.container["config"].(string))
	must(t, err)
	wrong := filepath.Join(t.TempDir(), "supervisorctl.conf")
	must(t, os.WriteFile(wrong, []byte(strings.ReplaceAll(string(right), "sesame", "hush-hush")), 0o600))
	target := w.target(t, "password")
	target.Container.Properties = state.Properties{"supervisordTargetDir": w.folder, "config": wrong}
	if err := w.module.Activate(t.Context(), target); !errors.Is(err, state.ErrUnreachable) || strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "sesame") {
		t.Error(err)
	}
	if left := listing(t, w.folder); left != "" {
		t.Errorf("left: %s", left)
	}
	target.Container.Properties = w.container
	must(t, w.module.Activate(t.Context(), target))
}

// A client of a manager that is not installed is said before anything is placed.
func TestMissingProgram(t *testing.T) {
	before := programFolders
	programFolders = []string{t.TempDir()}
	defer func() { programFolders = before }()
	for _, m := range New(Config{}) {
		name := m.Describe().Name
		if name == "xinetd-service" { // it has none
			continue
		}
		folder := t.TempDir()
		container := state.Properties{}
		for _, p := range m.Describe().Container {
			if strings.HasSuffix(p.Name, "Dir") {
				container[p.Name] = folder
			}
		}
		target := state.Target{
			Component: state.Component{Name: "x", Module: name, Container: name, Properties: state.Properties{"command": []string{"/bin/true"}, "user": "nobody"}},
			Container: state.Container{Name: name, Properties: container}, Directory: t.TempDir(),
		}
		if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "install") {
			t.Errorf("%s: %v", name, err)
		}
		if left := listing(t, folder) + listing(t, target.Directory); left != "" {
			t.Errorf("%s: left: %s", name, left)
		}
		must(t, m.Deactivate(t.Context(), target))
	}
}

// Names and texts that could mean something to a manager or a shell are refused.
func TestHostileNames(t *testing.T) {
	m := module(t, "sysvinit-script")
	for _, name := range []string{"..", ".hidden", "-x", "a/b", "a b", "a\nb", "a\x00", "a;b", "$x", "%n", "a@b", "\xff", "é", strings.Repeat("x", 129)} {
		for _, property := range []string{"name", "user"} {
			c := state.Component{Name: "x", Properties: state.Properties{"command": []string{"/bin/true"}, property: name}}
			if err := m.Check(c); !errors.Is(err, state.ErrBadProperty) {
				t.Errorf("%s %q: %v", property, name, err)
			}
		}
	}
	for property, value := range map[string]any{
		"environment": map[string]string{"A": "\x00"}, "directory": "/a\x00b", "command": []string{"/bin/true", "\x00"}, "ready": "http:x", "port": -1, "readyTimeout": "soon",
	} {
		p := state.Properties{"command": []string{"/bin/true"}}
		p[property] = value
		if err := m.Check(state.Component{Name: "x", Properties: p}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%s %q: %v", property, value, err)
		}
	}
}

// A client of a service of xinetd is cut off when the service is taken away.
func TestXinetdClient(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	w := worlds["xinetd-service"](t)
	w.module, w.command = module(t, "xinetd-service"), []string{"/bin/cat"}
	target := w.target(t, "client")
	must(t, w.module.Activate(t.Context(), target))
	client, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", target.Component.Properties["port"]))
	must(t, err)
	_, err = client.Write([]byte("x"))
	must(t, err)
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	must(t, w.module.Deactivate(t.Context(), target))
	must(t, client.SetReadDeadline(time.Now().Add(time.Minute)))
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	must(t, client.Close())
	w.nothingLeft(t, target)
}

// A section that supervisord does not accept is taken away again, so that it takes up others.
func TestBadSection(t *testing.T) {
	t.Parallel()
	w := worlds["supervisord-program"](t)
	w.module = module(t, "supervisord-program")
	target := w.target(t, "bad")
	section := filepath.Join(t.TempDir(), "section")
	must(t, os.WriteFile(section, []byte("[program:bad]\nstartsecs=soon\ncommand=/bin/true\n"), 0o600))
	target.Component.Properties = state.Properties{"definition": section}
	if err := w.module.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "ERROR: CANT_REREAD") || !strings.Contains(err.Error(), "soon") {
		t.Error(err)
	}
	w.nothingLeft(t, target)
	must(t, w.module.Activate(t.Context(), w.target(t, "good")))
}
