// Package webapp is the modules of web applications: apache-webapplication, nginx-webapplication and tomcat-webapplication.
//
// An application of Apache or nginx is a folder in the server's document root. Its content comes from a tar file or a folder, and is
// put beside the one before and swapped in by renaming a link, so that a visitor sees one or the other. Folders of it
// that are mutable (uploads) are its state: they survive new content, and are snapshotted by the module fileset.
// In the document root, for an application NAME:
//
//	NAME                      a link to the content in use
//	.NAME.orrery-DIGEST       content
//	.NAME.orrery-state        the mutable folders; the content has links into it
//
// A piece of configuration is placed, checked by the server's own verifier, and taken up by a reload; one that
// does not pass is taken back before the server sees it.
package webapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/module/fileset"
)

// Module drives applications of one kind of web server. It is safe for concurrent use.
type Module struct {
	files *fileset.Module
	kind  kind
}

var (
	_ state.Stateful = (*Module)(nil)
	_ state.Exporter = (*Module)(nil)
	_ state.Doctor   = (*Module)(nil)
	_ state.Sizer    = (*Module)(nil)
	_ state.Forker   = (*Module)(nil)
	_ state.Neighbor = (*Module)(nil)
)

// kind is a web server and what it is called with.
type kind struct {
	name, server, documentRoot, configurationDir string
	verify, reload                               []string
	main                                         string // the option that says which the main configuration is
}

var kinds = []kind{
	{
		name: "apache-webapplication", server: "Apache", documentRoot: "/var/www/html", configurationDir: "/etc/apache2/sites-enabled",
		verify: []string{"apache2", "-t"}, reload: []string{"apache2", "-k", "graceful"}, main: "-f",
	},
	{
		name: "nginx-webapplication", server: "nginx", documentRoot: "/var/www/html", configurationDir: "/etc/nginx/conf.d",
		verify: []string{"nginx", "-t"}, reload: []string{"nginx", "-s", "reload"}, main: "-c",
	},
}

// New returns the modules; a nil logger discards.
func New(log *slog.Logger) []state.Module {
	all := []state.Module{Tomcat{}}
	for _, k := range kinds {
		all = append(all, &Module{files: fileset.New(log), kind: k})
	}
	return all
}

type properties struct {
	Content       string   `json:"content"`
	Path          string   `json:"path"`
	Mutable       []string `json:"mutable"`
	Configuration string   `json:"configuration"`
	URL           string   `json:"url"`
}

type server struct {
	DocumentRoot     string `json:"documentRoot"`
	FilesetOwner     string `json:"filesetOwner"`
	ConfigurationDir string `json:"configurationDir"`
	Configuration    string `json:"configuration"`
	kind             kind
}

// Describe implements state.Module.
func (m *Module) Describe() state.Description {
	k := m.kind
	return state.Description{
		Name:     k.name,
		Doc:      "A web application in the document root of " + k.server + ": content that is replaced atomically, mutable folders that are its state, and a piece of configuration that is checked before the server takes it up.",
		Stateful: true,
		Properties: []state.Property{
			{Name: "content", Type: "string", Required: true, Doc: "The application's files: absolute path of a tar file, usually ${file.NAME}, or of a folder. It is copied."},
			{Name: "path", Type: "string", Doc: "Name of its folder in the document root; by default the component's, with -- for @."},
			{Name: "mutable", Type: "[]string", Doc: "Folders in the content that the application writes to, relative paths. They are its state, and begin as they are in the content."},
			{Name: "configuration", Type: "string", Doc: "A file with configuration for the server, such as a virtual host: absolute path, usually ${file.NAME}."},
			{Name: "url", Type: "string", Doc: "A URL that must answer a GET with success once the application is active."},
		},
		Container: []state.Property{
			{Name: "documentRoot", Type: "string", Default: k.documentRoot, Doc: "The server's document root."},
			{Name: "filesetOwner", Type: "string", Doc: "USER or USER:GROUP that owns new mutable folders."},
			{Name: "configurationDir", Type: "string", Default: k.configurationDir, Doc: "Folder of which the server's configuration includes the files *.conf."},
			{Name: "configuration", Type: "string", Doc: "The server's main configuration, if it is not where the server looks by itself."},
		},
		Exports: []state.Property{{Name: "path", Type: "string", Doc: "Absolute path of the application's folder."}},
	}
}

var validPath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{state.ErrBadProperty}, args...)...)
}

func absolute(path string) bool { return filepath.IsAbs(path) || strings.HasPrefix(path, "${") }

func decode(c state.Component) (properties, error) {
	p := properties{Path: strings.ReplaceAll(c.Name, "@", "--")}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	switch {
	case !absolute(p.Content):
		return p, bad("content %q is not an absolute path", p.Content)
	case len(p.Path) > 128 || !validPath.MatchString(p.Path):
		return p, bad("path %q has other characters than letters, digits, '.', '-' and '_'", p.Path)
	case p.Configuration != "" && !absolute(p.Configuration):
		return p, bad("configuration %q is not an absolute path", p.Configuration)
	}
	for i, folder := range p.Mutable {
		if !filepath.IsLocal(folder) || filepath.Clean(folder) != folder || folder == "." {
			return p, bad("mutable folder %q is not a plain path within the content", folder)
		}
		for _, other := range slices.Concat(p.Mutable[:i], p.Mutable[i+1:]) {
			if other == folder || strings.HasPrefix(folder, other+"/") {
				return p, bad("mutable folder %q lies in %q", folder, other)
			}
		}
	}
	return p, nil
}

