package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"orrery/clip"
	"orrery/clip/wayland"
	"orrery/clip/x11"
)

// What --display may be.
const (
	displayAuto    = "auto"
	displayWayland = "wayland"
	displayX11     = "x11"
)

// open connects to the display of this session: one, because a compositor passes on to XWayland what is copied, and back, so that who
// watched both would hear all twice.
func (c *cli) open(selections []clip.Selection, log *slog.Logger) (clip.Display, error) {
	d, why, err := c.choose(selections, log)
	if err == nil && why != nil && log != nil {
		log.Warn("watching XWayland's clipboard, as far as the compositor passes on to it what is copied", "why", why)
	}
	return d, err
}

// choose is open; why says why it is XWayland's and not the compositor's.
func (c *cli) choose(selections []clip.Selection, log *slog.Logger) (d clip.Display, why, err error) {
	hasWayland, hasX11 := os.Getenv("WAYLAND_DISPLAY") != "", os.Getenv("DISPLAY") != ""
	if c.display == displayWayland || c.display == displayAuto && hasWayland {
		d, err := wayland.Open(wayland.Config{Selections: selections, Logger: log})
		if err == nil {
			return d, nil, nil
		}
		if c.display == displayWayland || !hasX11 || !errors.Is(err, clip.ErrUnsupported) {
			return nil, nil, err
		}
		why = err
	}
	if !hasX11 {
		what := "there is no X server here: %w: DISPLAY is not set"
		if c.display == displayAuto {
			what = "there is no display here: %w: neither WAYLAND_DISPLAY nor DISPLAY is set (start it in the desktop's session)"
		}
		return nil, nil, fmt.Errorf(what, clip.ErrUnsupported)
	}
	x, err := x11.Open(x11.Config{Selections: selections, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	return x, why, nil
}

// examineDisplay says for clip doctor what is watched, and how.
func (c *cli) examineDisplay(selections []clip.Selection) (string, error) {
	d, why, err := c.choose(selections, nil)
	if err != nil {
		return "", err
	}
	fine := d.Name()
	switch {
	case why != nil:
		fine += fmt.Sprintf(", through XWayland, as far as the compositor passes on to it what is copied: %v", why)
	case os.Getenv("WAYLAND_DISPLAY") != "" && c.display == displayX11:
		fine += ", through XWayland, as far as the compositor passes on to it what is copied"
	}
	return fine, d.Close()
}
