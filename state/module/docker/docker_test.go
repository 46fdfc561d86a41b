package docker

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// podman returns the options of a storage of its own, with the image localhost/orrery-test:1 of a program that sleeps.
func podman(t *testing.T) (program string, options []string) {
	t.Helper()
	program = testenv.Need(t, "podman", "apt-get install podman", "/usr/bin/podman")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	dir := t.TempDir()
	options = []string{"--root=" + filepath.Join(dir, "root"), "--runroot=" + filepath.Join(dir, "run"), "--storage-driver=vfs", "--cgroup-manager=cgroupfs"}
	source, image := filepath.Join(dir, "main.go"), filepath.Join(dir, "image.tar")
	must(t, os.WriteFile(source, []byte("package main\n\nimport (\n\t\"os\"\n\t\"os/signal\"\n\t\"syscall\"\n)\n\nfunc main() {\n\tc := make(chan os.Signal, 1)\n\tsignal.Notify(c, syscall.SIGTERM)\n\t<-c\n}\n"), 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "sleeper"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	for _, cmd := range []*exec.Cmd{
		build, exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", image, "sleeper"),
		exec.CommandContext(t.Context(), program, append(slices.Clone(options), "import", image, "localhost/orrery-test:1")...),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", cmd.Args, err, out)
		}
	}
	return program, options
}

func targets(program string, options []string) func(t *testing.T, name string) state.Target {
	return func(t *testing.T, name string) state.Target {
		t.Helper()
		target := state.Target{
			Component: state.Component{Name: name, Container: "docker", Properties: state.Properties{
				"image": "localhost/orrery-test:1", "command": []string{"/sleeper"}, "options": []string{"--network=none", "--ulimit=host"}, "stopTimeout": "1s",
			}},
			Container: state.Container{Name: "docker", Properties: state.Properties{"program": program, "options": options}}, Directory: t.TempDir(),
		}
		t.Cleanup(func() { must(t, Module{}.Deactivate(context.WithoutCancel(t.Context()), target)) })
		return target
	}
}

const odd = "a b'c\"d$e {{f}} \\g\nh é"

func TestPodman(t *testing.T) {
	program, options := podman(t)
	newTarget := targets(program, options)
	created(t, newTarget(t, "created"))
	foreign(t, newTarget(t, "foreign"))
	target := newTarget(t, "first")
	err := Module{}.Activate(t.Context(), target)
	if err == nil {
		moduletest.Run(t, moduletest.Harness{Module: Module{}, NewTarget: newTarget, Bad: []state.Properties{{}, {"image": "-x"}, {"image": "x", "options": []string{"x"}}}})
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
	target.Component.Properties["command"] = []string{"/sleeper", odd, "--flag", ""}
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
		if !slices.Equal(config.Cmd, []string{"/sleeper", odd, "--flag", ""}) || !slices.Contains(config.Env, "ODD="+odd) || !slices.Contains(config.Env, "PATH=/x") {
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
		_, err := b.call(t.Context(), nil, "create", "--name", "foreign", "--network=none", b.Image, "/sleeper")
		must(t, err)
		if err := (Module{}).Activate(t.Context(), target); !errors.Is(err, state.ErrInUse) {
			t.Error(err)
		}
		must(t, Module{}.Deactivate(t.Context(), target))
		_, err = b.call(t.Context(), nil, "rm", "foreign")
		return err
	}))
}

func TestMissing(t *testing.T) {
	at := state.Target{Component: state.Component{Name: "x", Properties: state.Properties{"image": "x"}}, Container: state.Container{Properties: state.Properties{"program": "/no/such"}}}
	if err := (Module{}).Activate(t.Context(), at); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	for _, p := range []state.Properties{{}, {"image": "-x"}, {"image": "x", "options": []string{"x"}}, {"image": "x", "environment": map[string]string{"a b": ""}}} {
		if err := (Module{}).Check(state.Component{Name: "x", Properties: p}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", p, err)
		}
	}
}
