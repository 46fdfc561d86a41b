// Package nixos is the module nixos-configuration: a component is the configuration of the whole machine, a NixOS
// system closure.
//
// Activation sets the system's profile to the closure and runs its switch-to-configuration; where that fails, the
// profile goes back and the configuration before is switched to. Deactivation goes back to the configuration from before the
// first activation. The state of what runs on the machine is that of other components.
package nixos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"orrery/internal/command"
	"orrery/state"
)

// Module drives configurations of NixOS. It is safe for concurrent use.
type Module struct{}

var (
	_ state.Exporter = Module{}
	_ state.Doctor   = Module{}
)

type properties struct {
	Configuration string `json:"configuration"`
	Test          bool   `json:"testNixOS"`
}

type container struct {
	Profile     string            `json:"profile"`
	Environment map[string]string `json:"environment"`
}

// Describe implements state.Module.
func (Module) Describe() state.Description {
	return state.Description{
		Name: "nixos-configuration",
		Doc:  "The configuration of the whole machine: a NixOS system closure that the system's profile is set to and that is switched to. What fails is rolled back.",
		Properties: []state.Property{
			{Name: "configuration", Type: "string", Required: true, Doc: "The closure: an absolute path in the Nix store of this machine, with bin/switch-to-configuration in it."},
			{Name: "testNixOS", Type: "bool", Default: "false", Doc: "Run switch-to-configuration test, which leaves the boot loader as it is, instead of switch."},
		},
		Container: []state.Property{
			{Name: "profile", Type: "string", Default: "/nix/var/nix/profiles/system", Doc: "The profile that is set; none leaves the profile alone."},
			{Name: "environment", Type: "map[string]string", Doc: "Variables of nix-env and switch-to-configuration, such as NIX_REMOTE."},
		},
		Exports: []state.Property{{Name: "configuration", Type: "string", Doc: "The closure."}},
	}
}

func decode(c state.Component) (properties, error) {
	var p properties
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	if !filepath.IsAbs(p.Configuration) && !strings.HasPrefix(p.Configuration, "${") {
		return p, fmt.Errorf("%w: configuration %q is not an absolute path", state.ErrBadProperty, p.Configuration)
	}
	return p, nil
}

// Check implements state.Module.
func (Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// system is the machine that is configured.
type system struct {
	properties
	container
	directory string
}

// before is the file that says which configuration was there before the first activation; empty: none.
func (s system) before() string { return filepath.Join(s.directory, "before") }

// now is the file that says which configuration was last switched to completely.
func (s system) now() string { return filepath.Join(s.directory, "configuration") }

func (Module) with(ctx context.Context, t state.Target, what string, do func(system) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := system{container: container{Profile: "/nix/var/nix/profiles/system"}, directory: t.Directory}
	err := t.Container.Properties.Decode(&s.container)
	if err == nil && s.Profile != "none" && !filepath.IsAbs(s.Profile) {
		err = fmt.Errorf("container %s: %w: profile %q is not an absolute path", t.Container.Name, state.ErrBadProperty, s.Profile)
	}
	if err == nil {
		s.properties, err = decode(t.Component)
	}
	if err == nil {
		err = do(s)
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}

func script(configuration string) string {
	return filepath.Join(configuration, "bin", "switch-to-configuration")
}

// Activate implements state.Module. A configuration that was switched to and is in the profile is left alone.
func (m Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "switch to", func(s system) error {
		if info, err := os.Stat(script(s.Configuration)); err != nil || info.Mode()&0o111 == 0 {
			return errors.Join(fmt.Errorf("%w: %s is no NixOS configuration (it has no program bin/switch-to-configuration)", state.ErrBadProperty, s.Configuration), err)
		}
		if s.holds() == nil {
			return nil
		}
		previous, err := s.profile()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(s.directory, 0o700); err != nil {
			return err
		}
		if _, err := os.Stat(s.before()); errors.Is(err, fs.ErrNotExist) {
			if err := write(s.before(), previous); err != nil {
				return err
			}
		}
		if err := s.apply(ctx, s.Configuration); err != nil {
			return errors.Join(err, s.back(context.WithoutCancel(ctx), previous))
		}
		return write(s.now(), s.Configuration)
	})
}

// holds says whether the configuration was switched to and is in the profile.
func (s system) holds() error {
	last, err := os.ReadFile(s.now())
	if err != nil || string(last) != s.Configuration {
		return state.ErrInactive
	}
	now, err := s.profile()
	if err == nil && s.Profile != "none" && now != resolve(s.Configuration) {
		err = fmt.Errorf("profile %s is at %s", s.Profile, now)
	}
	return err
}

func resolve(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// profile is the configuration that the profile is at; empty if there is none.
func (s system) profile() (string, error) {
	if s.Profile == "none" {
		content, err := os.ReadFile(s.now())
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return string(content), err
	}
	path, err := filepath.EvalSymlinks(s.Profile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, err
}

// apply sets the profile and switches.
func (s system) apply(ctx context.Context, configuration string) error {
	if s.Profile != "none" {
		path, err := nixEnv()
		if err != nil {
			return err
		}
		if err := s.run(ctx, path, "--profile", s.Profile, "--set", configuration); err != nil {
			return err
		}
	}
	action := "switch"
	if s.Test {
		action = "test"
	}
	return s.run(ctx, script(configuration), action)
}

// back goes to the configuration from before a failure.
func (s system) back(ctx context.Context, previous string) error {
	if previous == "" || previous == resolve(s.Configuration) {
		return os.RemoveAll(s.before())
	}
	if err := s.apply(ctx, previous); err != nil {
		return fmt.Errorf("the configuration before, %s, cannot be switched to either: %w", previous, err)
	}
	return nil
}

func nixEnv() (string, error) {
	for _, path := range []string{"/run/current-system/sw/bin/nix-env", "/nix/var/nix/profiles/default/bin/nix-env", "/usr/bin/nix-env"} {
		if found, err := exec.LookPath(path); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("nix-env: %w (install Nix)", state.ErrNotFound)
}

func (s system) run(ctx context.Context, path string, args ...string) error {
	env := []string{"PATH=/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "NIXOS_INSTALL_BOOTLOADER=0"}
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		env = append(env, name+"="+s.Environment[name])
	}
	return command.Program{Path: path, Args: args, Env: env}.Run(ctx)
}

// Deactivate implements state.Module: back to the configuration from before the first activation, if there was one.
func (m Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "switch back from", func(s system) error {
		content, err := os.ReadFile(s.before())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if previous := string(content); previous != "" {
			if err := s.apply(ctx, previous); err != nil {
				return err
			}
		}
		return errors.Join(os.RemoveAll(s.now()), os.Remove(s.before()))
	})
}

// Health implements state.Doctor.
func (m Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(s system) error { return s.holds() })
}

// Exports implements state.Exporter.
func (Module) Exports(t state.Target) (map[string]string, error) {
	p, err := decode(t.Component)
	return map[string]string{"configuration": p.Configuration}, err
}

// write replaces a small file.
func write(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
