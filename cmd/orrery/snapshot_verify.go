package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

// verification is how a verify is done and what it found.
type verification struct {
	readData, testRestore bool

	state.Audit
	Tested []tested `json:"tested,omitempty"`
}

// tested is a generation that was restored into a scratch component.
type tested struct {
	Container  string           `json:"container"`
	Component  string           `json:"component"`
	Generation uint64           `json:"generation"`
	Snapshot   state.SnapshotID `json:"snapshot"`
	Items      int64            `json:"items,omitempty"`
	Took       time.Duration    `json:"took,omitempty"`
	Result     string           `json:"result"` // bytes or items, whatever was compared; or what went wrong
	err        error
}

func (c *cli) snapshotVerify(with onMachine, elsewhere *string) *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify [NAME...]",
		Short: "Look for damage in the store's files and in snapshots (default: all)",
		Long: `Look for damage in the store's files, and in the snapshots that are named, or all. It names each file that is not as it
was written, and each snapshot that cannot be read whole, with its generations. Without a flag it looks whether all is
there that snapshots consist of, which is quick; damage inside the data is found only by reading.

  --read-data     also reads each snapshot whole, compares it with its id, and notes the time (list shows it)
  --test-restore  also restores the generations that are named, or the newest of each component of this machine, into
                  scratch components beside, and compares those with the snapshots

The exit status is 6 where anything is wrong. orrery snapshot repair mends what can be mended.

` + naming,
		Example: `  orrery snapshot verify --read-data
  orrery snapshot verify sqlite-database/shop --test-restore
  orrery snapshot verify --store s3://backups/home --read-data`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if v.testRestore && *elsewhere != "" {
				return commandline.Usage(errors.New("--test-restore works on the machine's own store (copy the snapshots there first: orrery snapshot copy)"))
			}
			return with(cmd, func(m agent.Machine) error { return c.verify(cmd.Context(), m, &v, args) })
		},
	}
	cmd.Flags().BoolVar(&v.readData, "read-data", false, "read each snapshot whole and compare it with its id")
	cmd.Flags().BoolVar(&v.testRestore, "test-restore", false, "restore into scratch components and compare")
	return cmd
}

func (c *cli) verify(ctx context.Context, m agent.Machine, v *verification, names []string) error {
	ids, err := snapshotIDs(ctx, m, names)
	if err != nil {
		return err
	}
	watched, end := c.watch(ctx)
	v.Audit, err = m.Store.Audit(watched, ids, v.readData)
	end()
	if err != nil {
		return err
	}
	if v.testRestore {
		if err := v.test(ctx, m, names); err != nil {
			return err
		}
	}
	if err := c.printVerification(ctx, m, v, ids); err != nil {
		return err
	}
	return v.verdict()
}

