package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/kballard/go-shellquote"

	"orrery/clip"
	"orrery/clip/find"
	"orrery/clip/window"
	"orrery/clip/window/fonts"
	"orrery/clip/window/waylandwindow"
	"orrery/clip/window/x11window"
)

func hasDisplay() bool { return os.Getenv("WAYLAND_DISPLAY") != "" || os.Getenv("DISPLAY") != "" }

// pickInWindow shows the picker in a window.
func (c *cli) pickInWindow(ctx context.Context, paste bool) error {
	s, err := load(c.settings)
	if err != nil {
		return err
	}
	actions, err := s.actions()
	if err != nil {
		return err
	}
	theme, err := s.theme()
	if err != nil {
		return err
	}
	system := &fonts.System{Cache: filepath.Join(folder("XDG_CACHE_HOME", ".cache"), "orrery-clip")}
	var mu sync.Mutex
	var fine bool
	// Beside the window, which opens meanwhile, and which says what is wrong: whoever has pressed a key sees nothing else.
	ready := func() error {
		mu.Lock()
		defer mu.Unlock()
		if fine {
			return nil
		}
		err := c.unlocked(ctx)
		fine = err == nil
		return err
	}
	source := windowSource{c.source(), c, ready}
	open := func(ctx context.Context) (window.Screen, error) { return c.openWindow(ctx, source.beside) }
	return window.Run(ctx, window.Config{Source: source, Actions: actions, Paste: paste || s.Paste, Open: open, Theme: theme, Fonts: system.Find})
}

// openWindow opens a window on the display of this session: the compositor's if there is one, else the X server's, which may be XWayland where the compositor lets nobody open one.
// beside is told whether the window is one that the display tells others of.
func (c *cli) openWindow(ctx context.Context, beside *atomic.Bool) (window.Screen, error) {
	hasWayland, hasX11 := os.Getenv("WAYLAND_DISPLAY") != "", os.Getenv("DISPLAY") != ""
	if c.display == displayWayland || c.display == displayAuto && hasWayland {
		s, err := waylandwindow.Open(ctx, "")
		if err == nil {
			beside.Store(s.Layered())
			return s, nil
		}
		if c.display == displayWayland || !hasX11 || !errors.Is(err, clip.ErrUnsupported) {
			return nil, err
		}
	}
	if !hasX11 {
		return nil, fmt.Errorf("no window can be opened: %w: DISPLAY is not set", clip.ErrUnsupported)
	}
	s, err := x11window.Open(ctx, "")
	if err != nil {
		return nil, err
	}
	return s, nil
}

// windowSource is the recorder as a picker in a window sees it.
type windowSource struct {
	source

	cli   *cli
	ready func() error // whether items can be had
}

var _ window.Source = windowSource{}

// Search is window.Source's.
func (s windowSource) Search(ctx context.Context, query string, mode find.Mode, limit int) ([]clip.Summary, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	return s.source.Search(ctx, query, mode, limit)
}

// terminals are programs that open a terminal, and what comes before the command that runs in it.
var terminals = [][]string{ //nolint:gochecknoglobals // a table
	{"xdg-terminal-exec"}, {"x-terminal-emulator", "-e"}, {"foot"}, {"kitty"}, {"alacritty", "-e"}, {"konsole", "-e"}, {"gnome-terminal", "--"}, {"xterm", "-e"},
}

// EditElsewhere is window.Source's: clip edit in a terminal of the desktop. The terminal goes on when the picker has ended.
func (s windowSource) EditElsewhere(_ context.Context, id clip.ID) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := terminalFor(self, "--socket", s.cli.socket, "edit", strconv.FormatUint(uint64(id), 10))
	if err != nil {
		return err
	}
	// Not by package command: it outlives this process.
	cmd := exec.Command(program[0], program[1:]...) //nolint:gosec,noctx // the user's terminal
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot open a terminal: %w", err)
	}
	return cmd.Process.Release()
}

// terminalFor is the command that runs another one in a terminal.
func terminalFor(command ...string) ([]string, error) {
	words, err := shellquote.Split(os.Getenv("TERMINAL"))
	if err != nil {
		return nil, fmt.Errorf("TERMINAL: %w", err)
	}
	if len(words) > 0 {
		return append(append(words, "-e"), command...), nil
	}
	for _, t := range terminals {
		if path, err := exec.LookPath(t[0]); err == nil {
			return append(append([]string{path}, t[1:]...), command...), nil
		}
	}
	return nil, errors.New("there is no terminal to edit in (set TERMINAL)")
}
