package terminal

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

var helpLines = []string{
	"tab, arrows left and right, 1 to 4   go from panel to panel",
	"arrows up and down, page up and down choose a row",
	"enter                                details of a node, a chain or an event; esc comes back",
	"/                                    show only rows with a text; esc shows all again",
	"s, S                                 sort by the next column; turn the order around",
	"p                                    pause, and go on",
	"q                                    quit",
	"",
	"LOAD is the machine's, MEMORY the node's own process; a * is at the node that is asked.",
	"READS/S and WRITES/S are those of the last seconds, as the replicas say; LAG is by how many entries the",
	"last replica is behind the first. WAITS FOR says why a chain is not as it should be.",
	"Rates are of all nodes together. p50 and p99 are upper bounds. Refused is bad input: certificates,",
	"frames, gossip, events, requests by role and messages by sender.",
}

// subject is what details are about.
func (m Model) subject() string {
	rows, at := m.rows()
	if at < 0 {
		return "Gone"
	}
	switch m.focus {
	case nodesPanel:
		return "Node " + strings.TrimSuffix(rows[at].cells[0].text, " *")
	case chainsPanel:
		return "Chain " + rows[at].id
	}
	return "Event"
}

// overlay are the lines of what lies over the panels.
func (m Model) overlay() []string {
	if m.help {
		return helpLines
	}
	rows, at := m.rows()
	if at >= 0 {
		id := rows[at].id
		switch m.focus {
		case nodesPanel:
			i := slices.IndexFunc(m.shown.Nodes, func(n Node) bool { return n.ID == id })
			return m.nodeDetails(m.shown.Nodes[i])
		case chainsPanel:
			i := slices.IndexFunc(m.shown.Chains, func(c Chain) bool { return fmt.Sprint(c.ID) == id })
			return chainDetails(m.shown.Chains[i])
		case eventsPanel:
			return []string{rows[at].cells[0].text, "", rows[at].cells[1].text}
		}
	}
	return []string{"it is not there any more"}
}

func field(name, text string) string { return faint.Render(pad(name, 12, false)) + " " + text }

func (m Model) nodeDetails(n Node) []string {
	s := m.shown
	lines := []string{
		field("id", n.ID),
		field("state", stateTints[n.State].Render(n.State)+", since "+n.Since.Local().Format(time.DateTime)),
		field("address", n.Address+", found by "+n.Via),
		field("version", n.Version),
		field("zone", orNothing(n.Zone, "-")),
		field("roles", orNothing(strings.Join(n.Roles, ", "), "-")),
		field("services", orNothing(strings.Join(n.Services, ", "), "-")),
	}
	if n.Drain {
		lines = append(lines, field("drained", "it is to hold no replicas"))
	}
	if n.Name == s.Leader || n.Name == s.Keeper {
		lines = append(lines, field("leads", "the table"+map[bool]string{true: ", and keeps the chains"}[n.Name == s.Keeper]))
	}
	if u := n.Usage; u != nil {
		lines = append(lines,
			field("started", u.Started.Local().Format(time.DateTime)),
			field("load", fmt.Sprintf("%.2f on %s", u.Load, many(u.Processors, "processor"))),
			field("memory", bytes(float64(u.Memory))),
			field("disk", bytes(float64(u.Free))+" free"),
			field("since start", fmt.Sprintf("%d kv reads, %d kv writes, %d requests, %s of gossip, %d refused",
				u.Counters.Reads, u.Counters.Writes, u.Counters.Requests, bytes(float64(u.Counters.Gossip)), u.Counters.Refused)))
	} else {
		lines = append(lines, field("usage", "the node does not say"))
	}
	lines = append(lines, "")
	for _, c := range s.Chains {
		for i, r := range c.Members {
			if r.Node == n.Name {
				lines = append(lines, fmt.Sprintf("chain %d of %s %s: number %d of %d, %s", c.ID, c.Bucket, c.Range, i+1, len(c.Members), stateOf(r)))
			}
		}
	}
	return lines
}

func chainDetails(c Chain) []string {
	lines := []string{
		field("bucket", c.Bucket),
		field("keys", c.Range),
		field("epoch", fmt.Sprint(c.Epoch)),
		field("waits for", orNothing(c.Waits, "nothing")),
		field("last change", orNothing(c.Reason, "-")),
		"",
	}
	columns := []column{
		{title: "HEAD TO TAIL"},
		{title: "STATE", least: 10},
		{title: "NEWEST", right: true},
		{title: "DURABLE", right: true},
		{title: "COMMITTED", right: true},
		{title: "SIZE", right: true},
		{title: "READS/S", right: true},
		{title: "WRITES/S", right: true},
	}
	var rows []row
	for _, r := range c.Members {
		cells := []cell{said(r.Node), said(stateOf(r))}
		for _, n := range []uint64{r.Last, r.Durable, r.Committed} {
			cells = append(cells, said(fmt.Sprint(n)))
		}
		cells = append(cells, said(bytes(float64(r.Bytes))), said(count(r.Reads)), said(count(r.Writes)))
		rows = append(rows, row{"", cells})
	}
	widths := fit(columns, rows, 110)
	lines = append(lines, faint.Render(line(columns, widths, heads(columns, 0), 110, true)))
	for _, r := range rows {
		lines = append(lines, line(columns, widths, r.cells, 110, false))
	}
	return lines
}

func stateOf(r Replica) string {
	switch {
	case r.Failed != "":
		return "failed: " + r.Failed
	case r.Gone != "":
		return "gone: " + r.Gone
	case !r.Known:
		return r.State + ", has said nothing yet"
	}
	return r.State
}
