package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

// exitDiffers is the status for states that differ, where --exit-code asks for it; what is a failure otherwise is exitTrouble
// then, as diff and cmp have it.
const (
	exitDiffers = 1
	exitTrouble = 2
)

// showing are the flags of the commands that show differences.
type showing struct {
	records  bool
	limit    int
	exitCode bool
}

// manyRecords is how many records of a group are named unless another number is asked for.
const manyRecords = 20

func (s *showing) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.records, "records", false, "name the records that differ, which shows content: keys, paths, rows")
	cmd.Flags().IntVar(&s.limit, "limit", manyRecords, fmt.Sprintf("how many of them in each group (%d in all at most)", state.MaxRecords))
	cmd.Flags().BoolVar(&s.exitCode, "exit-code", false, "exit with 1 where something differs, and with 2 instead of 1 on failure")
}

func (s *showing) wanted() (int, error) {
	switch {
	case s.limit < 1 || s.limit > state.MaxRecords:
		return 0, commandline.Usage(fmt.Errorf("--limit is from 1 to %d, not %d", state.MaxRecords, s.limit))
	case !s.records:
		return 0, nil
	}
	return s.limit, nil
}

// status makes of how a comparison ended what --exit-code says.
func (s *showing) status(d state.Difference, err error) error {
	switch {
	case !s.exitCode:
		return err
	case err == nil && differs(d):
		return programEnded{exitDiffers}
	case err != nil && exitCode(err) == exitFailure:
		return troubled{err}
	}
	return err
}

// troubled is a failure of a command whose status 1 says something else.
type troubled struct{ error }

func (t troubled) Unwrap() error { return t.error }

// differs says whether there is a difference that anybody can name, or one that nobody can.
func differs(d state.Difference) bool { return len(d.Groups) > 0 || !d.Same && d.Unable != "" }

// compared is a state.Difference, and what was compared in words.
type compared struct {
	From string `json:"from"`
	To   string `json:"to"`
	state.Difference
}

func (c *cli) snapshotDiff(with onMachine) *cobra.Command {
	var s showing
	var live bool
	cmd := &cobra.Command{
		Use:   "diff NAME [NAME | --live]",
		Short: "Say which tables and files differ between two snapshots, and by how many rows",
		Long: `Say in which tables, folders or kinds of keys two snapshots of one module differ, and by how many records: rows, files, keys. With
one NAME, the generation is compared with the one before it; with --live, the component as it is now is compared with it.
A record with a name (a path, a key, a row with a primary key) changes; a row without one is removed, and another is added.

` + naming,
		Example: `  orrery snapshot diff postgresql-database/shop@12 postgresql-database/shop
  orrery snapshot diff sqlite-database/notes@release-7 --live --records
  orrery snapshot diff fileset/photos --exit-code && echo nothing new`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			records, err := s.wanted()
			if err != nil {
				return err
			}
			if live && len(args) == 2 {
				return commandline.Usage(fmt.Errorf("compare with a second snapshot or with --live (see %s --help)", cmd.CommandPath()))
			}
			var d state.Difference
			err = with(cmd, func(m agent.Machine) error {
				q, names, err := chooseSides(cmd, m, args, live)
				if err != nil {
					return err
				}
				q.Records = records
				watched, end := c.watch(cmd.Context())
				d, err = m.Library.Diff(watched, q)
				end()
				if err != nil {
					return err
				}
				return c.printDifference(compared{names[0], names[1], d})
			})
			return s.status(d, err)
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "compare with the component as it is now")
	s.add(cmd)
	return cmd
}

// chooseSides finds what to compare, the older first where only one is named, and what that is called.
func chooseSides(cmd *cobra.Command, m agent.Machine, args []string, live bool) (q state.DiffRequest, names [2]string, err error) {
	var found []state.Generation
	for _, name := range args {
		g, err := m.Locate(cmd.Context(), name, time.Time{})
		if err != nil {
			return q, names, err
		}
		found = append(found, g)
	}
	if len(found) == 2 {
		q.Old.ID, q.New.ID = found[0].Snapshot, found[1].Snapshot
		return q, [2]string{generationName(found[0]), generationName(found[1])}, nil
	}
	g := found[0]
	if g.Number == 0 {
		return q, names, fmt.Errorf("no generation has snapshot %s, so that nothing says what to compare it with (name a second one): %w",
			short(g.Snapshot), state.ErrNoSnapshot)
	}
	if live {
		q.Old.ID, q.New.Live = g.Snapshot, refOf(g)
		return q, [2]string{generationName(g), refOf(g).String() + " now"}, nil
	}
	before, err := precedent(cmd, m, g)
	q.Old.ID, q.New.ID = before.Snapshot, g.Snapshot
	return q, [2]string{generationName(before), generationName(g)}, err
}

