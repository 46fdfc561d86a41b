package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
)

// The recorder's units in systemd's user manager.
const (
	unitName   = "orrery-clip.service"
	socketName = "orrery-clip.socket"
)

// unit starts the recorder with desktops that run in systemd's user manager. Of a second recorder (7), and where nothing can be watched (6), no more is made.
const unit = `[Unit]
Description=History of the clipboard
PartOf=graphical-session.target
After=graphical-session.target

[Service]
ExecStart=%s record
Restart=on-failure
RestartPreventExitStatus=6 7
Slice=background.slice

[Install]
WantedBy=graphical-session.target
`

// socketUnit has systemd listen for the recorder, so that whoever asks first starts it.
const socketUnit = `[Unit]
Description=History of the clipboard, on demand

[Socket]
ListenStream=%t/orrery-clip/socket
SocketMode=0600
DirectoryMode=0700

[Install]
WantedBy=sockets.target
`

// autostart starts it with desktops that do not; those that do leave it out (X-systemd-skip).
const autostart = `[Desktop Entry]
Type=Application
Name=Clip
Comment=History of the clipboard
Exec=%s record
NoDisplay=true
X-systemd-skip=true
X-GNOME-HiddenUnderSystemd=true
`

// bindings are how desktops start the picker by a key. %[1]s is the program. It is told to open a window, because a window manager that was started on a console hands that on to
// programs, which looks like a terminal to them.
const bindings = `Bind a key to the picker:
  GNOME     Settings, Keyboard, Custom Shortcuts: %[1]s pick --window
  KDE       System Settings, Shortcuts, Add Command: %[1]s pick --window
  sway      bindsym $mod+v exec %[1]s pick --window
  Hyprland  bind = SUPER, V, exec, %[1]s pick --window
  i3        bindsym $mod+v exec --no-startup-id %[1]s pick --window
A screen reader reads the picker in a terminal: pick --terminal in the desktop's own, such as foot %[1]s pick --terminal
Where a window manager starts no programs by itself, let it start the recorder:
  sway, i3  exec %[1]s record
  Hyprland  exec-once = %[1]s record
`

func (c *cli) installCommand() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Start the recorder with the desktop, and say how to bind the picker to a key",
		Long: `Start the recorder with the desktop: by a unit of systemd's user manager, which also starts it for whoever asks first, and, for desktops that do not run in it, an entry of XDG autostart. Only the user's own files
are written. What it was before does not matter, so it can be repeated after the program has moved.`,
		Args: commandline.Exactly(),
		RunE: func(*cobra.Command, []string) error {
			files := installed()
			if remove {
				return c.uninstall(files)
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			return c.install(files, program)
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take back what it wrote")
	return cmd
}

// installation are the files that clip install writes.
type installation struct{ unit, wanted, socket, socketWanted, autostart string }

func installed() installation {
	dir := folder("XDG_CONFIG_HOME", ".config")
	units := filepath.Join(dir, "systemd", "user")
	return installation{
		unit: filepath.Join(units, unitName), wanted: filepath.Join(units, "graphical-session.target.wants", unitName), // as systemctl --user enable has it
		socket: filepath.Join(units, socketName), socketWanted: filepath.Join(units, "sockets.target.wants", socketName),
		autostart: filepath.Join(dir, "autostart", "orrery-clip.desktop"),
	}
}

func (c *cli) install(files installation, program string) error {
	if strings.ContainsFunc(program, func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune("\"'\\", r) }) {
		return fmt.Errorf("cannot install %q: its path has a quote or another character that systemd refuses (move it)", program)
	}
	for path, text := range map[string]string{
		files.unit: fmt.Sprintf(unit, systemdQuoted(program)), files.socket: socketUnit, files.autostart: fmt.Sprintf(autostart, desktopQuoted(program)),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), replace(path, text)); err != nil { //nolint:gosec // as others make it
			return err
		}
	}
	for link, name := range map[string]string{files.wanted: unitName, files.socketWanted: socketName} {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil { //nolint:gosec // as others make it
			return err
		}
		if err := os.Symlink(filepath.Join("..", name), link); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	fmt.Fprintf(c.stdout, "wrote %s\nwrote %s\nwrote %s\nThe recorder starts with the next session. Now: systemctl --user daemon-reload && systemctl --user start %s %s\n\n", files.unit, files.socket, files.autostart, socketName, unitName)
	fmt.Fprintf(c.stdout, bindings, shellQuoted(program))
	return nil
}

// replace writes a file whole or not at all.
func replace(path, text string) error {
	next := path + ".new"
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil { //nolint:gosec // as others make it
		return err
	}
	return os.Rename(next, path)
}

func (c *cli) uninstall(files installation) error {
	for _, path := range []string{files.wanted, files.socketWanted, files.unit, files.socket, files.autostart} {
		switch err := os.Remove(path); {
		case err == nil:
			fmt.Fprintln(c.stdout, "removed", path)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return nil
}

// systemdQuoted is a path as the program of a unit's command (systemd.service(5), COMMAND LINES): % would be expanded, $ is not in that place.
func systemdQuoted(path string) string { return `"` + strings.ReplaceAll(path, "%", "%%") + `"` }

// desktopQuoted is a path as an argument of Exec (Desktop Entry Specification): quoted for it, and then as any text's backslashes are.
func desktopQuoted(path string) string {
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`, `%`, `%%`).Replace(path) + `"`
	return strings.ReplaceAll(quoted, `\`, `\\`)
}

// shellQuoted is a path as a word of a shell.
func shellQuoted(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
