package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// program is what runs in containers.
const program = `package main

import (
	"net"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	c := make(chan os.Signal, 1)
	switch os.Args[1] {
	case "fail":
		os.Exit(3)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		signal.Notify(c, syscall.SIGUSR1) // without any the runtime takes it for a deadlock
	case "listen":
		if _, err := net.Listen("tcp", os.Args[2]); err != nil {
			os.Exit(4)
		}
		signal.Notify(c, syscall.SIGTERM)
	default:
		signal.Notify(c, syscall.SIGTERM)
	}
	<-c
}
`

// podman returns the options of a storage of its own, with the image localhost/orrery-test:1.
func podman(t *testing.T) (path string, options []string) {
	t.Helper()
	path = testenv.Need(t, "podman", "apt-get install podman", "/usr/bin/podman")
	runtime := testenv.Need(t, "runc", "apt-get install runc", "/usr/sbin/runc") // it starts containers where crun refuses the kernel's cgroups
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	dir := t.TempDir()
	options = []string{"--root=" + filepath.Join(dir, "root"), "--runroot=" + filepath.Join(dir, "run"), "--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=" + runtime}
	source, image := filepath.Join(dir, "main.go"), filepath.Join(dir, "image.tar")
	must(t, os.WriteFile(source, []byte(program), 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "program"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{
		build, exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", image, "program"),
		exec.CommandContext(t.Context(), path, append(slices.Clone(options), "import", image, testImage)...),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", cmd.Args, err, out)
		}
	}
	return path, options
}

const testImage = "localhost/orrery-test:1"

func targets(path string, options []string) func(t *testing.T, name string) state.Target {
	return func(t *testing.T, name string) state.Target {
		t.Helper()
		target := state.Target{
			Component: state.Component{Name: name, Container: "docker", Properties: state.Properties{
				"image": testImage, "command": []string{"/program", "wait"}, "stopTimeout": "10s",
				// Limits that are not raised, which needs a right that a container around the test has not.
				"options": []string{"--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"},
			}},
			Container: state.Container{Name: "docker", Properties: state.Properties{"program": path, "options": options}}, Directory: t.TempDir(),
		}
		t.Cleanup(func() { must(t, Module{}.Deactivate(context.WithoutCancel(t.Context()), target)) })
		return target
	}
}

const odd = "a b'c\"d$e {{f}} \\g\nh é"

func TestPodman(t *testing.T) {
	newTarget := targets(podman(t))
	created(t, newTarget(t, "created"))
	foreign(t, newTarget(t, "foreign"))
	target := newTarget(t, "first")
	err := Module{}.Activate(t.Context(), target)
	if err == nil {
		moduletest.Run(t, moduletest.Harness{Module: Module{}, NewTarget: newTarget, Bad: []state.Properties{{}, {"image": "-x"}, {"image": "x", "options": []string{"x"}}}})
		t.Run("Life", func(t *testing.T) { life(t, newTarget(t, "life@blue")) })
		t.Run("Failures", func(t *testing.T) { failures(t, newTarget) })
		t.Run("Archive", func(t *testing.T) { archive(t, newTarget(t, "archive")) })
		return
	}
	// Where the kernel does not let containers start, what was made for it must be gone.
	if !strings.Contains(err.Error(), "OCI") {
		t.Fatal(err)
	}
	t.Logf("no container can be started on this machine: %v", err)
	must(t, Module{}.with(t.Context(), target, "look", func(b box) error {
		if now, err := b.inspect(t.Context()); err != nil || now.exists {
			t.Errorf("left: %+v, %v", now, err)
		}
		return nil
	}))
	if err := (Module{}).Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
}

// created makes a container and looks at what it was made of.
func created(t *testing.T, target state.Target) {
	t.Helper()
	target.Component.Properties["command"] = []string{"/program", odd, "--flag", ""}
	target.Component.Properties["environment"] = map[string]string{"ODD": odd, "PATH": "/x"}
	must(t, Module{}.with(t.Context(), target, "make", func(b box) error {
		image, err := b.load(t.Context())
		must(t, err)
		digest, err := b.digest(image)
		must(t, err)
		must(t, b.create(t.Context(), digest))
		now, err := b.inspect(t.Context())
		must(t, err)
		if !now.exists || now.running || now.made != digest {
			t.Errorf("%+v", now)
		}
		out, err := b.call(t.Context(), nil, "container", "inspect", "--format", "{{json .Config}}", b.Name)
		must(t, err)
		var config struct{ Cmd, Env []string }
		must(t, json.Unmarshal([]byte(out), &config))
		if !slices.Equal(config.Cmd, []string{"/program", odd, "--flag", ""}) || !slices.Contains(config.Env, "ODD="+odd) || !slices.Contains(config.Env, "PATH=/x") {
			t.Errorf("%q", config)
		}
		if err := b.ready(t.Context()); err == nil {
			t.Error("a container that was not started is ready")
		}
		return nil
	}))
	for range 2 {
		must(t, Module{}.Deactivate(t.Context(), target))
	}
}

// foreign has somebody else's container under the name.
func foreign(t *testing.T, target state.Target) {
	t.Helper()
	must(t, Module{}.with(t.Context(), target, "make", func(b box) error {
		_, err := b.call(t.Context(), nil, "create", "--name", "foreign", "--network=none", b.Image, "/program")
		must(t, err)
		if err := (Module{}).Activate(t.Context(), target); !errors.Is(err, state.ErrInUse) {
			t.Error(err)
		}
		must(t, Module{}.Deactivate(t.Context(), target))
		_, err = b.call(t.Context(), nil, "rm", "foreign")
		return err
	}))
}

// run is a container as the engine has it.
func run(t *testing.T, target state.Target) (pid int, id string) {
	t.Helper()
	must(t, Module{}.with(t.Context(), target, "look", func(b box) error {
		out, err := b.call(t.Context(), nil, "container", "inspect", "--format", "{{.State.Pid}} {{.Id}}", b.Name)
		must(t, err)
		_, err = fmt.Sscan(out, &pid, &id)
		return err
	}))
	return pid, id
}

// none says whether there is no container of the component.
func none(t *testing.T, target state.Target) {
	t.Helper()
	must(t, Module{}.with(t.Context(), target, "look", func(b box) error {
		if now, err := b.inspect(t.Context()); err != nil || now.exists {
			t.Errorf("%s is there: %+v, %v", target.Component.Name, now, err)
		}
		return nil
	}))
}

// life follows one container: a second activation, a crash, other properties, and its end with a client connected.
func life(t *testing.T, target state.Target) {
	t.Helper()
	port := testenv.FreePort(t)
	p := target.Component.Properties
	p["port"] = port
	p["command"] = []string{"/program", "listen", fmt.Sprint("127.0.0.1:", port)}
	p["options"] = append([]string{"--network=host"}, p["options"].([]string)[1:]...)
	m := Module{}
	must(t, m.Activate(t.Context(), target))
	pid, id := run(t, target)
	must(t, m.Activate(t.Context(), target))
	if again, same := run(t, target); again != pid || same != id {
		t.Errorf("a second activation made process %d of %s, it was %d of %s", again, same, pid, id)
	}
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	testenv.Eventually(t, "the container is not well", func() bool { return m.Health(t.Context(), target) != nil })
	must(t, m.Activate(t.Context(), target))
	if again, same := run(t, target); again == pid || same != id {
		t.Errorf("process %d of %s, it was %d of %s", again, same, pid, id)
	}
	p["environment"] = map[string]string{"NEW": "1"}
	must(t, m.Activate(t.Context(), target))
	if _, other := run(t, target); other == id {
		t.Error("other properties, the same container")
	}
	conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
	must(t, err)
	for range 2 {
		must(t, m.Deactivate(t.Context(), target))
	}
	none(t, target)
	must(t, conn.Close())
}

// failures leave no container behind.
func failures(t *testing.T, newTarget func(t *testing.T, name string) state.Target) {
	t.Helper()
	m := Module{}
	for name, change := range map[string]func(p state.Properties){
		"ends":     func(p state.Properties) { p["command"] = []string{"/program", "fail"} },
		"missing":  func(p state.Properties) { p["command"] = []string{"/no/such/program"} },
		"option":   func(p state.Properties) { p["options"] = []string{"--no-such-option"} },
		"no-image": func(p state.Properties) { p["image"] = "localhost/no-such-image:1" },
		"silent":   func(p state.Properties) { p["port"] = testenv.FreePort(t) },
	} {
		target := newTarget(t, name)
		target.Component.Properties["readyTimeout"] = "1s"
		change(target.Component.Properties)
		if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "docker/"+name) {
			t.Errorf("%s: %v", name, err)
		}
		none(t, target)
		if err := m.Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cancelled(t, newTarget(t, "cancelled-meanwhile"))
	stubborn := newTarget(t, "stubborn")
	stubborn.Component.Properties["command"] = []string{"/program", "stubborn"}
	stubborn.Component.Properties["stopTimeout"] = "1s"
	must(t, m.Activate(t.Context(), stubborn))
	must(t, m.Deactivate(t.Context(), stubborn))
	none(t, stubborn)
}

// cancelled activates what never becomes ready and gives it up when it runs.
func cancelled(t *testing.T, target state.Target) {
	t.Helper()
	target.Component.Properties["port"] = testenv.FreePort(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Module{}.Activate(ctx, target) }()
	testenv.Eventually(t, "the container runs", func() bool {
		running := false
		err := Module{}.with(t.Context(), target, "look", func(b box) error {
			now, err := b.inspect(t.Context())
			running = now.running
			return err
		})
		return err == nil && running
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	none(t, target)
}

// archive has the image only in a file.
func archive(t *testing.T, target state.Target) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	const other = "localhost/orrery-other:1"
	must(t, Module{}.with(t.Context(), target, "save", func(b box) error {
		for _, args := range [][]string{{"tag", testImage, other}, {"save", "--output", file, other}, {"untag", testImage, other}} {
			if _, err := b.call(t.Context(), nil, args...); err != nil {
				return err
			}
		}
		return nil
	}))
	p := target.Component.Properties
	p["image"] = other
	if err := (Module{}).Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("without the image: %v", err)
	}
	broken := filepath.Join(t.TempDir(), "broken.tar")
	must(t, os.WriteFile(broken, []byte("no archive"), 0o600))
	p["archive"] = broken
	if err := (Module{}).Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "cannot load the image") {
		t.Errorf("a broken archive: %v", err)
	}
	none(t, target)
	p["archive"] = file
	must(t, Module{}.Activate(t.Context(), target))
	must(t, Module{}.Health(t.Context(), target))
}