// snapshotIDs are the snapshots that the arguments name; nil, which means all, if there are none.
func snapshotIDs(ctx context.Context, m agent.Machine, names []string) ([]state.SnapshotID, error) {
	var ids []state.SnapshotID
	for _, name := range names {
		id, err := m.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// lost says whether the audit found that a snapshot is.
func (v *verification) lost(id state.SnapshotID) bool {
	return slices.ContainsFunc(v.Lost, func(l state.Loss) bool { return l.Snapshot == id })
}

// test restores what is to be tested. What is lost already is left out.
func (v *verification) test(ctx context.Context, m agent.Machine, names []string) error {
	all, err := testable(ctx, m, names)
	if err != nil {
		return err
	}
	for _, g := range all {
		if v.lost(g.Snapshot) {
			continue
		}
		t := tested{Container: g.Container, Component: g.Component, Generation: g.Number, Snapshot: g.Snapshot}
		done, err := m.Care.TestRestore(ctx, refOf(g), g.Snapshot)
		if ctx.Err() != nil {
			return err
		}
		t.Result, t.Items, t.Took, t.err = done.How, done.Items, done.Took, err
		if err != nil {
			t.Result = err.Error()
		}
		v.Tested = append(v.Tested, t)
	}
	return nil
}

// testable are the generations that are named, or the newest of each component that the machine has.
func testable(ctx context.Context, m agent.Machine, names []string) ([]state.Generation, error) {
	var all []state.Generation
	for _, name := range names {
		g, err := m.Locate(ctx, name, time.Time{})
		if err == nil && g.Number == 0 {
			err = fmt.Errorf("snapshot %s: %w: no generation has it, so that nobody knows where to restore it", short(g.Snapshot), state.ErrNoSnapshot)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	if len(names) > 0 {
		return all, nil
	}
	components, err := m.Keeper.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range components {
		generations, err := m.Store.Generations(ctx, s.Component.Ref())
		if errors.Is(err, state.ErrCorrupt) {
			continue // the audit says so
		}
		if err != nil {
			return nil, err
		}
		if len(generations) > 0 {
			all = append(all, generations[len(generations)-1])
		}
	}
	return all, nil
}

func (c *cli) printVerification(ctx context.Context, m agent.Machine, v *verification, ids []state.SnapshotID) error {
	if c.output == "json" {
		return c.json(v)
	}
	if err := c.printAudited(ctx, m, v, ids); err != nil {
		return err
	}
	if err := c.printDamages("damaged file", v.Files); err != nil {
		return err
	}
	var rows [][]string
	for _, t := range v.Tested {
		result := t.Result
		if t.err == nil {
			result = fmt.Sprintf("ok (compared by %s, %v)", t.Result, t.Took.Round(time.Millisecond))
		}
		rows = append(rows, []string{fmt.Sprintf("%s/%s@%d", t.Container, t.Component, t.Generation), result})
	}
	if len(rows) > 0 {
		if err := c.table(nil, []string{"test restore", "result"}, rows); err != nil {
			return err
		}
	}
	how := "read " + commandline.Size(v.Bytes)
	if !v.readData {
		how = "without reading their data (see --read-data)"
	}
	c.line("looked at %d snapshots, %s", v.Snapshots, how)
	return nil
}

// printAudited prints what was found of each snapshot.
func (c *cli) printAudited(ctx context.Context, m agent.Machine, v *verification, ids []state.SnapshotID) error {
	all, err := m.Store.Generations(ctx, state.Ref{})
	if err != nil && !errors.Is(err, state.ErrCorrupt) {
		return err
	}
	for _, l := range v.Lost { // of a component whose generations cannot be listed together with the others
		all = append(all, l.Generations...)
	}
	names := map[state.SnapshotID][]string{}
	listed := slices.Clone(ids)
	for _, g := range all {
		if name := fmt.Sprintf("%s@%d", refOf(g), g.Number); !slices.Contains(names[g.Snapshot], name) {
			names[g.Snapshot] = append(names[g.Snapshot], name)
		}
		if ids == nil && len(names[g.Snapshot]) == 1 && !slices.Contains(listed, g.Snapshot) {
			listed = append(listed, g.Snapshot)
		}
	}
	var rows [][]string
	for _, id := range listed {
		result := "ok"
		if i := slices.IndexFunc(v.Lost, func(l state.Loss) bool { return l.Snapshot == id }); i >= 0 {
			result = v.Lost[i].Problem
		}
		rows = append(rows, []string{short(id), orDash(some(names[id])), result})
	}
	return c.table(nil, []string{"snapshot", "generations", "result"}, rows)
}

// some are the first of many names.
func some(names []string) string {
	const shown = 3
	if len(names) > shown {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return strings.Join(names, ", ")
}

// printDamages prints files with what is said about them; nothing if there are none.
func (c *cli) printDamages(heading string, files []state.Damage) error {
	if len(files) == 0 {
		return nil
	}
	var rows [][]string
	for _, f := range files {
		var ids []string
		for _, id := range f.Snapshots {
			ids = append(ids, short(id))
		}
		rows = append(rows, []string{f.File, orDash(some(ids)), f.Problem})
	}
	return c.table(nil, []string{heading, "snapshots lost by it", "problem"}, rows)
}

// verdict is the error that a verification ends with.
func (v *verification) verdict() error {
	var failed []error
	if !v.Whole() {
		failed = append(failed, fmt.Errorf("%d snapshots cannot be read whole, %d files are damaged: %w (orrery snapshot repair --dry-run says what can be mended)",
			len(v.Lost), len(v.Files), state.ErrCorrupt))
	}
	for _, t := range v.Tested {
		if t.err != nil {
			failed = append(failed, t.err)
		}
	}
	return errors.Join(failed...)
}
