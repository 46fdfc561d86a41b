package manager

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"orrery/state"
)

// supervisord is the engine of programs of supervisord.
type supervisord struct {
	TargetDir string `json:"supervisordTargetDir"`
	Config    string `json:"config"`
}

func (supervisord) describe() state.Description {
	return state.Description{
		Name: "supervisord-program",
		Doc:  "A program under supervisord. Its section is placed in a folder that supervisord includes (files *.conf), and taken up by supervisorctl update.",
		Container: []state.Property{
			{Name: "supervisordTargetDir", Type: "string", Default: "/etc/supervisor/conf.d", Doc: "Folder of sections; supervisord must include its *.conf files."},
			{Name: "config", Type: "string", Default: "/etc/supervisor/supervisord.conf", Doc: "The configuration file that tells supervisorctl where supervisord listens, and its password if it has one."},
		},
	}
}

func (supervisord) open(c state.Container) (server, error) {
	d := supervisord{TargetDir: "/etc/supervisor/conf.d", Config: "/etc/supervisor/supervisord.conf"}
	if err := c.Properties.Decode(&d); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(d.TargetDir) || !filepath.IsAbs(d.Config) {
		return nil, bad("supervisordTargetDir and config must be absolute paths")
	}
	return d, nil
}

var comment = regexp.MustCompile(`(^|\s)[;#]`)

func (d supervisord) fit(s spec) error {
	for _, word := range append(append([]string{s.Directory}, s.env...), s.Command...) {
		if comment.MatchString(word) {
			return bad("%q has a semicolon or hash after a blank, which supervisord takes for the beginning of a comment", word)
		}
	}
	return errors.Join(folder("supervisordTargetDir", d.TargetDir), programs("supervisorctl"), s.oneLine())
}

func (d supervisord) item(s spec) (item, error) {
	return item{files: []file{{filepath.Join(d.TargetDir, s.Name+".conf"), d.definition(s), 0o600}}}, nil
}

func (d supervisord) definition(s spec) []byte {
	if s.content != nil {
		return s.content
	}
	percent := func(text string) string { return strings.ReplaceAll(text, "%", "%%") }
	words := []string{"/usr/bin/env", "-i"} // supervisord's own environment is not the program's
	words = append(append(words, s.env...), s.Command...)
	for i, word := range words {
		words[i] = quote(word)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "; %s, placed by Orrery\n[program:%s]\ncommand=%s\ndirectory=%s\n", s.target.Component.Ref(), s.Name,
		percent(strings.Join(words, " ")), percent(s.Directory))
	if s.User != "" {
		fmt.Fprintf(&b, "user=%s\n", s.User)
	}
	restart := map[string]string{restartAlways: "true", restartOnFailure: "unexpected", restartNever: "false"}[s.Restart]
	seconds := (time.Duration(s.StopTimeout) + time.Second - 1) / time.Second
	fmt.Fprintf(&b, "autostart=true\nautorestart=%s\nexitcodes=0\nstartsecs=1\nstopwaitsecs=%d\nstopasgroup=true\nkillasgroup=true\nredirect_stderr=true\nstdout_logfile=%s\n",
		restart, seconds, percent(filepath.Join(s.target.Directory, "program.log")))
	return []byte(b.String())
}

func (d supervisord) ctl(ctx context.Context, args ...string) (string, error) {
	return call(ctx, "supervisorctl", append([]string{"-c", d.Config}, args...)...)
}

// reach says whether supervisord answers. Supervisorctl tells by its output and not always by its status.
func (d supervisord) reach(ctx context.Context) error {
	out, err := d.ctl(ctx, "pid")
	if err != nil {
		return fmt.Errorf("supervisord: %w: %w", state.ErrUnreachable, err)
	}
	if _, err := strconv.Atoi(out); err != nil {
		return fmt.Errorf("supervisord: %w: %s", state.ErrUnreachable, out)
	}
	return nil
}

// update makes supervisord take up the section, or forget one that is gone, which ends the program. It says what it did; nothing
// if there was nothing to do.
func (d supervisord) update(ctx context.Context, s spec) (done string, err error) {
	out, err := d.ctl(ctx, "update", s.Name)
	if strings.Contains(out, "no such group") { // it never heard of it
		return "", nil
	}
	if err != nil || strings.Contains(out, "ERROR") {
		if said, _ := d.ctl(ctx, "reread"); strings.Contains(said, "ERROR") { // in a sentence
			out, err = said, nil
		}
		return "", errors.Join(fmt.Errorf("supervisord does not accept the section: %s", out), err, d.reach(ctx))
	}
	return out, nil
}

// start lets update do it where the section is new.
func (d supervisord) start(ctx context.Context, s spec) error {
	done, err := d.update(ctx, s)
	if err != nil || strings.Contains(done, s.Name+": added") || strings.Contains(done, s.Name+": updated") {
		return err
	}
	out, err := d.ctl(ctx, "start", s.Name)
	if err != nil && !strings.Contains(out, "already started") {
		return fmt.Errorf("%s: %w", out, err)
	}
	return nil
}

// stop does nothing: supervisord ends a program whose section is gone, and waits for that.
func (supervisord) stop(context.Context, spec) error { return nil }

func (d supervisord) removed(ctx context.Context, s spec) error {
	_, err := d.update(ctx, s)
	return err
}

func (d supervisord) status(ctx context.Context, s spec) error {
	out, err := d.ctl(ctx, "status", s.Name)
	fields := strings.Fields(out)
	switch {
	case err != nil && !failed(err):
		return err
	case len(fields) < 2 || fields[0] != s.Name && !strings.HasPrefix(fields[0], s.Name+":"):
		return fmt.Errorf("supervisord: %w: %s", state.ErrUnreachable, out)
	case fields[1] != "RUNNING":
		return fmt.Errorf("supervisord says: %s", strings.Join(fields[1:], " "))
	}
	return nil
}
