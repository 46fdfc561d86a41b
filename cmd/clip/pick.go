package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/control"
	"orrery/clip/exchange"
	"orrery/clip/find"
	"orrery/clip/launch"
	"orrery/clip/terminal"
	"orrery/internal/commandline"
)

func (c *cli) pickCommand() *cobra.Command {
	var inWindow, inTerminal, paste bool
	cmd := &cobra.Command{
		Use:   "pick",
		Short: "Show the history, and put what is picked into the clipboard",
		Long:  `Show the history, and put what is picked into the clipboard: in the terminal if it is started in one, else in a window of its own.`,
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			terminals := term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
			switch {
			case inWindow && inTerminal:
				return commandline.Usage(errors.New("a picker is in a window or in the terminal, not in both"))
			case inTerminal && !terminals:
				return commandline.Usage(errors.New("pick --terminal needs a terminal; scripts use clip list and clip copy"))
			case !inWindow && !terminals && !hasDisplay():
				return commandline.Usage(errors.New("pick needs a terminal, or a display (neither WAYLAND_DISPLAY nor DISPLAY is set); scripts use clip list and clip copy"))
			case inWindow || !inTerminal && !terminals:
				return c.pickInWindow(cmd.Context(), paste)
			}
			if err := c.unlocked(cmd.Context()); err != nil {
				return err
			}
			s, err := load(c.settings)
			if err != nil {
				return err
			}
			actions, err := s.actions()
			if err != nil {
				return err
			}
			return terminal.Run(cmd.Context(), c.source(), actions, paste || s.Paste)
		},
	}
	cmd.Flags().BoolVar(&inWindow, "window", false, "in a window, also if it is started in a terminal")
	cmd.Flags().BoolVar(&inTerminal, "terminal", false, "in the terminal")
	cmd.Flags().BoolVar(&paste, "paste", false, "also paste what is picked into the window that had the focus before")
	return cmd
}

// unlocked says whether items can be had; it starts a recorder if none runs.
func (c *cli) unlocked(ctx context.Context) error {
	s, err := c.running(ctx)
	if err == nil && s.History.Locked {
		err = fmt.Errorf("%w (clip unlock)", clip.ErrLocked)
	}
	return err
}

// source is the recorder as a picker sees it.
type source struct {
	control.Client
	// beside says that the picker's window is none that the display tells of: the focus stays where it was.
	beside *atomic.Bool
	// pasting is kept until this process ends, and the recorder sees it end.
	pasting *func(context.Context) (string, error)
}

func (c *cli) source() source {
	return source{Client: c.recorder(), beside: new(atomic.Bool), pasting: new(func(context.Context) (string, error))}
}

var _ terminal.Source = source{}

// Search is terminal.Source's.
func (s source) Search(ctx context.Context, query string, mode find.Mode, limit int) (found []clip.Summary, err error) {
	q := control.Request{Op: control.OpSearch, Query: query, Mode: string(mode), Limit: limit, Format: control.FormatJSON}
	if strings.TrimSpace(query) == "" { // the newest, for which nothing is looked through
		q = control.Request{Op: control.OpList, Limit: limit, Format: control.FormatJSON}
	}
	lines, err := s.Lines(ctx, q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	d := json.NewDecoder(bufio.NewReader(lines))
	for {
		var item clip.Summary
		if err := d.Decode(&item); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("the recorder's answer ended early: %w", err)
		}
		found = append(found, item)
	}
}

// Show is terminal.Source's.
func (s source) Show(ctx context.Context, id clip.ID) (clip.Item, error) {
	r, contents, err := s.Do(ctx, control.Request{Op: control.OpShow, IDs: []clip.ID{id}})
	if err != nil {
		return clip.Item{}, err
	}
	return clip.Item{Summary: *r.Summary, Created: r.Created, App: r.App, Contents: contents}, nil
}

// Give is terminal.Source's. What pastes is the recorder, after this process has ended, and the terminal with it.
func (s source) Give(ctx context.Context, id clip.ID, plain, paste bool) error {
	_, _, err := s.Do(ctx, control.Request{Op: control.OpGive, IDs: []clip.ID{id}, Plain: plain, Selection: clip.Clipboard})
	if err != nil || !paste {
		return err
	}
	if *s.pasting, err = s.Paste(ctx, !s.beside.Load()); err != nil {
		return fmt.Errorf("it is in the clipboard, and was not pasted: %w", err)
	}
	return nil
}

// Pin is terminal.Source's.
func (s source) Pin(ctx context.Context, id clip.ID, pinned bool) error {
	_, _, err := s.Do(ctx, control.Request{Op: control.OpMark, IDs: []clip.ID{id}, Change: &control.Change{Pinned: &pinned}})
	return err
}

// Delete is terminal.Source's.
func (s source) Delete(ctx context.Context, id clip.ID) error {
	_, _, err := s.Do(ctx, control.Request{Op: control.OpDelete, IDs: []clip.ID{id}})
	return err
}

// Edit is terminal.Source's.
func (s source) Edit(ctx context.Context, id clip.ID, in io.Reader, out, complaints io.Writer) (*clip.Summary, error) {
	item, err := s.Show(ctx, id)
	if err != nil {
		return nil, err
	}
	text, ok := clip.PlainText(item.Contents)
	if !ok {
		text = action.Text(&item)
	}
	edited, err := launch.Edit(ctx, []byte(text), in, out, complaints)
	if err != nil || edited == nil {
		return nil, err
	}
	// What was copied stays as it was: the history never loses it.
	r, _, err := s.Do(ctx, control.Request{Op: control.OpAdd, Mark: &clip.Mark{Note: item.Note, Tags: item.Tags}}, clip.Content{Type: "text/plain;charset=utf-8", Data: edited})
	if err != nil {
		return nil, err
	}
	return r.Summary, nil
}

// Open is terminal.Source's.
func (s source) Open(ctx context.Context, address string) error { return launch.Open(ctx, address) }

// Run is terminal.Source's.
func (s source) Run(ctx context.Context, id clip.ID, a action.Action) (string, error) {
	item, err := s.Show(ctx, id)
	if err != nil {
		return "", err
	}
	printed, err := launch.Run(ctx, a, &item)
	if err != nil {
		return "", err
	}
	return string(printed), s.keep(ctx, a, printed)
}

// keep keeps what an action printed, if it is to.
func (s source) keep(ctx context.Context, a action.Action, printed []byte) error {
	q := control.Request{Op: control.OpAdd}
	switch {
	case a.Output != action.Add && a.Output != action.Copy:
		return nil
	case len(printed) == 0:
		return fmt.Errorf("action %q printed nothing", a.Name)
	case a.Output == action.Copy:
		q.Selection = clip.Clipboard
	}
	_, _, err := s.Do(ctx, q, clip.Content{Type: exchange.TypeOf(printed), Data: printed})
	return err
}
