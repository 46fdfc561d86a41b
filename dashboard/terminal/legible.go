package terminal

import (
	"slices"
	"strings"
	"unicode"
)

// legible is a text on one line and without what a terminal would obey: errors and names come from elsewhere.
func legible(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsGraphic(r):
			return r
		}
		return -1
	}, text)
	return strings.TrimSpace(text)
}

// legible is a snapshot with legible texts.
func (s Snapshot) legible() Snapshot {
	s.Cluster, s.Node, s.Trouble = legible(s.Cluster), legible(s.Node), legible(s.Trouble)
	s.Nodes, s.Chains, s.Events = slices.Clone(s.Nodes), slices.Clone(s.Chains), slices.Clone(s.Events)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		for _, text := range []*string{&n.Name, &n.State, &n.Address, &n.Version, &n.Zone, &n.Via} {
			*text = legible(*text)
		}
		n.Roles, n.Services = slices.Clone(n.Roles), slices.Clone(n.Services)
		for _, list := range [][]string{n.Roles, n.Services} {
			for j := range list {
				list[j] = legible(list[j])
			}
		}
	}
	for i := range s.Chains {
		c := &s.Chains[i]
		c.Bucket, c.Range, c.Waits, c.Reason = legible(c.Bucket), legible(c.Range), legible(c.Waits), legible(c.Reason)
		c.Members = slices.Clone(c.Members)
		for j := range c.Members {
			r := &c.Members[j]
			r.Node, r.State, r.Gone, r.Failed = legible(r.Node), legible(r.State), legible(r.Gone), legible(r.Failed)
		}
	}
	for i := range s.Events {
		s.Events[i].Text = legible(s.Events[i].Text)
	}
	return s
}
