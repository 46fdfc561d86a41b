package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orrery/state"
)

// systemd is the engine of units of systemd.
type systemd struct {
	TargetDir string `json:"systemdTargetDir"`
	Root      string `json:"root"`
	User      bool   `json:"user"`
	WantedBy  string `json:"wantedBy"`
}

func (systemd) describe() state.Description {
	return state.Description{
		Name: "systemd-unit",
		Doc:  "A service under systemd: its unit is checked by systemd-analyze verify, placed, enabled and started, and is started at boot without the node.",
		Container: []state.Property{
			{Name: "systemdTargetDir", Type: "string", Default: "/etc/systemd/system", Doc: "Folder of units; systemd must look into it."},
			{Name: "root", Type: "string", Doc: "Folder of a system that does not run, such as an image that is being built: units are placed and enabled below it, and not started."},
			{Name: "user", Type: "bool", Default: "false", Doc: "Whether units belong to the service manager of the node's user (systemctl --user)."},
			{Name: "wantedBy", Type: "string", Default: "multi-user.target", Doc: "The target that starts generated units."},
		},
	}
}

func (systemd) open(c state.Container) (server, error) {
	d := systemd{TargetDir: "/etc/systemd/system", WantedBy: "multi-user.target"}
	if err := c.Properties.Decode(&d); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(d.TargetDir) || d.Root != "" && !filepath.IsAbs(d.Root) {
		return nil, bad("systemdTargetDir and root must be absolute paths")
	}
	if strings.ContainsAny(d.WantedBy, "\n\r ") {
		return nil, bad("wantedBy %q is not a unit", d.WantedBy)
	}
	return d, nil
}

func (d systemd) fit(s spec) error {
	if d.Root != "" && s.Ready != readyRunning {
		return bad("ready %q cannot be found out below a root, where nothing runs", s.Ready)
	}
	return errors.Join(folder("systemdTargetDir", d.folder()), programs("systemctl", "systemd-analyze"), s.oneLine())
}

func (d systemd) folder() string { return filepath.Join(d.Root, d.TargetDir) }

func (d systemd) unit(s spec) string {
	if filepath.Ext(s.Name) == ".service" || filepath.Ext(s.Name) == ".socket" || filepath.Ext(s.Name) == ".timer" {
		return s.Name
	}
	return s.Name + ".service"
}

func (d systemd) item(s spec) (item, error) {
	return item{files: []file{{filepath.Join(d.folder(), d.unit(s)), d.definition(s), 0o644}}}, nil
}

// definition is a unit; see systemd.service(5) for its quoting.
func (d systemd) definition(s spec) []byte {
	if s.content != nil {
		return s.content
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# placed by Orrery\n[Unit]\nDescription=Component %s\nAfter=network.target\n\n[Service]\nType=simple\nExecStart=", s.target.Component.Ref())
	for i, word := range s.Command {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(unitWord(word, true))
	}
	b.WriteString("\n")
	for _, variable := range s.env {
		b.WriteString("Environment=" + unitWord(variable, false) + "\n")
	}
	fmt.Fprintf(&b, "WorkingDirectory=%s\n", strings.ReplaceAll(s.Directory, "%", "%%"))
	if s.User != "" {
		fmt.Fprintf(&b, "User=%s\n", s.User)
	}
	restart := map[string]string{restartAlways: "always", restartOnFailure: "on-failure", restartNever: "no"}[s.Restart]
	fmt.Fprintf(&b, "Restart=%s\nRestartSec=1\nTimeoutStopSec=%dms\n\n[Install]\nWantedBy=%s\n", restart, time.Duration(s.StopTimeout).Milliseconds(), d.WantedBy)
	return []byte(b.String())
}

// unitWord is text as one word of a unit. In a command line a dollar is doubled too.
func unitWord(text string, inCommand bool) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "\t", `\t`)
	text = r.Replace(text)
	if inCommand {
		text = strings.ReplaceAll(text, "$", "$$")
	}
	return `"` + text + `"`
}

func (d systemd) systemctl(ctx context.Context, args ...string) (string, error) {
	switch {
	case d.Root != "":
		args = append([]string{"--root=" + d.Root}, args...)
	case d.User:
		args = append([]string{"--user"}, args...)
	}
	return call(ctx, "systemctl", args...)
}

// start has the unit verified before systemd sees it as enabled.
func (d systemd) start(ctx context.Context, s spec) error {
	unit := filepath.Join(d.folder(), d.unit(s))
	args := []string{"verify", "--man=no", "--recursive-errors=no", unit}
	if d.User {
		args = append([]string{"--user"}, args...)
	}
	if _, err := call(ctx, "systemd-analyze", args...); err != nil {
		return fmt.Errorf("systemd does not accept the unit: %w", err)
	}
	if d.Root == "" {
		if _, err := d.systemctl(ctx, "daemon-reload"); err != nil {
			return fmt.Errorf("%w: %w", state.ErrUnreachable, err)
		}
	}
	if installs(unit) {
		if _, err := d.systemctl(ctx, "enable", d.unit(s)); err != nil {
			return err
		}
	}
	if d.Root != "" {
		return nil
	}
	_, err := d.systemctl(ctx, "restart", d.unit(s))
	return err
}

// installs says whether a unit can be enabled.
func installs(unit string) bool {
	content, err := os.ReadFile(unit)
	return err == nil && strings.Contains("\n"+string(content), "\n[Install]")
}

func (d systemd) stop(ctx context.Context, s spec) error {
	unit := filepath.Join(d.folder(), d.unit(s))
	if _, err := os.Stat(unit); err != nil {
		return nil //nolint:nilerr // a crash came before it was placed
	}
	if d.Root == "" {
		if _, err := d.systemctl(ctx, "stop", d.unit(s)); err != nil {
			if d.status(ctx, s) == nil {
				return err
			}
		}
	}
	if installs(unit) {
		_, err := d.systemctl(ctx, "disable", d.unit(s))
		return err
	}
	return nil
}

func (d systemd) removed(ctx context.Context, s spec) error {
	if d.Root != "" {
		return nil
	}
	if _, err := d.systemctl(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("%w: %w", state.ErrUnreachable, err)
	}
	_, err := d.systemctl(ctx, "reset-failed", d.unit(s))
	if failed(err) {
		return nil // it had not failed
	}
	return err
}

func (d systemd) status(ctx context.Context, s spec) error {
	if d.Root != "" {
		_, err := d.systemctl(ctx, "is-enabled", d.unit(s))
		return err
	}
	out, err := d.systemctl(ctx, "show", "--property=ActiveState,SubState", d.unit(s))
	if err != nil {
		return err
	}
	values := map[string]string{}
	for line := range strings.SplitSeq(out, "\n") {
		name, value, _ := strings.Cut(line, "=")
		values[name] = value
	}
	if values["ActiveState"] != "active" {
		return fmt.Errorf("systemd says that it is %s (%s)", values["ActiveState"], values["SubState"])
	}
	return nil
}
