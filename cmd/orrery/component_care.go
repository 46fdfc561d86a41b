package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/address"
	"orrery/state/keeper"
)

// caller is who leases components: the account that runs the command.
func caller() string {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	if account, err := user.Current(); err == nil {
		return account.Username + "@" + host
	}
	return fmt.Sprintf("%d@%s", os.Getuid(), host)
}

type refCommand = func(use, short string, do func(*cobra.Command, agent.Machine, state.Ref) error) *cobra.Command

// addExaminations adds the commands that find out how a component is.
func (c *cli) addExaminations(cmd *cobra.Command, onRef refCommand) {
	verdict := func(r state.Ref, what, word string) error {
		if c.output == "json" {
			return c.json(map[string]any{"component": r, what: true})
		}
		c.line("%s %s", r, word)
		return nil
	}
	cmd.AddCommand(
		onRef("health", "Say whether a component serves; the exit code is 1 if it does not", func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			if err := m.Care.Health(cmd.Context(), r); err != nil {
				return err
			}
			return verdict(r, "healthy", "is well")
		}),
		onRef("check", "Look for damage in a component's own structures, which may read all of it", func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			if err := m.Care.Integrity(cmd.Context(), r); err != nil {
				return err
			}
			return verdict(r, "intact", "is intact")
		}),
		onRef("size", "Say how large a component's state is", func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			s, err := m.Keeper.Status(cmd.Context(), r)
			if err != nil {
				return err
			}
			if s.Size < 0 {
				return fmt.Errorf("size of %s: %w tell: %s", r, state.ErrNotAble, s.Component.Module)
			}
			if c.output == "json" {
				return c.json(map[string]any{"component": r, "bytes": s.Size})
			}
			c.line("%d", s.Size)
			return nil
		}),
	)
}

func (c *cli) componentLock(with onMachine) *cobra.Command {
	var lasting time.Duration
	cmd := &cobra.Command{
		Use:   "lock REF",
		Short: "Keep others from restoring, migrating or deactivating a component, for a while",
		Long: `Keep others from restoring, migrating or deactivating a component, for a while. A component that can hold still is asked
to, and may refuse. The lock is of the account that runs the command; locking again prolongs it.`,
		Args: commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			lease, err := m.Care.Lock(cmd.Context(), r, caller(), lasting)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(lease)
			}
			c.line("%s is locked by %s until %s", r, lease.By, lease.Until.Format(time.DateTime))
			return nil
		}),
	}
	cmd.Flags().DurationVar(&lasting, "for", 10*time.Minute, "how long")
	return cmd
}

func (c *cli) componentUnlock(with onMachine) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "unlock REF",
		Short: "End a lock",
		Args:  commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			if err := m.Care.Unlock(cmd.Context(), r, caller(), force); err != nil {
				return err
			}
			c.line("%s is not locked", r)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also if it is somebody else's")
	return cmd
}

// onComponent is a command whose first argument names a component.
func (c *cli) onComponent(with onMachine, do func(*cobra.Command, agent.Machine, state.Ref) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ref, err := parseRef(args[0])
		if err != nil {
			return err
		}
		return with(cmd, func(m agent.Machine) error { return do(cmd, m, ref) })
	}
}

func (c *cli) componentMigrate(with onMachine) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "migrate REF",
		Short: "Carry out the schema migrations that a component has files of, after a snapshot",
		Long: `Carry out the schema migrations that a component has files of and that were not carried out yet, in order, after a snapshot. If one
fails, the state is as it was before. The files come with orrery component activate --migrations, which carries them out as well.`,
		Args: commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			done, err := m.Care.Migrate(cmd.Context(), r, dryRun)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]any{"migrations": orEmpty(done), "dryRun": dryRun})
			}
			verb := "carried out"
			if dryRun {
				verb = "would carry out"
			}
			for _, migration := range done {
				c.line("%s %s", verb, migration.Name)
			}
			if len(done) == 0 {
				c.line("%s has nothing to migrate", r)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be carried out")
	return cmd
}

// orEmpty is a slice that is [] in JSON, and not null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// provideMigrations gives the machine the scripts of a folder, as files of a component.
func provideMigrations(ctx context.Context, m agent.Machine, files map[string]string, folder string) error {
	if folder == "" {
		return nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("cannot read the migrations: %w", err)
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || filepath.Ext(e.Name()) == ".md" {
			continue
		}
		sum, err := m.Provide(ctx, filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		files[keeper.MigrationPrefix+e.Name()] = sum
		found = true
	}
	if !found {
		return fmt.Errorf("folder %s has no migrations (files named 0001-name.sql ...)", folder)
	}
	return nil
}

func (c *cli) componentTestRestore(with onMachine) *cobra.Command {
	var pick selection
	cmd := &cobra.Command{
		Use:   "test-restore REF",
		Short: "Restore a snapshot into a scratch component, compare the two, and remove the scratch",
		Long:  "Restore a snapshot into a scratch component beside, compare its state with the snapshot, and remove it. The component itself is not touched.",
		Args:  commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			id, err := pick.find(cmd.Context(), m, r)
			if err != nil {
				return err
			}
			t, err := m.Care.TestRestore(cmd.Context(), r, id)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(t)
			}
			c.line("snapshot %s restores to the state that it was taken of (compared by %s, %v)", short(t.Snapshot), t.How, t.Took.Round(time.Millisecond))
			return nil
		}),
	}
	pick.flags(cmd)
	return cmd
}

// selection are the flags that choose a generation of a component.
type selection struct {
	snapshot   string
	generation uint64
	tag        string
	before     string
}

func (s *selection) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.snapshot, "snapshot", "", "id of the snapshot, or its beginning (default: the newest)")
	cmd.Flags().Uint64Var(&s.generation, "generation", 0, "number of the generation")
	cmd.Flags().StringVar(&s.tag, "tag", "", "the newest generation with this tag")
	cmd.Flags().StringVar(&s.before, "before", "", "the newest generation from before a time (2006-01-02T15:04:05Z, 2006-01-02) or a duration ago (36h)")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "generation", "tag", "before")
}

// find returns the snapshot that the flags choose; empty for the newest.
func (s *selection) find(ctx context.Context, m agent.Machine, r state.Ref) (state.SnapshotID, error) {
	if s.generation == 0 && s.tag == "" && s.before == "" {
		return m.Find(ctx, s.snapshot)
	}
	before := time.Time{}
	if s.before != "" {
		var err error
		if before, err = address.Time(s.before, agent.Clock()); err != nil {
			return "", commandline.Usage(err)
		}
	}
	all, err := m.Store.Generations(ctx, r)
	if err != nil {
		return "", err
	}
	for _, g := range slices.Backward(all) {
		if s.fits(g, before) {
			return g.Snapshot, nil
		}
	}
	return "", fmt.Errorf("no generation of %s is the one asked for: %w (see orrery snapshot list %s)", r, state.ErrNoSnapshot, r)
}

func (s *selection) fits(g state.Generation, before time.Time) bool {
	switch {
	case s.generation != 0:
		return g.Number == s.generation
	case s.tag != "":
		return slices.Contains(g.Tags, s.tag)
	}
	return g.Time.Before(before)
}
