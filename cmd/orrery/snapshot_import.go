package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/store"
)

// importFlags are those of the two kinds of import.
type importFlags struct {
	component    string
	modules      []string
	raw, dryRun  bool
	fromDysnomia string
}

func (c *cli) snapshotImport(with onMachine, stores func() agent.Stores, on, elsewhere *string) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE|- --component REF | --from-dysnomia DIR",
		Short: "Make a generation of a file that orrery snapshot export or the service's own tools wrote",
		Long: `Make a generation of a component of FILE, or with - of standard input: of a file that orrery snapshot export or the service's own
tools wrote (a plain dump of pg_dump, a tar file, a bundle of Git, a database file), or with --raw of a snapshot's own bytes. What is
not whole, or not of the module's kind, is refused, and the store stays as it was. The component need not exist; orrery component activate and
restore bring it into being from there.

With --from-dysnomia: ` + takingOver,
		Example: `  pg_dump --no-owner shop | orrery snapshot import - --component postgresql-database/shop
  orrery snapshot import photos.tar --component fileset/photos
  orrery snapshot import --from-dysnomia /var/state/dysnomia --dry-run`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from-dysnomia") {
				return c.importDysnomia(cmd, f, args, stores(), *on, *elsewhere)
			}
			q, err := f.request(args)
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error { return c.importFile(cmd, m, q, args[0]) })
		},
	}
	cmd.ValidArgsFunction = first(func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault // files
	})
	cmd.Flags().StringVar(&f.component, "component", "", "whose generation it becomes: CONTAINER/COMPONENT")
	cmd.Flags().StringSliceVar(&f.modules, "module", nil, "the component's module, where it does not exist yet and its container does not tell; with --from-dysnomia: CONTAINER=MODULE, where the container's name is not the module's")
	cmd.Flags().BoolVar(&f.raw, "raw", false, "FILE has the snapshot's own bytes, as orrery snapshot export --raw writes them")
	cmd.Flags().StringVar(&f.fromDysnomia, "from-dysnomia", "", "take over the generations of this state directory of Dysnomia")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "with --from-dysnomia: only say what would be done")
	mustComplete(cmd, "component", c.completeComponents(on))
	if err := cmd.MarkFlagDirname("from-dysnomia"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// request is that of one file.
func (f importFlags) request(args []string) (state.ImportRequest, error) {
	q := state.ImportRequest{Raw: f.raw}
	switch {
	case len(args) != 1:
		return q, commandline.Usage(errors.New("which file? Name one, or - for standard input"))
	case f.component == "":
		return q, commandline.Usage(errors.New("whose snapshot is it? Say --component CONTAINER/COMPONENT"))
	case f.dryRun:
		return q, commandline.Usage(errors.New("--dry-run goes with --from-dysnomia"))
	case len(f.modules) > 1 || len(f.modules) == 1 && strings.Contains(f.modules[0], "="):
		return q, commandline.Usage(errors.New("a component has one module: --module MODULE"))
	case len(f.modules) == 1:
		q.Module = f.modules[0]
	}
	var err error
	q.Ref, err = parseRef(f.component)
	return q, err
}

func (c *cli) importFile(cmd *cobra.Command, m agent.Machine, q state.ImportRequest, name string) error {
	in := c.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("cannot import: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	g, err := m.Library.Import(cmd.Context(), q, struct{ io.Reader }{in})
	if err != nil {
		return err
	}
	return c.printGenerations([]state.Generation{g})
}

// importDysnomia takes over a state directory, into this machine's store or another one.
func (c *cli) importDysnomia(cmd *cobra.Command, f importFlags, args []string, s agent.Stores, on, elsewhere string) error {
	switch {
	case len(args) > 0:
		return commandline.Usage(fmt.Errorf("--from-dysnomia has the directory already (what is %q?)", args[0]))
	case f.component != "" || f.raw:
		return commandline.Usage(errors.New("--component and --raw are for one file: --from-dysnomia takes over all components"))
	case on != "":
		return commandline.Usage(errors.New("a state directory is taken over on its own machine: call orrery there, without --on"))
	}
	modules := map[string]string{}
	for _, word := range f.modules {
		container, module, ok := strings.Cut(word, "=")
		if !ok {
			return commandline.Usage(fmt.Errorf("--module %q is not CONTAINER=MODULE", word))
		}
		modules[container] = module
	}
	take := func(into *store.Store) error { return c.takeOver(cmd, f.fromDysnomia, into, modules, f.dryRun) }
	if elsewhere != "" {
		return onStore(cmd, s, elsewhere, take)
	}
	into, err := agent.OpenStore(cmd.Context(), c.dir)
	if err != nil {
		return err
	}
	return take(into)
}
