package main

import (
	"bufio"
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
	"orrery/state/address"
)

// naming is what the help texts say about NAME.
const naming = `A snapshot or generation is named by
  3f9a2c                                the beginning of its id
  CONTAINER/COMPONENT                   the newest generation of a component (also @latest)
  CONTAINER/COMPONENT@12                a generation by its number
  CONTAINER/COMPONENT@TAG               the newest with a tag; @TAG alone where one component has it
  CONTAINER/COMPONENT@2026-11-25T10:00  the newest that is not younger; also 36h or 7d before now`

func (c *cli) snapshotCommand() *cobra.Command {
	var on, elsewhere string
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Work on a snapshot store: a machine's own, or with --store another one",
		Long:  "Work on a snapshot store: a machine's own, or with --store another one.\n\n" + naming + "\n\n" + storeNaming,
	}
	stores := c.opening(cmd)
	cmd.PersistentFlags().StringVar(&elsewhere, "store", "", "another store instead of the machine's: a folder, or a URL such as s3://bucket/prefix")
	cmd.PersistentFlags().StringVar(&on, "on", "", "name of another node of the cluster")
	mustComplete(cmd, "on", c.completeNodes())
	refs := first(c.completeComponents(&on))
	names := c.completeSnapshots(&on)
	with := c.inStore(c.onMachine(&on), stores, &elsewhere)
	cmd.AddCommand(c.scheduleCommand())
	cmd.AddCommand(
		proposing(refs, c.snapshotList(with)), proposing(first(names), c.snapshotShow(with)), proposing(names, c.snapshotDiff(with)),
		proposing(names, c.snapshotVerify(with, &elsewhere)), c.snapshotRepair(with),
		proposing(refs, c.snapshotPrune(with)), proposing(names, c.snapshotForget(with)),
		proposing(first(names), c.snapshotTag(with)), proposing(names, c.snapshotPin(with, true)), proposing(names, c.snapshotPin(with, false)),
		proposing(first(names), c.snapshotNote(with)),
		proposing(names, c.snapshotResolve(with)), c.snapshotMissing(with),
		c.snapshotMetrics(with, &on, &elsewhere),
		proposing(names, c.snapshotCopy(stores, &elsewhere)),
		c.snapshotExport(with, names), c.snapshotImport(with, stores, &on, &elsewhere),
	)
	return cmd
}

// completeSnapshots proposes the names of components and of their tags, and ids.
func (c *cli) completeSnapshots(on *string) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		var words []string
		_ = c.onMachine(on)(cmd, func(m agent.Machine) error { // a completion has nobody to tell
			all, err := m.Store.Generations(ctx, state.Ref{})
			words = snapshotWords(all, toComplete)
			return err
		})
		words = slices.DeleteFunc(words, func(word string) bool { return slices.Contains(args, word) })
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

func snapshotWords(all []state.Generation, begin string) []string {
	var words []string
	for _, g := range all {
		ref := refOf(g).String()
		words = append(words, ref)
		if strings.Contains(begin, "@") {
			words = append(words, fmt.Sprintf("%s@%d", ref, g.Number))
			for _, tag := range g.Tags {
				words = append(words, ref+"@"+tag)
			}
		}
		if begin != "" {
			words = append(words, short(g.Snapshot))
		}
	}
	slices.Sort(words)
	return slices.DeleteFunc(slices.Compact(words), func(word string) bool { return !strings.HasPrefix(word, begin) })
}

func refOf(g state.Generation) state.Ref {
	return state.Ref{Container: g.Container, Component: g.Component}
}

// optionalRef is the component that the arguments name, or the zero Ref for all.
func optionalRef(args []string) (state.Ref, error) {
	if len(args) == 0 {
		return state.Ref{}, nil
	}
	return parseRef(args[0])
}

