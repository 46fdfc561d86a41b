package webapp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/module/process"
)

// Tomcat is the module tomcat-webapplication.
type Tomcat struct{}

var (
	_ state.Module   = Tomcat{}
	_ state.Exporter = Tomcat{}
	_ state.Doctor   = Tomcat{}
)

type tomcatProperties struct {
	Content string           `json:"content"`
	Path    string           `json:"path"`
	Ready   string           `json:"ready"`
	Timeout process.Duration `json:"timeout"`
}

type catalina struct {
	Base string `json:"catalinaBaseDir"`
	URL  string `json:"url"`
}

// Describe implements state.Module.
func (Tomcat) Describe() state.Description {
	return state.Description{
		Name: "tomcat-webapplication",
		Doc:  "A web application archive (war) in an Apache Tomcat that deploys by itself what is put into its webapps folder (autoDeploy, the default). Active once it answers.",
		Properties: []state.Property{
			{Name: "content", Type: "string", Required: true, Doc: "The war file: an absolute path, usually ${file.NAME}. It is copied."},
			{Name: "path", Type: "string", Doc: "The context path without its slash, or ROOT; by default the component's name, with -- for @."},
			{Name: "ready", Type: "string", Default: "/", Doc: "Path within the application that must answer a GET with success."},
			{Name: "timeout", Type: "duration", Default: "1m", Doc: "How long Tomcat may take to deploy or undeploy it."},
		},
		Container: []state.Property{
			{Name: "catalinaBaseDir", Type: "string", Default: "/var/lib/tomcat10", Doc: "Tomcat's base folder, which has webapps in it."},
			{Name: "url", Type: "string", Default: "http://127.0.0.1:8080", Doc: "Where Tomcat answers."},
		},
		Exports: []state.Property{{Name: "url", Type: "string", Doc: "Where the application answers."}},
	}
}

// Check implements state.Module.
func (Tomcat) Check(c state.Component) error {
	_, err := decodeTomcat(c)
	return err
}

func decodeTomcat(c state.Component) (tomcatProperties, error) {
	p := tomcatProperties{Path: strings.ReplaceAll(c.Name, "@", "--"), Ready: "/", Timeout: process.Duration(time.Minute)}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	switch {
	case !absolute(p.Content):
		return p, bad("content %q is not an absolute path", p.Content)
	case len(p.Path) > 128 || !validPath.MatchString(p.Path):
		return p, bad("path %q has other characters than letters, digits, '.', '-' and '_'", p.Path)
	case !strings.HasPrefix(p.Ready, "/"):
		return p, bad("ready %q is not a path", p.Ready)
	}
	return p, nil
}

// war is one application in one Tomcat.
type war struct {
	tomcatProperties
	webapps string
	root    string // the application's URL
	marker  string // says that it was put there by this component
}

func openWar(t state.Target) (war, error) {
	p, err := decodeTomcat(t.Component)
	if err != nil {
		return war{}, err
	}
	c := catalina{Base: "/var/lib/tomcat10", URL: "http://127.0.0.1:8080"}
	if err := t.Container.Properties.Decode(&c); err != nil {
		return war{}, fmt.Errorf("container %s: %w", t.Container.Name, err)
	}
	if !filepath.IsAbs(c.Base) {
		return war{}, fmt.Errorf("container %s: %w", t.Container.Name, bad("catalinaBaseDir %q is not an absolute path", c.Base))
	}
	w := war{tomcatProperties: p, webapps: filepath.Join(c.Base, "webapps"), root: strings.TrimSuffix(c.URL, "/"), marker: filepath.Join(t.Directory, "deployed")}
	if p.Path != "ROOT" {
		w.root += "/" + p.Path
	}
	return w, nil
}

func (w war) file() string     { return filepath.Join(w.webapps, w.Path+".war") }
func (w war) expanded() string { return filepath.Join(w.webapps, w.Path) }

func (w war) answers(ctx context.Context) error { return get(ctx, w.root+w.Ready) }

func (Tomcat) with(ctx context.Context, t state.Target, what string, do func(war) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w, err := openWar(t)
	if err == nil {
		err = do(w)
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}

// Activate implements state.Module.
func (m Tomcat) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "deploy", func(w war) error {
		if info, err := os.Stat(w.webapps); err != nil || !info.IsDir() {
			return fmt.Errorf("folder %s: %w (is Tomcat installed?)", w.webapps, state.ErrUnreachable)
		}
		if err := os.MkdirAll(t.Directory, 0o700); err != nil {
			return err
		}
		if err := w.put(); err != nil {
			return err
		}
		if err := await(ctx, time.Duration(w.Timeout), w.answers); err != nil {
			return errors.Join(err, w.undeploy(context.WithoutCancel(ctx)))
		}
		return nil
	})
}

// put copies the war into the folder that Tomcat watches, whole or not at all.
func (w war) put() error {
	if _, err := os.Stat(w.marker); err != nil {
		for _, path := range []string{w.file(), w.expanded()} {
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("%s exists and is not of this component: %w (remove it, or set path)", path, state.ErrInUse)
			}
		}
	}
	same, err := equal(w.Content, w.file())
	if err != nil || same {
		return err
	}
	if err := os.WriteFile(w.marker, nil, 0o600); err != nil {
		return err
	}
	side := filepath.Join(w.webapps, "."+w.Path+".orrery-new")
	if err := copyFile(w.Content, side); err != nil {
		return errors.Join(err, os.Remove(side))
	}
	return os.Rename(side, w.file())
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // Tomcat's user reads it
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// equal says whether two files have the same content; a second one that is missing has not.
func equal(a, b string) (bool, error) {
	var sums [2][]byte
	for i, path := range []string{a, b} {
		f, err := os.Open(path)
		if i == 1 && errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return false, err
		}
		sums[i] = sum.Sum(nil)
	}
	return bytes.Equal(sums[0], sums[1]), nil
}

// Deactivate implements state.Module.
func (m Tomcat) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "undeploy", func(w war) error {
		if _, err := os.Stat(w.marker); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return w.undeploy(ctx)
	})
}

// undeploy removes the war and waits until Tomcat has let go of the application. A Tomcat that does not run has already.
func (w war) undeploy(ctx context.Context) error {
	if err := os.Remove(w.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := await(ctx, time.Duration(w.Timeout), func(ctx context.Context) error {
		err := w.answers(ctx)
		code, answered := errors.AsType[status](err)
		if err != nil && !answered {
			return ctx.Err() // nobody is there
		}
		if _, err := os.Lstat(w.expanded()); err == nil || code.code != http.StatusNotFound {
			return errStillThere
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(w.expanded()), os.Remove(w.marker))
}

var errStillThere = errors.New("tomcat still has the application")

// Health implements state.Doctor.
func (m Tomcat) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(w war) error { return w.answers(ctx) })
}

// Exports implements state.Exporter.
func (Tomcat) Exports(t state.Target) (map[string]string, error) {
	w, err := openWar(t)
	return map[string]string{"url": w.root + "/"}, err
}
