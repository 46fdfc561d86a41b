package ejabberd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"orrery/state/module/ejabberd/term"
)

// hostsHead begins a file that ejabberd.yml takes in and that this module keeps.
const hostsHead = "# Virtual hosts of components, kept by Orrery. Taken in by ejabberd.yml with include_config_file.\n"

// parseHosts reads such a file; an empty one names no host.
func parseHosts(content []byte) ([]string, error) {
	var names []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		name, ok := strings.CutPrefix(line, `- "`)
		name, end := strings.CutSuffix(name, `"`)
		switch {
		case line == "" || line == "hosts:" || line == "{}" || strings.HasPrefix(line, "#"):
		case ok && end && validHost.MatchString(name):
			names = append(names, name)
		default:
			return nil, errors.New("it holds other things than this module writes (leave it empty, and name other hosts in ejabberd.yml)")
		}
	}
	return names, nil
}

func formatHosts(names []string) []byte {
	b := []byte(hostsHead)
	if len(names) == 0 {
		return append(b, "{}\n"...)
	}
	b = append(b, "hosts:\n"...)
	for _, n := range names {
		b = fmt.Appendf(b, "  - %q\n", n)
	}
	return b
}

// enlist puts a host into the hosts file or takes it out, and says whether it changed. Other processes wait meanwhile.
func (s server) enlist(name string, in bool) (changed bool, err error) {
	lock, err := os.OpenFile(s.HostsFile+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, fmt.Errorf("cannot lock hostsFile: %w", err)
	}
	defer func() { _ = lock.Close() }() // nothing is in it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return false, fmt.Errorf("cannot lock hostsFile: %w", err)
	}
	content, err := os.ReadFile(s.HostsFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	names, err := parseHosts(content)
	if err != nil {
		return false, fmt.Errorf("hostsFile %s: %w", s.HostsFile, err)
	}
	next := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
	if in {
		next = append(next, name)
	}
	slices.Sort(next)
	slices.Sort(names)
	if slices.Equal(next, slices.Compact(names)) && content != nil {
		return false, nil
	}
	return true, rewrite(s.HostsFile, formatHosts(next))
}

// rewrite replaces a file at once, with the owner and mode that it had, or that ejabberd can read.
func rewrite(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".orrery-*")
	if err != nil {
		return err
	}
	mode, uid, gid := fs.FileMode(0o644), -1, -1
	if is, err := os.Stat(path); err == nil {
		mode = is.Mode().Perm()
		if of, ok := is.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(of.Uid), int(of.Gid)
		}
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync())
	if uid >= 0 {
		err = errors.Join(err, f.Chown(uid, gid))
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// appoint makes the virtual host one of the server's, or none of them, by the hosts file. What the server refuses is taken back.
func (h *host) appoint(ctx context.Context, in bool) error {
	changed, err := h.server.enlist(h.name, in)
	if err != nil {
		return err
	}
	if !changed && h.configured == in {
		return ctx.Err()
	}
	h.x.keep() // file and server are to say the same
	err = h.reload()
	if err == nil && in != h.configured {
		err = fmt.Errorf("the server does not take its virtual hosts from hostsFile (add include_config_file: [%q] to ejabberd.yml; a host that is named there cannot be taken out here)", h.server.HostsFile)
	}
	if err != nil && in && changed {
		_, failed := h.server.enlist(h.name, false)
		return errors.Join(err, failed, h.reload())
	}
	return err
}

// reload lets the server read its configuration, and looks again.
func (h *host) reload() error {
	t, err := h.x.call("ejabberd_config", "reload")
	if err != nil {
		return err
	}
	if t != term.Atom("ok") {
		return errors.New("the server refuses its configuration (its log says why)")
	}
	return h.look()
}

// listed says whether the hosts file names the host.
func (s server) listed(name string) bool {
	content, err := os.ReadFile(s.HostsFile)
	if err != nil {
		return false
	}
	return bytes.Contains(content, fmt.Appendf(nil, "- %q\n", name))
}
