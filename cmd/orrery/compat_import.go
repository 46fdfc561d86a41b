package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/dysnomia"
	"orrery/state/module/external"
	"orrery/state/store"
)

// takingOver says what takeOver does, for help texts.
const takingOver = `Bring the generations of a state directory of Dysnomia into the store: of every component, in
order, each once, compared with its checksum. Dumps of PostgreSQL and MySQL become snapshots of postgresql-database and
mysql-database; the snapshots of other modules become those of an external module that speaks Dysnomia's protocol, named by the
container or by --module. They keep their times, where the component had no younger generation. The state directory is only read.`

// compatImport brings a state directory of Dysnomia into the store.
func (c *cli) compatImport() *cobra.Command {
	var modules map[string]string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "import DIR",
		Short: "Bring the generations of a state directory of Dysnomia into the store",
		Long:  takingOver + "\n\nIt is what orrery snapshot import --from-dysnomia does.",
		Args:  commandline.Exactly("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			into, err := agent.OpenStore(cmd.Context(), c.dir)
			if err != nil {
				return err
			}
			return c.takeOver(cmd, args[0], into, modules, dryRun)
		},
	}
	cmd.Flags().StringToStringVar(&modules, "module", nil, "CONTAINER=MODULE, where the container's name is not the module's")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

// takeOver brings the generations of a state directory into a store.
func (c *cli) takeOver(cmd *cobra.Command, folder string, into *store.Store, modules map[string]string, dryRun bool) error {
	from, err := filepath.Abs(folder)
	if err != nil {
		return err
	}
	t := dysnomia.Takeover{
		From: dysnomia.OpenDirectory(from, ""), Into: into, Modules: modules, DryRun: dryRun, Dump: convertDump,
		Folder: func(_ context.Context, folder string, w io.Writer) error { return external.FromFolder(folder, w) },
	}
	var all []dysnomia.Taken
	if err := t.Run(cmd.Context(), func(one dysnomia.Taken) error { all = append(all, one); return nil }); err != nil {
		return err
	}
	return c.printTaken(all, dryRun)
}

// convertDump makes a module's snapshot of a dump by the server's tools. Without such a module the dump is refused: it
// would be a snapshot that nothing restores.
func convertDump(ctx context.Context, module, file string, plain io.Reader, w io.Writer) error {
	known, ok := compatDatabases()[module]
	if _, able := known.Module.(state.Portable); !ok || !able {
		return fmt.Errorf("no module %s reads %s: %w (name another with --module)", module, file, state.ErrNotAble)
	}
	return known.Convert(ctx, plain, w)
}

func (c *cli) printTaken(all []dysnomia.Taken, dryRun bool) error {
	left := 0
	var rows [][]string
	for _, one := range all {
		what := "imported"
		switch {
		case one.Problem != "":
			what = one.Problem
			left++
		case one.Already:
			what = "is there already"
		case dryRun:
			what = "would be imported"
		}
		rows = append(rows, []string{one.From, fmt.Sprint(one.Number), one.Time.Format(time.RFC3339), one.Component, one.Module, what})
	}
	if err := c.table(all, []string{"from", "generation", "taken", "component", "module", "result"}, rows); err != nil {
		return err
	}
	if left > 0 {
		return fmt.Errorf("%d generations are damaged and were left out: %w", left, state.ErrCorrupt)
	}
	return nil
}
