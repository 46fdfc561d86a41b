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

func (c *cli) componentReplicate(with onMachine) *cobra.Command {
	var q state.ReplicaRequest
	cmd := &cobra.Command{
		Use:   "replicate REF --as NAME",
		Short: "Make a read-only copy of a component that follows it",
		Long: `Make a component beside an active one that has what that has, within moments of each commit, and that its clients can only read.
It follows until it is promoted or deleted, and while it is inactive it stands still; see the commands of component replica.`,
		Example: `  orrery component replicate postgresql-database/orders --as orders-reports
  orrery component replica list`,
		Args: commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			q.From = r
			status, err := m.Care.Replicate(cmd.Context(), q)
			if err != nil {
				return err
			}
			return c.printComponent(status)
		}),
	}
	cmd.Flags().StringVar(&q.As, "as", "", "the replica's name")
	cmd.Flags().DurationVar(&q.Expires, "expires", 0, "delete the replica after this time, unless it was promoted (default: never)")
	cmd.Flags().StringVar(&q.Owner, "owner", "", "whose replica it is (default: the account that runs the command)")
	if err := cmd.MarkFlagRequired("as"); err != nil {
		panic(err) // the flag is defined four lines above
	}
	cmd.PreRun = func(*cobra.Command, []string) {
		if q.Owner == "" {
			q.Owner = caller()
		}
	}
	return cmd
}

func (c *cli) componentReplica(with onMachine, replicas completer) *cobra.Command {
	cmd := &cobra.Command{Use: "replica", Short: "Work on the replicas of components (see component replicate)"}
	cmd.AddCommand(c.replicaList(with), proposing(replicas, c.replicaPromote(with)), proposing(replicas, c.replicaRebuild(with)),
		proposing(replicas, c.replicaDelete(with)))
	return cmd
}

// replicaStatus is a replica and how it follows.
type replicaStatus struct {
	state.Status
	Lag *state.Lag `json:"lag,omitempty"` // of an active one
}

func isReplica(s state.Status) bool { return s.Branch != nil && s.Branch.Method == state.ForkReplica }

func (c *cli) replicaList(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the replicas, with how far each is behind its source", Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(m agent.Machine) error {
				all, err := m.Keeper.List(cmd.Context())
				if err != nil {
					return err
				}
				replicas := []replicaStatus{}
				var rows [][]string
				for _, s := range slices.DeleteFunc(all, func(s state.Status) bool { return !isReplica(s) }) {
					one := replicaStatus{Status: s}
					if s.Phase == state.PhaseActive || s.Phase == state.PhaseFailed {
						lag, err := m.Care.Lag(cmd.Context(), s.Component.Ref())
						if err != nil {
							lag = state.Lag{Problem: err.Error(), Bytes: -1, Behind: -1}
						}
						one.Lag = &lag
					}
					replicas, rows = append(replicas, one), append(rows, replicaRow(one))
				}
				return c.table(replicas, []string{"replica", "source", "phase", "linked", "bytes behind", "behind", "size", "owner", "problem"}, rows)
			})
		},
	}
}

func replicaRow(s replicaStatus) []string {
	linked, bytes, behind, problem := "-", "-", "-", s.Detail
	if lag := s.Lag; lag != nil {
		linked = "no"
		if lag.Linked {
			linked = "yes"
		}
		if lag.Bytes >= 0 {
			bytes = fmt.Sprint(lag.Bytes)
		}
		if lag.Behind >= 0 {
			behind = lag.Behind.Round(time.Millisecond).String()
		}
		problem = lag.Problem
	}
	return []string{
		s.Component.Ref().String(), s.Branch.Origin.String(), string(s.Phase), linked, bytes, behind, commandline.Size(s.Size), orDash(s.Branch.Owner), orDash(problem),
	}
}

func (c *cli) replicaPromote(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "promote REF",
		Short: "End the following: the replica becomes a component that its clients can write",
		Long: `End the following: the replica becomes a fork of its source, which its clients can write. While it is linked to its source, it
first gets all that is committed there; otherwise it has what it has.`,
		Args: commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			status, err := m.Care.Promote(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.printComponent(status)
		}),
	}
}

func (c *cli) replicaRebuild(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild REF",
		Short: "Make a replica anew, one that cannot follow its source any more",
		Args:  commandline.Exactly("REF"),
		RunE: c.onReplica(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			status, err := m.Care.ResetFork(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.printComponent(status)
		}),
	}
}

func (c *cli) replicaDelete(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "delete REF",
		Short: "Take a replica out of service and delete it, without a snapshot",
		Args:  commandline.Exactly("REF"),
		RunE: c.onReplica(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			if err := m.Care.DeleteFork(cmd.Context(), r); err != nil {
				return err
			}
			c.line("%s is deleted", r)
			return nil
		}),
	}
}

// onReplica is onComponent for what a component by itself must not be subject to.
func (c *cli) onReplica(with onMachine, do func(*cobra.Command, agent.Machine, state.Ref) error) func(*cobra.Command, []string) error {
	return c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
		status, err := m.Keeper.Status(cmd.Context(), r)
		if err != nil {
			return err
		}
		if !isReplica(status) {
			return fmt.Errorf("cannot %s %s: %w: it is no replica (see orrery component replica list)", cmd.Name(), r, state.ErrBadProperty)
		}
		return do(cmd, m, r)
	})
}
