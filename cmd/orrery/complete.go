package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/state"
)

// completer proposes words for a command line.
type completer = cobra.CompletionFunc

// complete proposes what the node knows; nothing where no node answers soon.
func (c *cli) complete(ask func(context.Context, *agent.Client) ([]string, error)) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		client, err := c.connect(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer client.Close()
		words, err := ask(ctx, client)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words = slices.DeleteFunc(words, func(word string) bool { return slices.Contains(args, word) })
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// first proposes for the first argument only.
func first(propose completer) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return propose(cmd, args, toComplete)
	}
}

func (c *cli) completeNodes() completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		members, err := client.Members(ctx)
		var names []string
		for _, m := range members {
			names = append(names, m.Name)
		}
		return names, err
	})
}

func (c *cli) completeServices() completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		services, err := client.Services(ctx)
		var names []string
		for _, s := range services {
			names = append(names, s.Service)
		}
		return names, err
	})
}

func (c *cli) completeManifests() completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		services, err := client.Services(ctx)
		var names []string
		for _, s := range services {
			names = append(names, s.Manifest)
		}
		slices.Sort(names)
		return slices.Compact(names), err
	})
}

func (c *cli) completeSessions() completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		sessions, err := client.ListSessions(ctx)
		var names []string
		for _, s := range sessions {
			names = append(names, s.Name)
		}
		return names, err
	})
}

// completeComponents proposes the components of the machine that --on names.
func (c *cli) completeComponents(on *string) completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		all, err := client.Machine(*on).Keeper.List(ctx)
		return refNames(all), err
	})
}

// completeForks proposes those components that are forks.
func (c *cli) completeForks(on *string) completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		all, err := client.Machine(*on).Keeper.List(ctx)
		return refNames(slices.DeleteFunc(all, func(s state.Status) bool { return s.Branch == nil || isReplica(s) })), err
	})
}

// completeReplicas proposes those components that are replicas.
func (c *cli) completeReplicas(on *string) completer {
	return c.complete(func(ctx context.Context, client *agent.Client) ([]string, error) {
		all, err := client.Machine(*on).Keeper.List(ctx)
		return refNames(slices.DeleteFunc(all, func(s state.Status) bool { return !isReplica(s) })), err
	})
}

func refNames(all []state.Status) []string {
	var names []string
	for _, s := range all {
		names = append(names, s.Component.Ref().String())
	}
	return names
}

// mustComplete sets the proposals for a flag that the command has.
func mustComplete(cmd *cobra.Command, flag string, propose completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, propose); err != nil {
		panic(err) // a flag that is not defined: a mistake in this package
	}
}
