package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"orrery/clip/control"
	"orrery/internal/commandline"
)

// lineFlags are how commands that print items print them.
func lineFlags(cmd *cobra.Command, null *bool) {
	cmd.Flags().BoolVarP(null, "null", "0", false, "end each item with a zero byte in place of a line feed")
}

func (c *cli) format(null bool) string {
	switch {
	case c.output == "json":
		return control.FormatJSON
	case null:
		return control.FormatNUL
	}
	return control.FormatTSV
}

// print copies the recorder's lines.
func (c *cli) print(ctx context.Context, q control.Request) error {
	lines, err := c.recorder().Lines(ctx, q)
	if err != nil {
		return err
	}
	_, err = io.Copy(c.stdout, lines)
	if ctx.Err() != nil {
		err = nil // a watch ends by being interrupted
	}
	return errors.Join(err, lines.Close())
}

func (c *cli) listCommand() *cobra.Command {
	var limit int
	var null bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print all items, the one that was copied last first",
		Long: `Print all items, the one that was copied last first: id, tab, the beginning of the text. With -o json a JSON object a line. Menus work with it:

    clip list | fzf --with-nth 2.. | clip copy
    clip list | rofi -dmenu | clip copy`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.print(cmd.Context(), control.Request{Op: control.OpList, Limit: limit, Format: c.format(null)})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 0, "print at most this many; 0: all")
	lineFlags(cmd, &null)
	return cmd
}

func (c *cli) searchCommand() *cobra.Command {
	var limit int
	var null bool
	var mode string
	cmd := &cobra.Command{
		Use:   "search QUERY...",
		Short: "Print the items that match, the best first",
		Long: `Print the items that match, the best first. Words of these forms filter: type:text (html, image, files, other), tag:NAME, is:pinned, is:tagged,
before:2026-11-01, after:12h.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.print(cmd.Context(), control.Request{Op: control.OpSearch, Query: strings.Join(args, " "), Mode: mode, Limit: limit, Format: c.format(null)})
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 0, "print at most this many; 0: all")
	cmd.Flags().StringVarP(&mode, "mode", "m", "words", "how the query is meant: words, exact, fuzzy or regexp")
	lineFlags(cmd, &null)
	return cmd
}

func (c *cli) watchCommand() *cobra.Command {
	var null bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print each item when it is recorded, until Ctrl-C",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.print(cmd.Context(), control.Request{Op: control.OpWatch, Format: c.format(null)})
		},
	}
	lineFlags(cmd, &null)
	commandline.Endless(cmd)
	return cmd
}