func (c *cli) printGenerations(all []state.Generation) error {
	var rows [][]string
	grouped := slices.ContainsFunc(all, func(g state.Generation) bool { return g.Group != "" })
	for _, g := range all {
		pinned := ""
		if g.Pinned {
			pinned = "yes"
		}
		rows = append(rows, []string{
			refOf(g).String(), fmt.Sprint(g.Number), short(g.Snapshot), g.Time.Local().Format(time.DateTime), g.Reason, commandline.Size(g.Size), commandline.Size(g.Stored),
			orDash(strings.Join(g.Tags, ",")), orDash(g.Server), date(g.Verified), orDash(pinned),
		})
		if grouped {
			rows[len(rows)-1] = append(rows[len(rows)-1], orDash(g.Group))
		}
	}
	header := []string{"component", "generation", "snapshot", "time", "reason", "size", "stored", "tags", "server", "verified", "pinned"}
	if grouped {
		header = append(header, "group")
	}
	return c.table(all, header, rows)
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// filter says which generations are listed.
type filter struct {
	tags         []string
	container    string
	since, until string
	newestFirst  bool
	group        string
}

func (f *filter) apply(all []state.Generation) ([]state.Generation, error) {
	since, until, err := f.times()
	if err == nil && f.group != "" {
		all, err = address.Group(all, f.group, agent.Clock())
	}
	if errors.Is(err, state.ErrNotFound) {
		err = fmt.Errorf("%w: %w", state.ErrNoSnapshot, err)
	}
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(slices.Clone(all), func(g state.Generation) bool {
		tagged := slices.ContainsFunc(f.tags, func(tag string) bool { return slices.Contains(g.Tags, tag) })
		return len(f.tags) > 0 && !tagged || f.container != "" && g.Container != f.container ||
			g.Time.Before(since) || !until.IsZero() && g.Time.After(until)
	})
	if f.newestFirst {
		slices.SortStableFunc(chosen, func(a, b state.Generation) int { return b.Time.Compare(a.Time) })
	}
	return chosen, nil
}

func (f *filter) times() (since, until time.Time, err error) {
	if f.since != "" {
		since, err = address.Time(f.since, agent.Clock())
	}
	if f.until != "" && err == nil {
		until, err = address.Time(f.until, agent.Clock())
	}
	if err != nil {
		return since, until, commandline.Usage(err)
	}
	return since, until, nil
}

func (c *cli) snapshotList(with onMachine) *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "list [REF]",
		Short: "List the generations of a component, or of all, oldest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := optionalRef(args)
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error {
				all, err := m.Store.Generations(cmd.Context(), ref)
				if err == nil {
					all, err = f.apply(all)
				}
				if err != nil {
					return err
				}
				return c.printGenerations(all)
			})
		},
	}
	cmd.Flags().StringSliceVar(&f.tags, "tag", nil, "only those with any of these tags")
	cmd.Flags().StringVar(&f.container, "container", "", "only those of components in this container")
	cmd.Flags().StringVar(&f.since, "since", "", "only those that are not older: 2026-11-25, 2026-11-25T10:00, or a span before now such as 36h or 7d")
	cmd.Flags().StringVar(&f.until, "until", "", "only those that are not younger")
	cmd.Flags().StringVar(&f.group, "group", "", groupNaming)
	cmd.Flags().BoolVar(&f.newestFirst, "newest-first", false, "the newest generation first, whatever its component")
	return cmd
}

// shown is a snapshot and the generations that point at it.
type shown struct {
	state.Snapshot
	Generations []state.Generation `json:"generations"`
}

func (c *cli) snapshotShow(with onMachine) *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use:   "show NAME | --group GROUP",
		Short: "Describe one snapshot and the generations that point at it, or a group",
		Long:  "Describe one snapshot and the generations that point at it, or the generations of a group that were taken together.\n\n" + naming,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (group != "") == (len(args) == 1) {
				return commandline.Usage(fmt.Errorf("name a snapshot, or a group with --group (see %s --help)", cmd.CommandPath()))
			}
			return with(cmd, func(m agent.Machine) error {
				if group != "" {
					return c.showGroup(cmd.Context(), m, group)
				}
				id, err := m.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				s := shown{}
				if s.Snapshot, err = m.Store.Get(cmd.Context(), id); err != nil {
					return err
				}
				all, err := m.Store.Generations(cmd.Context(), state.Ref{})
				if err != nil {
					return err
				}
				s.Generations = slices.DeleteFunc(all, func(g state.Generation) bool { return g.Snapshot != id })
				return c.printSnapshot(s)
			})
		},
	}
	cmd.Flags().StringVar(&group, "group", "", groupNaming)
	return cmd
}

// group is what was taken together.
type group struct {
	ID          string             `json:"group"`
	Size        int                `json:"groupSize"`
	Whole       bool               `json:"whole"` // all that were taken are there
	Generations []state.Generation `json:"generations"`
}

func (c *cli) showGroup(ctx context.Context, m agent.Machine, name string) error {
	members, err := m.Group(ctx, name)
	if err != nil {
		return err
	}
	first := members[0]
	g := group{ID: first.Group, Size: first.GroupSize, Whole: len(members) == first.GroupSize, Generations: members}
	if c.output == "json" {
		return c.json(g)
	}
	if err := c.printGenerations(members); err != nil {
		return err
	}
	c.line("group %s has %d of the %d generations that were taken together", g.ID, len(members), g.Size)
	return nil
}

