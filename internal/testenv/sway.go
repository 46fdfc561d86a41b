package testenv

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// swayUser is whom sway runs as where the test is root, whom it refuses.
const swayUser = 65534

// Sway starts a Wayland compositor without a screen, and returns the path of its socket, which WAYLAND_DISPLAY may be. Config are lines of its
// configuration, such as "xwayland enable". It ends when what is returned is closed.
func Sway(tb testing.TB, config ...string) (display string, server io.Closer) {
	tb.Helper()
	path := Need(tb, "sway", "apt-get install sway")
	folder, err := os.MkdirTemp("", "orrery-sway-") //nolint:usetesting // its daemon removes it
	if err != nil {
		tb.Fatal(err)
	}
	d := Daemon{
		Folder: folder, Path: path, Args: []string{"-c", filepath.Join(folder, "config")},
		Env: []string{
			"XDG_RUNTIME_DIR=" + folder, "HOME=" + folder, "WLR_BACKENDS=headless", "WLR_RENDERER=pixman", "WLR_LIBINPUT_NO_DEVICES=1",
			"WAYLAND_DISPLAY=", "DISPLAY=", "DBUS_SESSION_BUS_ADDRESS=",
		},
		Ready: func([]byte) bool {
			sockets, _ := filepath.Glob(filepath.Join(folder, "wayland-*"))
			for _, s := range sockets {
				if c, err := net.Dial("unix", s); err == nil { //nolint:noctx // a local socket
					display = s
					return c.Close() == nil
				}
			}
			return false
		},
	}
	lines := append([]string{"output HEADLESS-1 resolution 800x600", "xwayland disable"}, config...)
	if err := os.WriteFile(filepath.Join(folder, "config"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil { //nolint:gosec // another user reads it
		tb.Fatal(err)
	}
	if os.Geteuid() == 0 {
		d.Credential = &syscall.Credential{Uid: swayUser, Gid: swayUser}
		if err := os.Chown(folder, swayUser, swayUser); err != nil {
			tb.Fatal(err)
		}
	}
	server = Start(tb, d)
	tb.Cleanup(func() { _ = server.Close() })
	return display, server
}