// A service that does not answer is an error that says so.
func TestUnreachable(t *testing.T) {
	path := testenv.Need(t, "podman", "apt-get install podman", "/usr/bin/podman")
	at := state.Target{
		Component: state.Component{Name: "x", Container: "docker", Properties: state.Properties{"image": "x"}},
		Container: state.Container{Properties: state.Properties{"program": path, "options": []string{"--remote", "--url=unix:///no/such/socket"}}},
	}
	m := Module{}
	for name, err := range map[string]error{"activate": m.Activate(t.Context(), at), "deactivate": m.Deactivate(t.Context(), at), "health": m.Health(t.Context(), at)} {
		if !errors.Is(err, state.ErrUnreachable) || !strings.Contains(err.Error(), "docker/x") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissing(t *testing.T) {
	at := state.Target{Component: state.Component{Name: "x", Properties: state.Properties{"image": "x"}}, Container: state.Container{Properties: state.Properties{"program": "/no/such"}}}
	if err := (Module{}).Activate(t.Context(), at); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	for _, p := range []state.Properties{
		{},
		{"image": "-x"},
		{"image": "x y"},
		{"image": "x\n"},
		{"image": strings.Repeat("x", 257)},
		{"image": "x", "options": []string{"x"}},
		{"image": "x", "options": []string{""}},
		{"image": "x", "environment": map[string]string{"a b": ""}},
		{"image": "x", "environment": map[string]string{"A": "\x00"}},
		{"image": "x", "name": "-x"},
		{"image": "x", "name": "a/b"},
		{"image": "x", "name": "a\nb"},
		{"image": "x", "port": 65536},
		{"image": "x", "archive": "relative"},
	} {
		if err := (Module{}).Check(state.Component{Name: "x", Properties: p}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", p, err)
		}
	}
}
