package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/cmd/orrery/agent"
	"orrery/fabric"
	"orrery/internal/commandline"
)

func (c *cli) membersCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the nodes of the cluster as this one sees them",
		Long: `List the nodes of the cluster as this one sees them. With --watch it goes on until it is interrupted: a terminal
shows the table as it is, anything else gets a line for each node and then for each change, with -o json an object a line.`,
		Args: commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			if follow {
				return c.watchMembers(ctx, client)
			}
			all, err := client.Members(ctx)
			if err != nil {
				return err
			}
			return c.printMembers(all)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "watch", "w", false, "go on, and show what changes")
	commandline.Endless(cmd)
	return cmd
}

func (c *cli) printMembers(all []fabric.Member) error {
	var rows [][]string
	for _, m := range all {
		rows = append(rows, []string{
			m.Name, string(m.ID), m.Address, string(m.State), ago(m.Since), m.Version, orDash(m.Zone), orDash(strings.Join(m.Roles, ",")), orDash(m.Via),
		})
	}
	return c.table(all, []string{"name", "id", "address", "state", "since", "version", "zone", "roles", "found by"}, rows)
}

func (c *cli) watchMembers(ctx context.Context, client *agent.Client) error {
	if f, ok := c.stdout.(*os.File); ok && c.output != "json" && term.IsTerminal(int(f.Fd())) {
		return c.showMembers(ctx, client)
	}
	var before []fabric.Member
	for all, err := range client.WatchMembers(ctx) {
		if err != nil {
			return err
		}
		for _, change := range memberChanges(before, all, time.Now()) {
			if err := c.printChange(change); err != nil {
				return err
			}
		}
		before = all
	}
	return nil
}

// showMembers keeps the table on a terminal as it is. It is drawn again every second, for it says how long ago things were.
func (c *cli) showMembers(ctx context.Context, client *agent.Client) error {
	type sight struct {
		all []fabric.Member
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan sight)
	go func() {
		defer close(news)
		for all, err := range client.WatchMembers(ctx) {
			news <- sight{all, err}
		}
	}()
	defer func() {
		cancel()
		for range news { // until the goroutine has ended
		}
	}()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var now sight
	for {
		select {
		case now = <-news: // an error before it is closed
		case <-second.C:
		}
		if now.err != nil {
			return now.err
		}
		fmt.Fprint(c.stdout, clearScreen)
		if err := c.printMembers(now.all); err != nil {
			return err
		}
	}
}

const clearScreen = "\x1b[H\x1b[2J"

// memberChange is what happened to a node.
type memberChange struct {
	Time   time.Time          `json:"time"`
	Was    fabric.MemberState `json:"was,omitempty"`  // before; empty for a node that was not known
	Gone   bool               `json:"gone,omitempty"` // the node is not known any more
	Member fabric.Member      `json:"member"`
}

// memberChanges are the steps from one list to the next.
func memberChanges(before, after []fabric.Member, now time.Time) []memberChange {
	old := map[fabric.NodeID]fabric.Member{}
	for _, m := range before {
		old[m.ID] = m
	}
	var all []memberChange
	for _, m := range after {
		was, known := old[m.ID]
		delete(old, m.ID)
		switch {
		case known && reflect.DeepEqual(was, m):
		case known && was.State == m.State:
			all = append(all, memberChange{Time: now, Was: was.State, Member: m})
		default:
			all = append(all, memberChange{Time: m.Since, Was: was.State, Member: m})
		}
	}
	for _, m := range before {
		if _, gone := old[m.ID]; gone {
			all = append(all, memberChange{Time: now, Was: m.State, Gone: true, Member: m})
		}
	}
	return all
}

func (c *cli) printChange(change memberChange) error {
	if c.output == "json" {
		return json.NewEncoder(c.stdout).Encode(change)
	}
	m := change.Member
	text := string(m.State)
	switch {
	case change.Gone:
		text = "forgotten"
	case change.Was != "" && change.Was != m.State:
		text += ", was " + string(change.Was)
	}
	_, err := fmt.Fprintf(c.stdout, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", change.Time.Format(time.RFC3339), m.Name, m.ID, text, m.Address, m.Version,
		orDash(m.Zone), orDash(strings.Join(m.Roles, ",")))
	return err
}
