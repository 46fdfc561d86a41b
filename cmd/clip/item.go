package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/exchange"
	"orrery/internal/commandline"
)

func (c *cli) showCommand() *cobra.Command {
	var kind string
	var types bool
	cmd := &cobra.Command{
		Use:   "show [ID|-]",
		Short: "Print an item's content, byte for byte",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.one(args)
			if err != nil {
				return err
			}
			r, contents, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpShow, IDs: []clip.ID{id}})
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(clip.Item{Summary: *r.Summary, Created: r.Created, App: r.App, Contents: contents})
			}
			if types {
				for _, content := range contents {
					fmt.Fprintf(c.stdout, "%s\t%d\n", content.Type, len(content.Data))
				}
				return nil
			}
			data, err := choose(contents, kind)
			if err != nil {
				return fmt.Errorf("item %d: %w", id, err)
			}
			_, err = c.stdout.Write(data)
			return err
		},
	}
	cmd.Flags().StringVarP(&kind, "type", "t", "", "the type to print (default: the text, or else the first)")
	cmd.Flags().BoolVar(&types, "types", false, "print the types that the item has, and their sizes")
	return cmd
}

// choose finds the content that is meant.
func choose(contents []clip.Content, kind string) ([]byte, error) {
	if kind == "" {
		if text, ok := clip.PlainText(contents); ok {
			return []byte(text), nil
		}
		return contents[0].Data, nil
	}
	names := clip.Names(contents)
	if at, ok := names[kind]; ok {
		return contents[at].Data, nil
	}
	var have []string
	for _, content := range contents {
		have = append(have, content.Type)
	}
	return nil, fmt.Errorf("type %s: %w (it has %s)", kind, clip.ErrNotFound, strings.Join(have, ", "))
}

func (c *cli) copyCommand() *cobra.Command {
	var plain, primary bool
	cmd := &cobra.Command{
		Use:   "copy [ID|-]",
		Short: "Put an item back into the clipboard",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := c.one(args)
			if err != nil {
				return err
			}
			return c.said(c.recorder().Do(cmd.Context(), control.Request{Op: control.OpGive, IDs: []clip.ID{id}, Plain: plain, Selection: selection(primary)}))
		},
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "the text alone, without markup and other types")
	cmd.Flags().BoolVarP(&primary, "primary", "p", false, "into the primary selection")
	return cmd
}

// said prints an answer's item where JSON was asked for.
func (c *cli) said(r *control.Response, _ []clip.Content, err error) error {
	if err != nil || c.output != "json" || r.Summary == nil {
		return err
	}
	return c.json(r.Summary)
}

func (c *cli) addCommand() *cobra.Command {
	var kind, note string
	var tags []string
	var put, primary, pin bool
	cmd := &cobra.Command{
		Use:   "add [FILE|-]",
		Short: "Keep a file, or the standard input, as an item",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := c.input(args)
			if err != nil {
				return err
			}
			if kind == "" {
				kind = exchange.TypeOf(data)
			}
			q := control.Request{Op: control.OpAdd, Mark: &clip.Mark{Pinned: pin, Note: note, Tags: tags}}
			if put || primary {
				q.Selection = selection(primary)
			}
			r, _, err := c.recorder().Do(cmd.Context(), q, clip.Content{Type: kind, Data: data})
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(r.Summary)
			}
			fmt.Fprintln(c.stdout, r.Summary.ID)
			return nil
		},
	}
	cmd.Flags().StringVarP(&kind, "type", "t", "", "its MIME type (default: what it looks like)")
	cmd.Flags().BoolVarP(&put, "copy", "c", false, "also put it into the clipboard")
	cmd.Flags().BoolVarP(&primary, "primary", "p", false, "also put it into the primary selection")
	cmd.Flags().BoolVar(&pin, "pin", false, "pin it")
	cmd.Flags().StringVar(&note, "note", "", "a note")
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "tags")
	return cmd
}

func (c *cli) input(args []string) ([]byte, error) {
	from := c.stdin
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // it was only read
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, clip.MaxItem+1))
	if err == nil && len(data) > clip.MaxItem {
		err = fmt.Errorf("%w: an item has at most %d bytes", clip.ErrTooLarge, clip.MaxItem)
	}
	return data, err
}

func (c *cli) deleteCommand() *cobra.Command {
	var wipe bool
	cmd := &cobra.Command{
		Use:   "delete [ID...|-]",
		Short: "Delete items, also from the clipboard",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := c.ids(args)
			if err != nil {
				return err
			}
			r, _, err := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpDelete, IDs: ids})
			if err != nil {
				return err
			}
			if r.Count < len(ids) {
				err = fmt.Errorf("%d of %d items: %w", len(ids)-r.Count, len(ids), clip.ErrNotFound)
			}
			if wipe {
				_, _, err2 := c.recorder().Do(cmd.Context(), control.Request{Op: control.OpCompact})
				err = errors.Join(err, err2)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&wipe, "wipe", false, "also write the history anew, so that their bytes are gone from the disk's files")
	return cmd
}

// mark changes what is said of items.
func (c *cli) mark(cmd *cobra.Command, args []string, change control.Change) error {
	ids, err := c.ids(args)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := c.said(c.recorder().Do(cmd.Context(), control.Request{Op: control.OpMark, IDs: []clip.ID{id}, Change: &change})); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) pinCommand() *cobra.Command {
	yes := true
	return &cobra.Command{
		Use: "pin [ID...|-]", Short: "Exempt items from all limits",
		RunE: func(cmd *cobra.Command, args []string) error { return c.mark(cmd, args, control.Change{Pinned: &yes}) },
	}
}

func (c *cli) unpinCommand() *cobra.Command {
	no := false
	return &cobra.Command{
		Use: "unpin [ID...|-]", Short: "Let limits hold for items again",
		RunE: func(cmd *cobra.Command, args []string) error { return c.mark(cmd, args, control.Change{Pinned: &no}) },
	}
}

func (c *cli) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tag TAG [ID...|-]", Short: "Give items a tag", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.mark(cmd, args[1:], control.Change{Tag: args[:1]})
		},
	}
}

func (c *cli) untagCommand() *cobra.Command {
	return &cobra.Command{
		Use: "untag TAG [ID...|-]", Short: "Take a tag from items", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.mark(cmd, args[1:], control.Change{Untag: args[:1]})
		},
	}
}

func (c *cli) noteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "note ID TEXT", Short: "Say something of an item; it is found by that, too", Args: commandline.Exactly("ID", "TEXT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.mark(cmd, args[:1], control.Change{Note: &args[1]})
		},
	}
}

func (c *cli) expireCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "expire ID DURATION",
		Short: "Delete an item after a time, also from the clipboard; 0: never",
		Args:  commandline.Exactly("ID", "DURATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := time.ParseDuration(args[1])
			if err != nil || d < 0 {
				return commandline.Usage(fmt.Errorf("%q is no duration such as 10m", args[1]))
			}
			var at time.Time
			if d > 0 {
				at = time.Now().Add(d)
			}
			return c.mark(cmd, args[:1], control.Change{Expires: &at})
		},
	}
}