// precedent is the generation before another one of the same component.
func precedent(cmd *cobra.Command, m agent.Machine, g state.Generation) (state.Generation, error) {
	all, err := m.Store.Generations(cmd.Context(), refOf(g))
	if err != nil {
		return state.Generation{}, err
	}
	for _, earlier := range slices.Backward(all) {
		if earlier.Number < g.Number {
			return earlier, nil
		}
	}
	return state.Generation{}, fmt.Errorf("there is no generation before %s (name a second snapshot, or compare with --live): %w", generationName(g), state.ErrNoSnapshot)
}

// generationName is how a generation is written.
func generationName(g state.Generation) string {
	if g.Number == 0 {
		return short(g.Snapshot)
	}
	return fmt.Sprintf("%s@%d", refOf(g), g.Number)
}

func (c *cli) printDifference(d compared) error {
	if c.output == "json" {
		return c.json(d)
	}
	err := c.table(d, []string{"side", "state", "snapshot", "size", "records"}, [][]string{
		aspectRow("old", d.From, d.Old, d.Unable), aspectRow("new", d.To, d.New, d.Unable),
	})
	c.line("")
	switch {
	case err != nil:
	case d.Same:
		c.line("they are the same")
	case d.Unable != "":
		c.line("they differ, and it is not known in what: %s", d.Unable)
	case len(d.Groups) == 0 && d.Partial:
		c.line("no record differs")
	case len(d.Groups) == 0:
		c.line("no record differs; the snapshots are not the same byte for byte in what is around the records")
	default:
		err = c.printGroups(d)
	}
	return err
}

func aspectRow(side, name string, a state.Aspect, unable string) []string {
	records := fmt.Sprint(a.Records)
	if unable != "" || a.Records == 0 && a.Size != 0 {
		records = "-"
	}
	return []string{side, name, orDash(short(a.ID)), commandline.Size(a.Size), records}
}

func (c *cli) printGroups(d compared) error {
	var rows, records [][]string
	var all state.Group
	for _, g := range d.Groups {
		name := groupName(g)
		change := "differs"
		if g.Whole != "" {
			change = g.Whole
		}
		row := groupRow(name, change, g)
		if d.Partial {
			row[len(row)-2], row[len(row)-1] = "-", "-"
		}
		rows = append(rows, row)
		all.Added, all.Removed, all.Changed = all.Added+g.Added, all.Removed+g.Removed, all.Changed+g.Changed
		for _, r := range g.Records {
			records = append(records, []string{r.Change, name, r.Name})
		}
		if more := g.Added + g.Removed + g.Changed - int64(len(g.Records)); more > 0 && len(g.Records) > 0 {
			records = append(records, []string{"…", name, fmt.Sprintf("and %d more", more)})
		}
	}
	err := c.table(d, []string{"part", "change", "added", "removed", "changed", "before", "after"}, rows)
	if len(records) > 0 && err == nil {
		c.line("")
		err = c.table(d, []string{"change", "part", "record"}, records)
	}
	if err == nil {
		c.line("")
		c.line("%d added, %d removed, %d changed", all.Added, all.Removed, all.Changed)
	}
	return err
}

// groupName is what people see of a group that has no name: what is in no folder, or of no kind.
func groupName(g state.Group) string {
	if g.Name == "" {
		return "."
	}
	return g.Name
}

func groupRow(name, change string, g state.Group) []string {
	row := []string{name, change}
	for _, n := range []int64{g.Added, g.Removed, g.Changed, g.Old, g.New} {
		row = append(row, fmt.Sprint(n))
	}
	return row
}

func (c *cli) forkDiff(with onMachine) *cobra.Command {
	var s showing
	var q state.ForkDiffRequest
	cmd := &cobra.Command{
		Use:   "diff FORK",
		Short: "Say which tables and files of a fork differ from its origin, and by how many rows",
		Long: `Say in which tables, folders or kinds of keys a fork differs from its origin as that is now, and by how many records; or, of a
fork that was made of a stored snapshot, with --beginning from that: which is what the fork changed.`,
		Args: commandline.Exactly("FORK"),
	}
	cmd.RunE = c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
		var err error
		if q.Records, err = s.wanted(); err != nil {
			return err
		}
		q.Fork = r
		watched, end := c.watch(cmd.Context())
		d, err := m.Care.DiffFork(watched, q)
		end()
		if err == nil {
			err = c.printDifference(compared{aspectName(d.Old), aspectName(d.New), d})
		}
		return s.status(d, err)
	})
	cmd.Flags().BoolVar(&q.Beginning, "beginning", false, "compare with the snapshot that the fork was made of, instead of its origin as that is now")
	s.add(cmd)
	return cmd
}

func aspectName(a state.Aspect) string {
	if a.Live != nil {
		return a.Live.String() + " now"
	}
	return short(a.ID)
}
