package main

import (
	"strings"
	"testing"

	"orrery/clip"
	"orrery/clip/wayland/waylandtest"
	"orrery/internal/testenv"
)

// TestChoice: which display is watched, and what is said where none can be.
func TestChoice(t *testing.T) {
	x, _ := testenv.XServer(t)
	good := waylandtest.Start(t, waylandtest.Seat, waylandtest.Ext).Path
	poor := waylandtest.Start(t, waylandtest.Seat).Path // as GNOME's
	const ext = "Wayland, ext-data-control-v1"
	for _, c := range []struct{ flag, wayland, x, name, fine, err string }{
		{displayAuto, good, x, ext, "", ""},
		{displayAuto, good, "", ext, "", ""},
		{displayWayland, good, x, ext, "", ""},
		{displayX11, good, x, "X11", "through XWayland", ""},
		{displayAuto, "", x, "X11", "", ""},
		{displayAuto, poor, x, "X11", "through XWayland, as far as the compositor passes on to it what is copied: compositor at " + poor, ""},
		{displayAuto, poor, "", "", "", "by --display x11"},
		{displayWayland, poor, x, "", "", "neither ext-data-control nor wlr-data-control"},
		{displayAuto, "", "", "", "", "neither WAYLAND_DISPLAY nor DISPLAY is set"},
		{displayX11, good, "", "", "", "DISPLAY is not set"},
		{displayAuto, poor + "-gone", x, "", "", "cannot connect to the compositor at " + poor + "-gone"},
	} {
		t.Setenv("WAYLAND_DISPLAY", c.wayland)
		t.Setenv("DISPLAY", c.x)
		fine, err := (&cli{display: c.flag}).examineDisplay([]clip.Selection{clip.Clipboard, clip.Primary})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasSuffix(c.wayland, "-gone") && exitCode(err) != exitUnsupported {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || !strings.HasPrefix(fine, c.name) || !strings.Contains(fine, c.fine) || c.fine == "" && fine != c.name {
			t.Errorf("%+v: %s, %v", c, fine, err)
		}
	}
}
