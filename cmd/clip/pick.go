package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/find"
	"orrery/clip/terminal"
	"orrery/internal/commandline"
)

func (c *cli) pickCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pick",
		Short: "Show the history in the terminal, and put what is picked into the clipboard",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !term.IsTerminal(int(os.Stdin.Fd())) || !term.IsTerminal(int(os.Stdout.Fd())) {
				return commandline.Usage(errors.New("pick needs a terminal; scripts use clip list and clip copy"))
			}
			if _, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpStatus}); err != nil {
				return err
			}
			return terminal.Run(cmd.Context(), source{c.recorder()})
		},
	}
}

// source is the recorder as a picker sees it.
type source struct{ control.Client }

var _ terminal.Source = source{}

// Search is terminal.Source's.
func (s source) Search(ctx context.Context, query string, mode find.Mode, limit int) (found []clip.Summary, err error) {
	lines, err := s.Lines(ctx, control.Request{Op: control.OpSearch, Query: query, Mode: string(mode), Limit: limit, Format: control.FormatJSON})
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

// Give is terminal.Source's.
func (s source) Give(ctx context.Context, id clip.ID, plain bool) error {
	_, _, err := s.Do(ctx, control.Request{Op: control.OpGive, IDs: []clip.ID{id}, Plain: plain, Selection: clip.Clipboard})
	return err
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
