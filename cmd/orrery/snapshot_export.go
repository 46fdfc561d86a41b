package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

// exported is a snapshot that was written to a file.
type exported struct {
	Snapshot state.SnapshotID `json:"snapshot"`
	File     string           `json:"file"`
	Bytes    int64            `json:"bytes"`
}

func (c *cli) snapshotExport(with onMachine, names completer) *cobra.Command {
	var raw, force bool
	cmd := &cobra.Command{
		Use:   "export NAME [FILE|-]",
		Short: "Write a snapshot to a file in the form that the service's own tools read",
		Long: `Write a snapshot to FILE, or with - to standard output, in the form that the service's own tools read: what psql or mysql
loads, a tar file, a bundle that git clones, a database file. A module that has no such form gives the snapshot's own bytes, as --raw
does. Without FILE its name is made of the component's and the generation's, in the current folder. The file, which only its
owner may read, appears when it is complete. On standard output, only the exit status says whether what came is whole.

` + naming,
		Example: `  orrery snapshot export postgresql-database/shop shop.sql
  orrery snapshot export fileset/photos@2026-11-01 - | tar tv
  orrery snapshot export git-repository/notes@12 notes.bundle && git clone notes.bundle`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(m agent.Machine) error {
				g, err := m.Locate(cmd.Context(), args[0], time.Time{})
				if err != nil {
					return err
				}
				q, extension, err := exportOf(cmd.Context(), m, g, raw)
				if err != nil {
					return err
				}
				write := func(w io.Writer) error { return m.Library.Export(cmd.Context(), q, w) }
				if len(args) == 2 && args[1] == "-" {
					return write(c.stdout)
				}
				file := exportName(g) + extension
				if len(args) == 2 {
					file = args[1]
				}
				size, err := writeWhole(file, force, write)
				if err != nil {
					return err
				}
				return c.printExported(exported{g.Snapshot, file, size})
			})
		},
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return nil, cobra.ShellCompDirectiveDefault // files
		}
		return first(names)(cmd, args, toComplete)
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "the snapshot's own bytes, as orrery snapshot import --raw takes them")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	return cmd
}

func (c *cli) printExported(e exported) error {
	if c.output == "json" {
		return c.json(e)
	}
	c.line("snapshot %s is in %s (%s)", short(e.Snapshot), e.File, commandline.Size(e.Bytes))
	return nil
}

// exportOf is the request for a generation's snapshot, and the ending of its file's name.
func exportOf(ctx context.Context, m agent.Machine, g state.Generation, raw bool) (state.ExportRequest, string, error) {
	q := state.ExportRequest{ID: g.Snapshot, Raw: raw}
	s, err := m.Store.Get(ctx, g.Snapshot)
	if err != nil {
		return q, "", err
	}
	extension := ".snapshot"
	if raw {
		return q, extension, nil
	}
	modules, err := m.Modules(ctx)
	for _, d := range modules {
		if d.Name == s.Module && d.Extension != "" {
			extension = d.Extension
		}
	}
	return q, extension, err
}

// exportName is what a generation's file is called, without its ending.
func exportName(g state.Generation) string {
	if g.Number == 0 {
		return short(g.Snapshot)
	}
	return fmt.Sprintf("%s-%d", g.Component, g.Number)
}

// writeWhole has a file written that appears under its name when it is complete and durable. A file that is there is
// replaced with force only.
func writeWhole(name string, force bool, write func(io.Writer) error) (size int64, err error) {
	switch info, err := os.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, fmt.Errorf("cannot write %s: %w", name, err)
	case !info.Mode().IsRegular():
		return 0, fmt.Errorf("cannot write %s: it is there and is no regular file (- is standard output)", name)
	case !force:
		return 0, fmt.Errorf("cannot write %s: %w (choose another name, or replace it with --force)", name, fs.ErrExist)
	}
	folder := filepath.Dir(name)
	f, err := os.CreateTemp(folder, ".orrery-export-*")
	if err != nil {
		return 0, fmt.Errorf("cannot write %s: %w", name, err)
	}
	defer func() {
		if failed := os.Remove(f.Name()); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if info, failed := f.Stat(); failed == nil {
		size = info.Size()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if err := settleName(f.Name(), name, force); err != nil {
		return 0, fmt.Errorf("cannot write %s: %w", name, err)
	}
	return size, nil
}

// settleName gives a complete file its name durably. A link is refused where the name is taken; file systems without links
// rename.
func settleName(from, to string, force bool) error {
	err := os.Link(from, to)
	if errors.Is(err, fs.ErrExist) && !force {
		return fmt.Errorf("%w (it came meanwhile)", fs.ErrExist)
	}
	if err != nil {
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	d, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