func (m *Module) decodeContainer(c state.Container) (server, error) {
	s := server{DocumentRoot: m.kind.documentRoot, ConfigurationDir: m.kind.configurationDir, kind: m.kind}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	for _, path := range []string{s.DocumentRoot, s.ConfigurationDir} {
		if !filepath.IsAbs(path) {
			return s, fmt.Errorf("container %s: %w", c.Name, bad("%q is not an absolute path", path))
		}
	}
	return s, nil
}

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// site is one application on one server.
type site struct {
	properties
	server server
	target state.Target
	files  *fileset.Module
}

func (m *Module) site(t state.Target) (site, error) {
	p, err := decode(t.Component)
	if err != nil {
		return site{}, fmt.Errorf("%s: %w", t.Component.Ref(), err)
	}
	s, err := m.decodeContainer(t.Container)
	return site{properties: p, server: s, target: t, files: m.files}, err
}

// link is what visitors come in by.
func (s site) link() string { return filepath.Join(s.server.DocumentRoot, s.Path) }

func (s site) prefix() string { return "." + s.Path + ".orrery-" }

func (s site) state() string { return filepath.Join(s.server.DocumentRoot, s.prefix()+"state") }

// as is a target of the module fileset for a folder.
func (s site) as(folder, content string) state.Target {
	p := state.Properties{"directory": folder}
	if content != "" {
		p["content"] = content
	}
	return state.Target{
		Component: state.Component{Name: s.target.Component.Name, Module: fileset.Name, Container: s.target.Component.Container, Properties: p},
		Container: s.target.Container, Directory: s.target.Directory,
	}
}

// with carries out do on an application, and says in an error what could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(site) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := m.site(t)
	if err == nil {
		err = do(s)
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}

// Activate implements state.Module.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(s site) error {
		before, err := s.current()
		if err != nil {
			return err
		}
		next, err := s.prepare(ctx)
		if err != nil {
			return err
		}
		if err := s.point(next); err != nil {
			return err
		}
		back, err := s.configure(ctx)
		if err == nil {
			err = s.answers(ctx)
		}
		if err != nil {
			ctx := context.WithoutCancel(ctx)
			return errors.Join(err, back(ctx), s.point(before), s.sweep(before))
		}
		return s.sweep(next)
	})
}

// Deactivate implements state.Module. The mutable folders stay.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "deactivate", func(s site) error {
		if err := s.unconfigure(ctx); err != nil {
			return err
		}
		if _, err := s.current(); err != nil {
			return nil //nolint:nilerr // something else is there, which is not ours
		}
		return errors.Join(s.point(""), s.sweep(""))
	})
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(s site) error { return m.files.Snapshot(ctx, s.as(s.state(), ""), w) })
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	return m.with(ctx, t, "restore", func(s site) error { return m.files.Restore(ctx, s.as(s.state(), ""), r) })
}

// CollectGarbage implements state.Stateful.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "collect", func(s site) error { return m.files.CollectGarbage(ctx, s.as(s.state(), "")) })
}

// Fork implements state.Forker: a copy of the mutable folders.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (method string, err error) {
	err = m.with(ctx, from, "fork", func(s site) error {
		return m.with(ctx, into, "fork into", func(to site) error {
			method, err = m.files.Fork(ctx, s.as(s.state(), ""), to.as(to.state(), ""))
			return err
		})
	})
	return method, err
}

// Beside implements state.Neighbor: neither the folder's name nor the server's configuration is taken along.
func (*Module) Beside(c state.Component, name string) state.Component {
	beside := state.Properties{}
	for property, value := range c.Properties {
		if property != "path" && property != "configuration" && property != "url" {
			beside[property] = value
		}
	}
	c.Name, c.Properties = name, beside
	return c
}

// Size implements state.Sizer: of the mutable folders.
func (m *Module) Size(ctx context.Context, t state.Target) (size int64, err error) {
	err = m.with(ctx, t, "measure", func(s site) error {
		size, err = m.files.Size(ctx, s.as(s.state(), ""))
		return err
	})
	return size, err
}

// Health implements state.Doctor.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(s site) error {
		if now, err := s.current(); err != nil || now == "" {
			return errors.Join(err, state.ErrInactive)
		}
		return s.answers(ctx)
	})
}

// Exports implements state.Exporter.
func (m *Module) Exports(t state.Target) (map[string]string, error) {
	s, err := m.site(t)
	return map[string]string{"path": s.link()}, err
}

// answers says whether the application's URL answers, if it has one. A server that is just reloading is asked again.
func (s site) answers(ctx context.Context) error {
	if s.URL == "" {
		return nil
	}
	return await(ctx, 10*time.Second, func(ctx context.Context) error { return get(ctx, s.URL) })
}

// await asks again until there is no error, for so long.
func await(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		err := ask(within)
		if err == nil {
			return nil
		}
		if within.Err() == nil || last == nil {
			last = err
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-timer.C:
		case <-within.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("it does not answer within %v: %w", limit, last)
		}
	}
}

// status is an answer that is no success.
type status struct {
	url  string
	code int
}

func (e status) Error() string {
	return fmt.Sprintf("%s answers %d %s", e.url, e.code, http.StatusText(e.code))
}

func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return status{url, response.StatusCode}
	}
	return nil
}
