package agent

import (
	"context"
	"fmt"
	"slices"

	"orrery/dashboard/terminal"
	"orrery/fabric"
	"orrery/fabric/chain/placement"
)

// followChains turns changes of the chain table into events, until ctx ends.
func (c *chronicle) followChains(ctx context.Context, table fabric.Table) error {
	changes, err := table.Watch(ctx, placement.ChainPrefix)
	if err != nil {
		return err
	}
	first := true
	for change := range changes {
		for _, e := range change.Entries {
			c.chainNote(e, first)
		}
		first = false
		c.changed()
	}
	return ctx.Err()
}

// chainNote remembers a chain's record, and tells what it means unless it was there before this node looked.
func (c *chronicle) chainNote(e fabric.Entry, quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text := chainNews(c.chains, e); text != "" && !quiet {
		c.add("chain", named(text, c.names()))
	}
}

// chainNews takes in a chain's record and says what is new about its members and keys; "" if nothing is.
func chainNews(known map[string]placement.Chain, e fabric.Entry) string {
	before, was := known[e.Key]
	if e.Value == nil {
		delete(known, e.Key)
		if !was {
			return ""
		}
		return fmt.Sprintf("chain %d of %s is gone", before.ID, before.Bucket)
	}
	now, err := placement.DecodeChain(e.Value)
	if err != nil {
		return "" // another version wrote it
	}
	known[e.Key] = now
	switch {
	case !was:
		return fmt.Sprintf("chain %d of %s is new: %s", now.ID, now.Bucket, KeyRange(now.Range))
	case now.Epoch == before.Epoch || now.Reason == "":
		return ""
	}
	return fmt.Sprintf("chain %d of %s, epoch %d: %s", now.ID, now.Bucket, now.Epoch, now.Reason)
}

// names are the nodes' names by id; the lock is held.
func (c *chronicle) names() map[fabric.NodeID]string {
	all := map[fabric.NodeID]string{}
	for id, m := range c.members {
		all[id] = m.Name
	}
	return all
}

// summary fills in the last events and how much is deployed, and returns the services by node.
func (c *chronicle) summary(s *terminal.Snapshot) map[fabric.NodeID][]string {
	for _, e := range c.last() {
		s.Events = append(s.Events, terminal.Event(e))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	services := map[fabric.NodeID][]string{}
	for _, p := range c.places {
		services[p.Node] = append(services[p.Node], p.Service.Name)
	}
	for _, names := range services {
		slices.Sort(names)
	}
	s.Services, s.Sessions = len(c.places), len(c.lives)
	return services
}
