package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/address"
)

// relabel changes the labels of the generations that names mean.
func (c *cli) relabel(cmd *cobra.Command, with onMachine, names []string, change state.Relabel) error {
	return with(cmd, func(m agent.Machine) error {
		all, err := located(cmd, m, names)
		if err != nil {
			return err
		}
		for i, g := range all {
			if all[i], err = m.Store.Relabel(cmd.Context(), refOf(g), g.Number, change); err != nil {
				return err
			}
		}
		return c.printGenerations(all)
	})
}

// checkTags refuses tags that a name could not carry.
func checkTags(tags []string) error {
	for _, tag := range tags {
		if !state.ValidTag(tag) {
			return commandline.Usage(fmt.Errorf("%.80q is no tag: letters, digits and \"_.:-\", at most 64", tag))
		}
		if address.ReservedTag(tag) {
			return commandline.Usage(fmt.Errorf("tag %q would be read as a number, a time or the newest generation (choose another word)", tag))
		}
	}
	return nil
}

func (c *cli) snapshotTag(with onMachine) *cobra.Command {
	var remove []string
	cmd := &cobra.Command{
		Use:   "tag NAME [TAG...] [--remove TAG]",
		Short: "Add tags to a generation, or take them away",
		Long:  "Add tags to a generation, or take them away.\n\n" + naming,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && len(remove) == 0 {
				return commandline.Usage(fmt.Errorf("which tag? (see %s --help)", cmd.CommandPath()))
			}
			if err := checkTags(args[1:]); err != nil {
				return err
			}
			return c.relabel(cmd, with, args[:1], state.Relabel{AddTags: args[1:], RemoveTags: slices.Clone(remove)})
		},
	}
	cmd.Flags().StringSliceVar(&remove, "remove", nil, "tags to take away")
	return cmd
}

func (c *cli) snapshotPin(with onMachine, pinned bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pin NAME...",
		Short: "Keep generations whatever a prune is told",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.relabel(cmd, with, args, state.Relabel{Pinned: &pinned})
		},
	}
	if !pinned {
		cmd.Use, cmd.Short = "unpin NAME...", "Let a prune drop generations again"
	}
	cmd.Long = cmd.Short + ".\n\n" + naming
	return cmd
}

func (c *cli) snapshotNote(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "note NAME TEXT",
		Short: "Write a note on a generation (an empty one removes it)",
		Long:  "Write a note on a generation (an empty one removes it).\n\n" + naming,
		Args:  commandline.Exactly("NAME", "TEXT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args[1]) > 1000 {
				return commandline.Usage(fmt.Errorf("the note has %d bytes, at most 1000 are kept", len(args[1])))
			}
			return c.relabel(cmd, with, args[:1], state.Relabel{Note: &args[1]})
		},
	}
}
