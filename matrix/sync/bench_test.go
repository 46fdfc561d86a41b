package sync_test

import (
	"fmt"
	"testing"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/sync"
)

// BenchmarkAnswer is an answer as text, of what a client that waited is told: one message in a room of 50; and of what one is told at first, of 20 such rooms.
func BenchmarkAnswer(b *testing.B) {
	h := newHouse(b)
	who := people[0]
	var last *room.Room
	for range 20 {
		last = h.create(who)
		for i := range 49 {
			h.send(last.ID(), member(fmt.Sprintf("@user%d:a.test", i), matrix.Join))
		}
		for range 40 {
			h.send(last.ID(), room.Draft{Type: "m.room.message", Sender: "@user1:a.test", Content: object("msgtype", "m.text", "body", "some words of common length, as people say them")})
		}
	}
	since := h.stream.Current()
	h.send(last.ID(), room.Draft{Type: "m.room.message", Sender: "@user2:a.test", Content: object("msgtype", "m.text", "body", "some words of common length, as people say them")})
	lazy := &sync.Filter{}
	lazy.Room.State.LazyLoadMembers = true
	for _, one := range []struct {
		name    string
		initial bool
		filter  *sync.Filter
	}{{"message", false, &sync.Filter{}}, {"lazy", false, lazy}, {"initial", true, &sync.Filter{}}, {"initial, lazy", true, lazy}} {
		b.Run(one.name, func(b *testing.B) {
			q := &sync.Request{User: who, Device: devices[0], Initial: one.initial, Filter: one.filter}
			if !one.initial {
				q.Since = since
			}
			var text []byte
			for b.Loop() {
				resp, err := h.syncer.Do(b.Context(), q)
				if err != nil {
					b.Fatal(err)
				}
				text = resp.AppendJSON(text[:0])
			}
			b.ReportMetric(float64(len(text)), "bytes")
		})
	}
}
