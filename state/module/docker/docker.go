// Package docker is the module docker-container: a component is a container of Docker or Podman.
//
// The container is made from an image that is there or loaded from a file, labelled with the component and a digest of what it was made
// from, started, and waited for. It has no state of its own: its writable layer is thrown away when it is deactivated.
// State belongs into a fileset that is mounted (options: --volume). Values of its environment are not in arguments.
package docker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/internal/command"
	"orrery/state"
	"orrery/state/module/process"
)

// Module drives containers. It is safe for concurrent use.
type Module struct{}

var (
	_ state.Exporter = Module{}
	_ state.Doctor   = Module{}
)

type properties struct {
	Image        string            `json:"image"`
	Archive      string            `json:"archive"`
	Name         string            `json:"name"`
	Command      []string          `json:"command"`
	Environment  map[string]string `json:"environment"`
	Options      []string          `json:"options"`
	Port         int               `json:"port"`
	ReadyTimeout process.Duration  `json:"readyTimeout"`
	StopTimeout  process.Duration  `json:"stopTimeout"`
}

type engine struct {
	Program string   `json:"program"`
	Options []string `json:"options"`
}

// Describe implements state.Module.
func (Module) Describe() state.Description {
	return state.Description{
		Name: "docker-container",
		Doc:  "A container of Docker or Podman, made from an image and started. Its writable layer is not state and is thrown away at deactivation: mount a fileset for what is to stay. It is tested on Podman 4 and has not been tried on Docker itself.",
		Properties: []state.Property{
			{Name: "image", Type: "string", Required: true, Doc: "Name of the image with its tag. It must be there, or come from archive: nothing is pulled."},
			{Name: "archive", Type: "string", Doc: "A file that docker save wrote, usually ${file.NAME}; loaded if the image is not there."},
			{Name: "name", Type: "string", Doc: "Name of the container; by default the component's, with -- for @."},
			{Name: "command", Type: "[]string", Doc: "What is run instead of the image's own command."},
			{Name: "environment", Type: "map[string]string", Doc: "Variables of the container."},
			{Name: "options", Type: "[]string", Doc: "Further options of docker create, such as --network=host or --volume=..."},
			{Name: "port", Type: "int", Default: "0", Doc: "A port on 127.0.0.1 that accepts when the container is ready; 0: it is ready when it runs."},
			{Name: "readyTimeout", Type: "duration", Default: "1m", Doc: "How long it may take to become ready."},
			{Name: "stopTimeout", Type: "duration", Default: "10s", Doc: "How long it may take to stop before it is killed."},
		},
		Container: []state.Property{
			{Name: "program", Type: "string", Doc: "docker or podman, or an absolute path; by default the first of them that is installed."},
			{Name: "options", Type: "[]string", Doc: "Options before each command, such as --root=DIR."},
		},
		Exports: []state.Property{{Name: "name", Type: "string", Doc: "Name of the container."}},
	}
}

