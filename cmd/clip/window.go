package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"orrery/clip"
	"orrery/clip/window"
	"orrery/clip/window/fonts"
	"orrery/clip/window/x11window"
)

func hasDisplay() bool { return os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("DISPLAY") != "" }

// pickInWindow shows the picker in a window.
func (c *cli) pickInWindow(ctx context.Context) error {
	system := &fonts.System{Cache: filepath.Join(folder("XDG_CACHE_HOME", ".cache"), "orrery-clip")}
	return window.Run(ctx, window.Config{Source: source{c.recorder()}, Open: c.openWindow, Fonts: system.Find})
}

// openWindow opens a window on the display of this session.
func (c *cli) openWindow(ctx context.Context) (window.Screen, error) {
	if os.Getenv("DISPLAY") == "" {
		return nil, fmt.Errorf("no window can be opened: %w: DISPLAY is not set", clip.ErrUnsupported)
	}
	s, err := x11window.Open(ctx, "")
	return s, errors.Join(err)
}
