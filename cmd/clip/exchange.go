package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"orrery/clip"
	"orrery/clip/control"
	"orrery/clip/exchange"
	"orrery/clip/policy"
	"orrery/internal/commandline"
)

// imported says what came of an import.
type imported struct {
	Imported int            `json:"imported"`
	Known    int            `json:"known"`   // the history has them
	Refused  map[string]int `json:"refused"` // by reason
}

func (c *cli) importCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "import [FILE|FOLDER|-]",
		Short: "Take over the history of another clipboard manager, or what clip export wrote",
		Long: `Take over the history of another clipboard manager, or what clip export wrote. Without a file it is where the other program keeps it. What the history has already is left
as it is, so it can be repeated; what the settings exclude is not taken.

    clip import --from cliphist
    clip import --from copyq ~/.config/copyq/copyq_tab_d29yaw==.dat
    clip export | ssh desk clip import -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(exchange.Formats(), from) {
				return commandline.Usage(fmt.Errorf("format %q is unknown (use one of %s)", from, strings.Join(exchange.Formats(), ", ")))
			}
			path := ""
			if len(args) == 1 {
				path = args[0]
			} else if from == "clip" {
				return commandline.Usage(errors.New("no file was named (what clip export wrote, or - for the standard input)"))
			}
			return c.importFrom(cmd.Context(), from, path)
		},
	}
	cmd.Flags().StringVar(&from, "from", "clip", "whose it is: "+strings.Join(exchange.Formats(), ", "))
	return cmd
}

func (c *cli) importFrom(ctx context.Context, from, path string) error {
	n := imported{Refused: map[string]int{}}
	take := func(item clip.Item) error { return c.importItem(ctx, &item, &n) }
	var err error
	if path == "-" && from == "clip" {
		err = exchange.ReadExport(ctx, c.stdin, take)
	} else {
		err = exchange.Read(ctx, from, path, take)
	}
	if c.output == "json" {
		return errors.Join(err, c.json(n))
	}
	fmt.Fprintf(c.stdout, "imported\t%d\nknown\t%d\n", n.Imported, n.Known)
	for _, why := range slices.Sorted(maps.Keys(n.Refused)) {
		fmt.Fprintf(c.stdout, "not imported\t%d: %s\n", n.Refused[why], why)
	}
	return err
}

func (c *cli) importItem(ctx context.Context, item *clip.Item, n *imported) error {
	r, _, err := c.recorder().Do(ctx, control.Request{
		Op: control.OpImport, Mark: &item.Mark, Used: item.Used, Created: item.Created, Times: item.Count, App: item.App,
	}, item.Contents...)
	switch {
	case errors.Is(err, clip.ErrTooLarge):
		n.Refused[string(policy.TooLarge)]++
	case err != nil:
		return err
	case r.Refused != "":
		n.Refused[r.Refused]++
	case r.Count == 0:
		n.Known++
	default:
		n.Imported++
	}
	return nil
}

func (c *cli) exportCommand() *cobra.Command {
	var query string
	cmd := &cobra.Command{
		Use:   "export [FILE|-]",
		Short: "Write all items, or those that match, to a file that clip import reads",
		Long: `Write all items, with all their types, to a file that clip import reads: a JSON object a line, not encrypted. The file is complete or not there, and only its user can read it.

    clip export history.json
    clip export --query 'tag:work' - | ssh desk clip import -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "-" {
				return c.export(cmd.Context(), query, c.stdout)
			}
			return c.exportFile(cmd.Context(), query, args[0])
		},
	}
	cmd.Flags().StringVar(&query, "query", "", "only items that match, as clip search has it")
	return cmd
}

// exportFile writes beside the file first.
func (c *cli) exportFile(ctx context.Context, query, path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = c.export(ctx, query, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (c *cli) export(ctx context.Context, query string, to io.Writer) error {
	ids, err := c.matching(ctx, query)
	if err != nil {
		return err
	}
	w, err := exchange.NewWriter(to)
	if err != nil {
		return err
	}
	for _, id := range slices.Backward(ids) { // the oldest first
		r, contents, err := c.recorder().Do(ctx, control.Request{Op: control.OpShow, IDs: []clip.ID{id}})
		if errors.Is(err, clip.ErrNotFound) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return err
		}
		if err := w.Write(clip.Item{Summary: *r.Summary, Created: r.Created, App: r.App, Contents: contents}); err != nil {
			return err
		}
	}
	return w.Close()
}

// matching are the ids of the items that match, or of all.
func (c *cli) matching(ctx context.Context, query string) (ids []clip.ID, err error) {
	q := control.Request{Op: control.OpList, Format: control.FormatJSON}
	if query != "" {
		q.Op, q.Query, q.Mode = control.OpSearch, query, "words"
	}
	lines, err := c.recorder().Lines(ctx, q)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	d := json.NewDecoder(bufio.NewReader(lines))
	for {
		var s clip.Summary
		switch err := d.Decode(&s); {
		case errors.Is(err, io.EOF):
			return ids, ctx.Err()
		case err != nil:
			return nil, err
		}
		ids = append(ids, s.ID)
	}
}