var (
	validName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	validImage = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./:@-]*$`)
	variable   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{state.ErrBadProperty}, args...)...)
}

func decode(c state.Component) (properties, error) {
	p := properties{
		Name:         strings.ReplaceAll(c.Name, "@", "--"),
		ReadyTimeout: process.Duration(time.Minute), StopTimeout: process.Duration(10 * time.Second),
	}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	switch {
	case (len(p.Image) > 256 || !validImage.MatchString(p.Image)) && !strings.HasPrefix(p.Image, "${"):
		return p, bad("image %q cannot name an image", p.Image)
	case p.Archive != "" && !filepath.IsAbs(p.Archive) && !strings.HasPrefix(p.Archive, "${"):
		return p, bad("archive %q is not an absolute path", p.Archive)
	case len(p.Name) > 128 || !validName.MatchString(p.Name):
		return p, bad("name %q has other characters than letters, digits, '.', '-' and '_'", p.Name)
	case p.Port < 0 || p.Port > 65535:
		return p, bad("port %d is not from 0 to 65535", p.Port)
	}
	for name, value := range p.Environment {
		if !variable.MatchString(name) || strings.ContainsRune(value, 0) {
			return p, bad("environment has a malformed variable %q", name)
		}
	}
	for _, option := range p.Options {
		if !strings.HasPrefix(option, "-") {
			return p, bad("option %q does not begin with a dash (write --option=value)", option)
		}
	}
	return p, nil
}

// Check implements state.Module.
func (Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// box is one container and the engine that has it.
type box struct {
	properties
	engine engine
	ref    state.Ref
}

func (Module) with(ctx context.Context, t state.Target, what string, do func(box) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := box{ref: t.Component.Ref()}
	err := t.Container.Properties.Decode(&b.engine)
	if err == nil {
		b.properties, err = decode(t.Component)
	}
	if err == nil {
		err = b.find()
	}
	if err == nil {
		err = do(b)
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", what, b.ref, err)
	}
	return nil
}

// find finds the engine's program.
func (b *box) find() error {
	names := []string{b.engine.Program}
	if b.engine.Program == "" {
		names = []string{"docker", "podman"}
	}
	for _, name := range names {
		for _, folder := range []string{"/usr/bin", "/usr/local/bin", "/usr/sbin", "/run/current-system/sw/bin"} {
			path := name
			if !filepath.IsAbs(name) {
				path = filepath.Join(folder, name)
			}
			if found, err := exec.LookPath(path); err == nil {
				b.engine.Program = found
				return nil
			}
		}
	}
	return fmt.Errorf("%s: %w (install it)", strings.Join(names, " or "), state.ErrNotFound)
}

func (b box) call(ctx context.Context, env []string, args ...string) (string, error) {
	p := command.Program{Path: b.engine.Program, Args: append(slices.Clone(b.engine.Options), args...), Env: env}
	out, err := p.Output(ctx, 4<<20)
	return strings.TrimSpace(string(out)), err
}

const (
	labelComponent = "orrery.component"
	labelDigest    = "orrery.digest"
)

// digest tells one making of the container from another.
func (b box) digest(image string) (string, error) {
	encoded, err := json.Marshal([]any{b.properties, image})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:]), nil
}

// seen is what the engine says of a container.
type seen struct {
	exists          bool
	component, made string
	running         bool
	status          string
}

func (b box) inspect(ctx context.Context) (seen, error) {
	format := `{{json .State.Running}} {{json .State.Status}} {{json (index .Config.Labels "` + labelComponent + `")}} {{json (index .Config.Labels "` + labelDigest + `")}}`
	out, err := b.call(ctx, nil, "container", "inspect", "--format", format, "--", b.Name)
	if failure, ok := errors.AsType[*command.Failure](err); ok {
		if strings.Contains(strings.ToLower(failure.Stderr), "no such container") {
			return seen{}, nil
		}
		return seen{}, fmt.Errorf("%w: %w", state.ErrUnreachable, err)
	}
	if err != nil {
		return seen{}, err
	}
	s := seen{exists: true}
	d := json.NewDecoder(strings.NewReader(out))
	for _, into := range []any{&s.running, &s.status, &s.component, &s.made} {
		if err := d.Decode(into); err != nil {
			return s, fmt.Errorf("cannot read what %s says of container %s: %w", b.engine.Program, b.Name, err)
		}
	}
	if s.component != b.ref.String() {
		return s, fmt.Errorf("container %s exists and is not of this component: %w (remove it, or set name)", b.Name, state.ErrInUse)
	}
	return s, nil
}

// Activate implements state.Module.
func (m Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "start", func(b box) error {
		was, err := b.inspect(ctx)
		if err != nil {
			return err
		}
		image, err := b.load(ctx)
		if err != nil {
			return err
		}
		digest, err := b.digest(image)
		if err != nil {
			return err
		}
		if was.exists && was.made != digest {
			if err := b.remove(ctx); err != nil {
				return err
			}
			was = seen{}
		}
		if !was.exists {
			err = b.create(ctx, digest)
		}
		if err == nil {
			err = b.start(ctx, was.running)
		}
		if err != nil {
			return errors.Join(err, b.takeAway(context.WithoutCancel(ctx)))
		}
		return nil
	})
}

// load sees to it that the image is there, and returns its id.
func (b box) load(ctx context.Context) (string, error) {
	id := func() (string, error) {
		return b.call(ctx, nil, "image", "inspect", "--format", "{{.Id}}", "--", b.Image)
	}
	image, err := id()
	if err == nil || b.Archive == "" || ctx.Err() != nil {
		return image, err
	}
	if _, err := b.call(ctx, nil, "load", "--input", b.Archive); err != nil {
		return "", fmt.Errorf("cannot load the image: %w", err)
	}
	if image, err = id(); err != nil {
		return "", fmt.Errorf("the archive has no image %s: %w", b.Image, err)
	}
	return image, nil
}

func (b box) create(ctx context.Context, digest string) error {
	args := []string{"create", "--name", b.Name, "--label", labelComponent + "=" + b.ref.String(), "--label", labelDigest + "=" + digest}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(b.Environment)) {
		if name == "PATH" || name == "HOME" { // the engine needs its own
			args = append(args, "--env", name+"="+b.Environment[name])
			continue
		}
		args = append(args, "--env", name)
		env = append(env, name+"="+b.Environment[name])
	}
	args = append(append(args, b.Options...), "--", b.Image)
	_, err := b.call(ctx, env, append(args, b.Command...)...)
	return err
}

func (b box) start(ctx context.Context, running bool) error {
	if !running {
		if _, err := b.call(ctx, nil, "start", b.Name); err != nil {
			return err
		}
	}
	limit := time.Duration(b.ReadyTimeout)
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		last := b.ready(within)
		if last == nil {
			return nil
		}
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-within.Done():
			timer.Stop()
			return cmp.Or(ctx.Err(), fmt.Errorf("it is not ready after %v: %w", limit, last))
		}
	}
}

// ready says whether the container runs and its port accepts.
func (b box) ready(ctx context.Context) error {
	now, err := b.inspect(ctx)
	switch {
	case err != nil:
		return err
	case !now.exists:
		return state.ErrInactive
	case !now.running:
		return fmt.Errorf("the container is %s", now.status)
	case b.Port == 0:
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(b.Port)))
	if err != nil {
		return err
	}
	return conn.Close()
}

// remove stops the container and removes it, with its writable layer and anonymous volumes.
func (b box) remove(ctx context.Context) error {
	seconds := int((time.Duration(b.StopTimeout) + time.Second - 1) / time.Second)
	_, err := b.call(ctx, nil, "stop", "--time", strconv.Itoa(seconds), b.Name)
	if _, ok := errors.AsType[*command.Failure](err); err != nil && !ok {
		return err
	}
	_, err = b.call(ctx, nil, "rm", "--force", "--volumes", b.Name)
	return err
}

// Deactivate implements state.Module.
func (m Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "stop", func(b box) error { return b.takeAway(ctx) })
}

// takeAway removes the container if there is one and it is the component's.
func (b box) takeAway(ctx context.Context) error {
	now, err := b.inspect(ctx)
	if errors.Is(err, state.ErrInUse) || err == nil && !now.exists {
		return nil
	}
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// Health implements state.Doctor.
func (m Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(b box) error { return b.ready(ctx) })
}

// Exports implements state.Exporter.
func (Module) Exports(t state.Target) (map[string]string, error) {
	p, err := decode(t.Component)
	return map[string]string{"name": p.Name}, err
}
