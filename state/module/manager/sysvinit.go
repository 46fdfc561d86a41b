package manager

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"orrery/state"
)

// sysvinit is the engine of init scripts.
type sysvinit struct {
	ScriptDir string `json:"scriptDir"`
	RCDir     string `json:"rcDir"`
	Runlevels []int  `json:"runlevels"`
}

func (sysvinit) describe() state.Description {
	return state.Description{
		Name: "sysvinit-script",
		Doc:  "A daemon under System V init: its script is placed and linked into run levels, and called with start, stop and status. A generated script uses start-stop-daemon.",
		Container: []state.Property{
			{Name: "scriptDir", Type: "string", Default: "/etc/init.d", Doc: "Folder of init scripts."},
			{Name: "rcDir", Type: "string", Default: "/etc", Doc: "Folder that has the folders rcN.d of the run levels."},
			{Name: "runlevels", Type: "[]int", Default: "[]", Doc: "Run levels in which the daemon is started at boot."},
		},
	}
}

func (sysvinit) open(c state.Container) (server, error) {
	d := sysvinit{ScriptDir: "/etc/init.d", RCDir: "/etc"}
	if err := c.Properties.Decode(&d); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(d.ScriptDir) || !filepath.IsAbs(d.RCDir) {
		return nil, bad("scriptDir and rcDir must be absolute paths")
	}
	for _, level := range d.Runlevels {
		if level < 0 || level > 9 {
			return nil, bad("run level %d is not from 0 to 9", level)
		}
	}
	return d, nil
}

func (d sysvinit) fit(s spec) error {
	err := folder("scriptDir", d.ScriptDir)
	if s.content == nil {
		err = errors.Join(err, programs("start-stop-daemon"))
	}
	return err
}

func (d sysvinit) path(s spec) string { return filepath.Join(d.ScriptDir, s.Name) }

func (d sysvinit) item(s spec) (item, error) {
	it := item{files: []file{{d.path(s), d.definition(s), 0o755}}}
	for _, level := range d.Runlevels {
		it.links = append(it.links, link{filepath.Join(d.RCDir, fmt.Sprintf("rc%d.d", level), "S20"+s.Name), d.path(s)})
	}
	return it, nil
}

const initScript = `#!/bin/sh
### BEGIN INIT INFO
# Provides:          %[1]s
# Required-Start:    $remote_fs $network
# Required-Stop:     $remote_fs $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Component %[2]s, placed by Orrery
### END INIT INFO
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
pidfile=%[3]s
log=%[4]s
case "$1" in
start)
	umask 022
	start-stop-daemon --start --oknodo --background --make-pidfile --pidfile "$pidfile" --chdir %[5]s %[6]s \
		--output "$log" --startas /usr/bin/env -- -i %[7]s
	;;
stop)
	start-stop-daemon --stop --oknodo --remove-pidfile --pidfile "$pidfile" --retry TERM/%[8]d/KILL/5
	;;
restart | force-reload)
	"$0" stop && "$0" start
	;;
status)
	start-stop-daemon --status --pidfile "$pidfile"
	;;
*)
	echo "usage: $0 start|stop|restart|force-reload|status" >&2
	exit 2
	;;
esac
`

func (d sysvinit) definition(s spec) []byte {
	if s.content != nil {
		return s.content
	}
	user := ""
	if s.User != "" {
		user = "--chuid " + quote(s.User)
	}
	var words []string
	for _, word := range append(append([]string(nil), s.env...), s.Command...) {
		words = append(words, quote(word))
	}
	seconds := (time.Duration(s.StopTimeout) + time.Second - 1) / time.Second
	return fmt.Appendf(nil, initScript, s.Name, s.target.Component.Ref(), quote(filepath.Join(s.target.Directory, "program.pid")),
		quote(filepath.Join(s.target.Directory, "program.log")), quote(s.Directory), user, strings.Join(words, " "), seconds)
}

func (d sysvinit) start(ctx context.Context, s spec) error {
	if d.status(ctx, s) == nil { // of an earlier definition
		if err := d.stop(ctx, s); err != nil {
			return err
		}
	}
	_, err := call(ctx, d.path(s), "start")
	return err
}

func (d sysvinit) stop(ctx context.Context, s spec) error {
	if err := exists(d.path(s)); err != nil {
		return nil //nolint:nilerr // a crash came before it was placed
	}
	_, err := call(ctx, d.path(s), "stop")
	return err
}

func (sysvinit) removed(context.Context, spec) error { return nil }

func (d sysvinit) status(ctx context.Context, s spec) error {
	if err := exists(d.path(s)); err != nil {
		return err
	}
	if _, err := call(ctx, d.path(s), "status"); err != nil {
		return fmt.Errorf("its script says that it does not run: %w", err)
	}
	return nil
}