func (c *cli) printSnapshot(s shown) error {
	rows := [][]string{
		{"id", string(s.ID)},
		{"module", s.Module},
		{"size", commandline.Size(s.Size)},
		{"stored", commandline.Size(s.Stored)},
		{"created", date(s.Created)},
		{"parent", orDash(string(s.Parent))},
		{"depth", fmt.Sprint(s.Depth)},
	}
	for _, g := range s.Generations {
		what := []string{date(g.Time), g.Reason}
		for _, more := range []string{strings.Join(g.Tags, ","), g.Server, g.Note} {
			if more != "" {
				what = append(what, more)
			}
		}
		if g.Took > 0 {
			what = append(what, "took "+g.Took.Round(time.Millisecond).String())
		}
		if g.Group != "" {
			what = append(what, "group "+g.Group)
		}
		if g.Pinned {
			what = append(what, "pinned")
		}
		if !g.Verified.IsZero() {
			what = append(what, "verified "+date(g.Verified))
		}
		if !g.Tested.IsZero() {
			what = append(what, "tested "+date(g.Tested))
		}
		rows = append(rows, []string{fmt.Sprintf("%s@%d", refOf(g), g.Number), strings.Join(what, "; ")})
	}
	return c.table(s, []string{"what", "value"}, rows)
}

// resolved is what a name means.
type resolved struct {
	Name       string           `json:"name"`
	Snapshot   state.SnapshotID `json:"snapshot"`
	Container  string           `json:"container,omitempty"`
	Component  string           `json:"component,omitempty"`
	Generation uint64           `json:"generation,omitempty"`
	Time       time.Time        `json:"time,omitzero"`
}

func (c *cli) snapshotResolve(with onMachine) *cobra.Command {
	var before string
	cmd := &cobra.Command{
		Use:   "resolve NAME...",
		Short: "Say which snapshot and generation a name means",
		Long:  "Say which snapshot and generation a name means.\n\n" + naming,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			when, err := parseBefore(before)
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error {
				var all []resolved
				var rows [][]string
				for _, name := range args {
					g, err := m.Locate(cmd.Context(), name, when)
					if err != nil {
						return err
					}
					all = append(all, resolved{name, g.Snapshot, g.Container, g.Component, g.Number, g.Time})
					generation := "-"
					if g.Number > 0 {
						generation = fmt.Sprintf("%s@%d", refOf(g), g.Number)
					}
					rows = append(rows, []string{name, string(g.Snapshot), generation, date(g.Time)})
				}
				return c.table(all, []string{"name", "snapshot", "generation", "time"}, rows)
			})
		},
	}
	addBefore(cmd, &before)
	return cmd
}

// addBefore gives a command the flag that leaves out what is younger.
func addBefore(cmd *cobra.Command, before *string) {
	cmd.Flags().StringVar(before, "before", "", "the newest that is not younger: 2026-11-25, 2026-11-25T10:00, or a span before now such as 36h or 7d")
}

// parseBefore reads that flag; the zero time if it was not given.
func parseBefore(before string) (time.Time, error) {
	if before == "" {
		return time.Time{}, nil
	}
	when, err := address.Time(before, agent.Clock())
	if err != nil {
		return when, commandline.Usage(err)
	}
	return when, nil
}

func (c *cli) snapshotMissing(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "missing [ID...]",
		Short: "Print those ids of snapshots that the store does not have (without arguments they are read from standard input)",
		RunE: func(cmd *cobra.Command, args []string) error {
			ids := args
			if len(ids) == 0 {
				lines := bufio.NewScanner(c.stdin)
				for lines.Scan() {
					ids = append(ids, strings.Fields(lines.Text())...)
				}
				if err := lines.Err(); err != nil {
					return fmt.Errorf("cannot read ids: %w", err)
				}
			}
			return with(cmd, func(m agent.Machine) error {
				missing := []string{}
				for _, id := range ids {
					if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
						return commandline.Usage(fmt.Errorf("%.100q is not the id of a snapshot (64 hex digits)", id))
					}
					_, err := m.Store.Get(cmd.Context(), state.SnapshotID(id))
					switch {
					case errors.Is(err, state.ErrNotFound):
						missing = append(missing, id)
						c.line("%s", id)
					case err != nil:
						return err
					}
				}
				if c.output == "json" {
					return c.json(missing)
				}
				return nil
			})
		},
	}
}

// located finds the generations that names mean.
func located(cmd *cobra.Command, m agent.Machine, names []string) ([]state.Generation, error) {
	var all []state.Generation
	for _, name := range names {
		g, err := m.Locate(cmd.Context(), name, time.Time{})
		if err != nil {
			return nil, err
		}
		if g.Number == 0 {
			return nil, fmt.Errorf("no generation has snapshot %s: %w", short(g.Snapshot), state.ErrNoSnapshot)
		}
		all = append(all, g)
	}
	return all, nil
}
