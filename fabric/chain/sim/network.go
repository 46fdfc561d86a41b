package sim

import (
	"fmt"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/replica"
)

// send carries something from a node to another, perhaps never, twice, late or out of order.
func (w *world) send(from, to fabric.NodeID, what func()) {
	n := &w.nature
	copies := 1
	if !w.calm {
		if w.chance(n.loss) {
			copies = 0
		}
		if w.chance(n.twice) {
			copies++
		}
	}
	for range copies {
		d := w.transit()
		if link := [2]fabric.NodeID{from, to}; w.calm { // connections keep the order while they last
			d = max(d, w.arrival[link]-w.now)
			w.arrival[link] = w.now + d
		}
		w.after(d, func() {
			if !w.blocked[[2]fabric.NodeID{from, to}] {
				what()
			}
		})
	}
}

func (w *world) transit() time.Duration {
	n := &w.nature
	d := w.between(n.delay/4, n.delay)
	if !w.calm && w.chance(n.late) {
		d += w.between(0, n.lateness)
	}
	return d
}

// cut cuts what a node sends to another.
func (w *world) cut(from, to *node) {
	if from != to {
		w.blocked[[2]fabric.NodeID{from.id, to.id}] = true
	}
}

var kinds = map[replica.Kind]string{
	replica.KindHello: "hello", replica.KindLink: "link", replica.KindSnapshot: "snapshot", replica.KindAppend: "append", replica.KindAck: "ack",
	replica.KindQuery: "query", replica.KindAnswer: "answer", replica.KindRefused: "refused", replica.KindProbe: "probe",
}

func describe(m *replica.Message) string {
	s := fmt.Sprintf("%s.%d -> %s.%d e%d %s seq %d/%d committed %d durable %d", m.From.Node, m.From.Incarnation, m.To.Node, m.To.Incarnation, m.Epoch, kinds[m.Kind], m.Sequence, m.Entry, m.Committed, m.Durable)
	if m.Query != 0 {
		s += fmt.Sprintf(" query %d", m.Query)
	}
	if n := len(m.Entries); n > 0 {
		s += fmt.Sprintf(" entries %d/%d..%d/%d", m.Entries[0].Sequence, m.Entries[0].Epoch, m.Entries[n-1].Sequence, m.Entries[n-1].Epoch)
	}
	return s
}
