package main

import (
	"context"
	"fmt"

	"orrery/clip/window/paint"
	"orrery/clip/window/scheme"
)

// theme says which colours the window has: those of the settings, or those that the desktop prefers.
func (s *settings) theme() (func(context.Context) paint.Theme, error) {
	switch s.Window.Theme {
	case "", "auto":
		return func(ctx context.Context) paint.Theme {
			if scheme.Read(ctx) == scheme.Dark {
				return paint.Dark
			}
			return paint.Light
		}, nil
	case "light":
		return func(context.Context) paint.Theme { return paint.Light }, nil
	case "dark":
		return func(context.Context) paint.Theme { return paint.Dark }, nil
	}
	return nil, fmt.Errorf("settings: window.theme %q is unknown (use auto, light or dark)", s.Window.Theme)
}
