package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"orrery/dashboard"
	"orrery/deploy"
	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/session"
)

// chronicle turns changes of the table and of the membership into the last events, for people.
type chronicle struct {
	mu      sync.Mutex
	events  []dashboard.Event               // newest last
	members map[fabric.NodeID]fabric.Member // as last seen
	places  map[string]deploy.Placement     // by key
	lives   map[string]session.Session      // by key
	chains  map[string]placement.Chain      // by key
	waiters map[chan struct{}]struct{}      // told when anything changed
}

// keptEvents is how many events the dashboard shows.
const keptEvents = 40

func newChronicle() *chronicle {
	return &chronicle{
		members: map[fabric.NodeID]fabric.Member{},
		places:  map[string]deploy.Placement{},
		lives:   map[string]session.Session{},
		chains:  map[string]placement.Chain{},
		waiters: map[chan struct{}]struct{}{},
	}
}

// follow reads the table until ctx ends.
func (c *chronicle) follow(ctx context.Context, table fabric.Table) error {
	deploys, err := table.Watch(ctx, "deploy/")
	if err != nil {
		return err
	}
	sessions, err := table.Watch(ctx, "session/")
	if err != nil {
		return err
	}
	first := map[string]bool{"deploy": true, "session": true}
	for deploys != nil || sessions != nil {
		var change fabric.Change
		var ok bool
		part := "deploy"
		select {
		case change, ok = <-deploys:
			if !ok {
				deploys = nil
			}
		case change, ok = <-sessions:
			part = "session"
			if !ok {
				sessions = nil
			}
		}
		for _, e := range change.Entries {
			c.note(e, first[part])
		}
		first[part] = false
		c.changed()
	}
	return ctx.Err()
}

// note remembers an entry, and tells what it means unless it was there before this node looked.
func (c *chronicle) note(e fabric.Entry, quiet bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kind, text string
	switch {
	case strings.HasPrefix(e.Key, deploy.PlacementPrefix):
		kind, text = "deploy", c.placement(e)
	case strings.HasPrefix(e.Key, deploy.BackupPrefix):
		kind, text = "state", backedUp(e)
	case strings.HasPrefix(e.Key, session.SessionPrefix):
		kind, text = "session", c.life(e)
	}
	if text != "" && !quiet {
		c.add(kind, text)
	}
}

// add appends an event; the lock is held.
func (c *chronicle) add(kind, text string) {
	c.events = append(c.events, dashboard.Event{Time: time.Now(), Kind: kind, Text: text})
	if len(c.events) > keptEvents {
		c.events = c.events[len(c.events)-keptEvents:]
	}
}

func (c *chronicle) placement(e fabric.Entry) string {
	before, known := c.places[e.Key]
	if e.Value == nil {
		delete(c.places, e.Key)
		if !known {
			return ""
		}
		return fmt.Sprintf("service %s was removed from %s", before.Service.Name, before.NodeName)
	}
	var now deploy.Placement
	if json.Unmarshal(e.Value, &now) != nil {
		return "" // another version wrote it; the dashboard shows what it can
	}
	c.places[e.Key] = now
	switch {
	case !known:
		return fmt.Sprintf("service %s was placed on %s", now.Service.Name, now.NodeName)
	case before.Node != now.Node:
		return fmt.Sprintf("service %s moved from %s to %s", now.Service.Name, before.NodeName, now.NodeName)
	}
	return fmt.Sprintf("service %s was changed on %s", now.Service.Name, now.NodeName)
}

func backedUp(e fabric.Entry) string {
	var b deploy.Backup
	if e.Value == nil || json.Unmarshal(e.Value, &b) != nil {
		return ""
	}
	return fmt.Sprintf("%s was backed up: %d components", b.Manifest, len(b.Snapshots))
}

func (c *chronicle) life(e fabric.Entry) string {
	before, known := c.lives[e.Key]
	if e.Value == nil {
		delete(c.lives, e.Key)
		if !known {
			return ""
		}
		return fmt.Sprintf("session %s of %s ended", before.Name, before.Owner)
	}
	var now session.Session
	if json.Unmarshal(e.Value, &now) != nil {
		return "" // as in placement
	}
	c.lives[e.Key] = now
	if now.Ready && !before.Ready {
		return fmt.Sprintf("session %s of %s began", now.Name, now.Owner)
	}
	return ""
}

// membership tells what changed among the nodes.
func (c *chronicle) membership(all []fabric.Member) {
	c.mu.Lock()
	for _, m := range all {
		before, known := c.members[m.ID]
		c.members[m.ID] = m
		if !known && m.State == fabric.MemberAlive {
			c.add("member", "node "+m.Name+" joined")
		} else if known && before.State != m.State {
			c.add("member", fmt.Sprintf("node %s is %s", m.Name, m.State))
		}
	}
	c.mu.Unlock()
	c.changed()
}

// changed tells everyone who waits.
func (c *chronicle) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		select {
		case w <- struct{}{}:
		default: // it has not looked since the last time
		}
	}
}

// wait returns a channel that yields after changes, until ctx ends.
func (c *chronicle) wait(ctx context.Context) <-chan struct{} {
	w := make(chan struct{}, 1)
	c.mu.Lock()
	c.waiters[w] = struct{}{}
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		delete(c.waiters, w)
		c.mu.Unlock()
	})
	return w
}

// last returns the events, newest first.
func (c *chronicle) last() []dashboard.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]dashboard.Event, 0, len(c.events))
	for i := range c.events {
		all = append(all, c.events[len(c.events)-1-i])
	}
	return all
}
