package dysnomia

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// box is a container of Docker or Podman.
type box struct {
	Call
	engine         string
	name           string
	image, archive string
	timeout        string
	keep           bool
	parameters     []string
}

// Docker is the module of components that are containers of Docker, or of Podman where that is installed instead: what
// *-docker-settings and *-docker-createparams say.
func Docker(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate", "collect-garbage") || c.Operation == "collect-garbage" && !c.Directory.IsGarbage(c.Ref) {
		return nil
	}
	b, err := c.box()
	if err != nil {
		return err
	}
	switch c.Operation {
	case "activate":
		if err := b.start(ctx); err != nil || !b.keep {
			return err
		}
		return c.Directory.MarkActive(c.Ref)
	case "deactivate":
		if err := b.stop(ctx); err != nil {
			return err
		}
		if b.keep {
			return c.Directory.MarkGarbage(c.Ref)
		}
		return b.remove(ctx)
	}
	return errors.Join(b.remove(ctx), c.Directory.Unmark(c.Ref))
}

func (c Call) box() (box, error) {
	b := box{Call: c, name: "dysnomia-" + c.Ref.Component, timeout: "1"}
	settings, err := filepath.Glob(filepath.Join(escapeGlob(c.Path), "*-docker-settings"))
	if err == nil && len(settings) == 0 {
		err = fmt.Errorf("there is no *-docker-settings in %s", c.Path)
	}
	if err != nil {
		return b, err
	}
	for _, file := range settings {
		s, err := ReadSettings(file)
		if err != nil {
			return b, err
		}
		b.take(s)
	}
	if b.image == "" || strings.HasPrefix(b.image, "-") {
		return b, fmt.Errorf("%w: dockerImageTag %q cannot name an image", ErrSettings, b.image)
	}
	if err := b.readParameters(); err != nil {
		return b, err
	}
	for _, program := range []string{"docker", "podman"} {
		if b.engine, err = exec.LookPath(program); err == nil {
			return b, nil
		}
	}
	return b, errors.New("neither docker nor podman is installed")
}

func (b *box) take(s Settings) {
	for name, into := range map[string]*string{"dockerImage": &b.archive, "dockerImageTag": &b.image, "dockerStopTimeout": &b.timeout} {
		if value := s.text(name); value != "" {
			*into = value
		}
	}
	if value := s.text("dockerStatelessDeployment"); value != "" {
		b.keep = value != "1"
	}
}

// readParameters reads the arguments of docker create, one a line.
func (b *box) readParameters() error {
	files, err := filepath.Glob(filepath.Join(escapeGlob(b.Path), "*-docker-createparams"))
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(content)) {
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				b.parameters = append(b.parameters, line)
			}
		}
	}
	return nil
}

// ask returns the lines that the engine writes.
func (b box) ask(ctx context.Context, args ...string) ([]string, error) {
	var out bytes.Buffer
	err := Execute(ctx, Program{Path: b.engine, Args: args, Env: b.Environment, Out: &out, Err: b.Err})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %v", b.engine, args[0], err)
	}
	return strings.Fields(out.String()), nil
}

// there says whether the container exists, or, with running, whether it runs.
func (b box) there(ctx context.Context, running bool) (bool, error) {
	args := []string{"ps", "--format", "{{.Names}}", "--filter", "name=" + b.name}
	if !running {
		args = append(args, "--all")
	}
	all, err := b.ask(ctx, args...)
	return slices.Contains(all, b.name), err
}

func (b box) start(ctx context.Context) error {
	if b.archive != "" {
		if err := b.call(ctx, b.engine, "load", "-i", b.archive); err != nil {
			return err
		}
	}
	exists, err := b.there(ctx, false)
	if err != nil {
		return err
	}
	if !exists {
		args := append(append([]string{"create"}, b.parameters...), "--name", b.name, b.image)
		if err := b.call(ctx, b.engine, args...); err != nil {
			return err
		}
	}
	err = b.call(ctx, b.engine, "start", b.name)
	if err != nil && !exists {
		err = errors.Join(err, b.call(context.WithoutCancel(ctx), b.engine, "rm", "--force", b.name))
	}
	return err
}

func (b box) stop(ctx context.Context) error {
	running, err := b.there(ctx, true)
	if err != nil || !running {
		return err
	}
	return b.call(ctx, b.engine, "stop", "-t", b.timeout, b.name)
}

// remove removes the container, and its image unless another container is made from that.
func (b box) remove(ctx context.Context) error {
	exists, err := b.there(ctx, false)
	if err != nil {
		return err
	}
	if exists {
		if err := b.call(ctx, b.engine, "rm", b.name); err != nil {
			return err
		}
	}
	images, err := b.ask(ctx, "images", "--quiet", "--filter", "reference="+b.image)
	if err != nil || len(images) == 0 {
		return err
	}
	users, err := b.ask(ctx, "ps", "--all", "--quiet", "--filter", "ancestor="+b.image)
	if err != nil || len(users) > 0 {
		return err
	}
	return b.call(ctx, b.engine, "rmi", b.image)
}
