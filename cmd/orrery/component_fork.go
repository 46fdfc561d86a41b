package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

func (c *cli) componentFork(with onMachine, forks completer) *cobra.Command {
	var q state.ForkRequest
	var pick selection
	cmd := &cobra.Command{
		Use:   "fork REF --as NAME",
		Short: "Make a writable copy of a component",
		Long: `Make a writable copy of an active component beside it, or of what it was in a stored snapshot. The answer says by which method:
reflink, template, thin and layered share storage with the origin in some way, copy and restore hold all bytes again.`,
		Example: `  orrery component fork postgresql-database/orders --as orders-try --expires 2h
  orrery component fork fileset/photos --as photos-may --before 2026-05-01`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			if len(args) == 2 && q.As == "" {
				q.As = args[1]
			} else if len(args) == 2 || q.As == "" {
				return commandline.Usage(fmt.Errorf("a fork has one name: --as NAME (see %s --help)", cmd.CommandPath()))
			}
			return with(cmd, func(m agent.Machine) error {
				q.From = ref
				if cmd.Flags().Changed("at") || pick.generation != 0 || pick.tag != "" || pick.before != "" {
					if q.At, err = pick.find(cmd.Context(), m, ref); err != nil {
						return err
					}
				}
				status, err := m.Care.ForkAs(cmd.Context(), q)
				if err != nil {
					return err
				}
				return c.printComponent(status)
			})
		},
	}
	cmd.Flags().StringVar(&q.As, "as", "", "the fork's name")
	cmd.Flags().StringVar(&pick.snapshot, "at", "", "begin as this snapshot: its id, or the beginning of that")
	cmd.Flags().Uint64Var(&pick.generation, "generation", 0, "begin as this generation")
	cmd.Flags().StringVar(&pick.tag, "tag", "", "begin as the newest generation with this tag")
	cmd.Flags().StringVar(&pick.before, "before", "", "begin as the newest generation from before a time")
	cmd.MarkFlagsMutuallyExclusive("at", "generation", "tag", "before")
	cmd.Flags().StringVar(&q.Method, "method", "", "copy, reflink, template, thin, layered or restore (default: the best that can be gone)")
	cmd.Flags().DurationVar(&q.Expires, "expires", 0, "delete the fork after this time, without a snapshot (default: never)")
	cmd.Flags().StringVar(&q.Owner, "owner", "", "whose fork it is (default: the account that runs the command)")
	cmd.PreRun = func(*cobra.Command, []string) {
		if q.Owner == "" {
			q.Owner = caller()
		}
	}
	cmd.AddCommand(c.forkList(with), c.forkExpire(with),
		proposing(forks, c.forkDiff(with)), proposing(forks, c.forkReset(with)), proposing(forks, c.forkDelete(with)))
	return cmd
}

func (c *cli) forkList(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the forks, with origin, method, owner and expiry", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(m agent.Machine) error {
				all, err := m.Keeper.List(cmd.Context())
				if err != nil {
					return err
				}
				forks := []state.Status{}
				var rows [][]string
				for _, s := range all {
					if s.Branch == nil || isReplica(s) {
						continue
					}
					forks = append(forks, s)
					expires := "-"
					if !s.Branch.Expires.IsZero() {
						expires = s.Branch.Expires.Format(time.DateTime)
					}
					rows = append(rows, []string{
						s.Component.Ref().String(), s.Branch.Origin.String(), s.Branch.Method, orDash(short(s.Branch.Snapshot)), string(s.Phase),
						commandline.Size(s.Size), ago(s.Branch.Created), expires, orDash(s.Branch.Owner), orDash(s.Component.Session),
					})
				}
				return c.table(forks, []string{"fork", "origin", "method", "snapshot", "phase", "size", "made", "expires", "owner", "session"}, rows)
			})
		},
	}
}

func (c *cli) forkReset(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "reset REF",
		Short: "Make a fork anew: as the snapshot that it began as, or as its origin is now",
		Args:  commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			status, err := m.Care.ResetFork(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.printComponent(status)
		}),
	}
}

func (c *cli) forkDelete(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "delete REF",
		Short: "Take a fork out of service and delete its state, without a snapshot",
		Args:  commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			if err := m.Care.DeleteFork(cmd.Context(), r); err != nil {
				return err
			}
			c.line("%s is deleted", r)
			return nil
		}),
	}
}

func (c *cli) forkExpire(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "expire",
		Short: "Delete the forks whose time is over; a node does so by itself, and without one so does every command",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(m agent.Machine) error {
				return m.Care.Sweep(cmd.Context())
			})
		},
	}
}
