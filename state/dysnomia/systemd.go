package dysnomia

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// Systemd is the module of components that are units of systemd, in etc/systemd/system.
func Systemd(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate") {
		return nil
	}
	target, user := c.Property("systemdTargetDir", ""), []string{}
	if c.Property("systemdUserServices", "") == "1" {
		user = []string{"--user"}
		target = cmp.Or(target, filepath.Join(c.Property("HOME", "/root"), ".config/systemd/user"))
	}
	u := units{
		Call: c, user: user, files: filepath.Join(c.Path, "etc/systemd/system"),
		target: cmp.Or(target, "/etc/systemd-mutable/system"), wants: c.Property("systemdRootTarget", "dysnomia.target.wants"),
	}
	return c.operateService(ctx, service{files: u.files, target: u.target, start: u.start, stop: u.stop, settle: u.reload})
}

type units struct {
	Call
	user                 []string // the option for the units of a user
	files, target, wants string
}

func (u units) systemctl(ctx context.Context, args ...string) error {
	return u.call(ctx, "systemctl", append(slices.Clone(u.user), args...)...)
}

func (u units) reload(ctx context.Context) error { return u.systemctl(ctx, "daemon-reload") }

// starting are the units to start: the services, or instead of one its socket or timer.
func starting(all []string) []string {
	var first []string
	for _, name := range all {
		base, ok := strings.CutSuffix(name, ".service")
		switch {
		case !ok:
		case slices.Contains(all, base+".socket"):
			first = append(first, base+".socket")
		case slices.Contains(all, base+".timer"):
			first = append(first, base+".timer")
		default:
			first = append(first, name)
		}
	}
	return first
}

func (u units) start(ctx context.Context, all []string) error {
	for _, name := range starting(all) {
		if err := u.want(name, true); err != nil {
			return err
		}
	}
	if err := u.reload(ctx); err != nil {
		return err
	}
	for _, name := range starting(all) {
		if err := u.systemctl(ctx, "start", name); err != nil {
			return err
		}
	}
	return nil
}

// want links a unit to where it is started from when the machine starts, or removes that link.
func (u units) want(name string, wanted bool) error {
	folder := filepath.Join(u.target, u.wants)
	if wanted {
		if err := mkdirAll(folder); err != nil {
			return err
		}
	}
	return link(filepath.Join(u.files, name), filepath.Join(folder, name), wanted)
}

// stop ends sockets and timers before the services that they would start.
func (u units) stop(ctx context.Context, all []string) error {
	for _, kind := range []string{".socket", ".timer", ".service"} {
		for _, name := range all {
			if filepath.Ext(name) != kind {
				continue
			}
			if err := u.systemctl(ctx, "stop", name); err != nil && u.loaded(ctx, name) {
				return err
			}
			if err := u.want(name, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// loaded says whether systemd runs a unit; of one that it never took up there is nothing to stop.
func (u units) loaded(ctx context.Context, name string) bool {
	return u.systemctl(ctx, "is-active", "--quiet", name) == nil
}
