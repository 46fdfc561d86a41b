package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"testing"
)

// How much is sent at the same time, and how much a round sees acknowledged at most before the process is killed.
const (
	crashSenders = 8
	crashRooms   = 3
	crashAcks    = 150
)

// rounds is how often a process is killed: a few times, or with ORRERY_TEST_FULL=1 fifty.
func rounds() int {
	if os.Getenv("ORRERY_TEST_FULL") == "1" {
		return 50
	}
	return 3
}

// TestKilled: a server that is killed under load keeps every event that it acknowledged, once, in the order in which each sender sent them, and
// tokens of before count.
func TestKilled(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &crashed{process: newProcess(t, database(t))}
			c.token = c.register("anne")
			for range crashRooms {
				var made struct {
					ID string `json:"room_id"`
				}
				c.do(c.token, "POST", "createRoom", map[string]any{}, &made)
				c.rooms = append(c.rooms, made.ID)
			}
			for s := range crashSenders {
				c.senders = append(c.senders, &crashSender{number: s, room: c.rooms[s%crashRooms]})
			}
			from := c.syncToken("")
			for range rounds() {
				c.round()
				c.check(from, true)
			}
			c.check(from, false)
		})
	}
}

// crashed is a homeserver that is killed again and again.
type crashed struct {
	*process

	token   string
	rooms   []string
	senders []*crashSender
	marks   []mark
}

// crashSender sends one message after another. One that was not acknowledged is sent again, as clients do.
type crashSender struct {
	number int
	room   string
	next   int
	acked  []string // the ids of messages
	there  int      // how many were found after the last round: one of them may not have been acknowledged
}

// mark is a token of /sync, and how much of each sender's is before it.
type mark struct {
	token  string
	before [crashSenders]int
}

// round sends until some are acknowledged, kills the server in the middle of that, and starts it again.
func (c *crashed) round() {
	c.t.Helper()
	m := mark{token: c.syncToken("")}
	for i, s := range c.senders {
		m.before[i] = s.there
	}
	c.marks = append(c.marks, m)
	enough := make(chan struct{}, 1)
	var mu sync.Mutex
	left := 1 + rand.IntN(crashAcks)
	ack := func() {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			enough <- struct{}{}
		}
	}
	var done sync.WaitGroup
	for _, s := range c.senders {
		done.Go(func() { c.send(s, ack) })
	}
	<-enough
	c.kill()
	done.Wait()
	c.start()
}

// send sends until the server is gone.
func (c *crashed) send(s *crashSender, ack func()) {
	for {
		status, text, err := c.ask(c.t.Context(), c.token, "PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%d-%d", url.PathEscape(s.room), s.number, s.next),
			map[string]any{"msgtype": "m.text", "body": "x", "sender": s.number, "number": s.next})
		if err != nil {
			return
		}
		var out struct {
			ID string `json:"event_id"`
		}
		if err := json.Unmarshal(text, &out); err != nil || status != http.StatusOK {
			c.t.Errorf("%d %s", status, text)
			return
		}
		s.acked = append(s.acked, out.ID)
		s.next++
		ack()
	}
}

func (c *crashed) syncToken(since string) string {
	c.t.Helper()
	var out struct {
		Next string `json:"next_batch"`
	}
	c.do(c.token, "GET", "sync?since="+since, nil, &out)
	return out.Next
}

type crashEvent struct {
	ID      string `json:"event_id"`
	Content struct {
		Sender, Number int
	}
}

// after is the messages of a room after a token.
func (c *crashed) after(room, from string) []crashEvent {
	c.t.Helper()
	var all []crashEvent
	for from != "" {
		var page struct {
			Chunk []crashEvent
			End   string
		}
		c.do(c.token, "GET", "rooms/"+url.PathEscape(room)+"/messages?dir=f&limit=500&from="+from, nil, &page)
		all, from = append(all, page.Chunk...), page.End
	}
	return all
}

// check looks at all that was sent since the last token, or since the first one.
func (c *crashed) check(first string, last bool) {
	c.t.Helper()
	since := mark{token: first}
	if last {
		since = c.marks[len(c.marks)-1]
	}
	for _, room := range c.rooms {
		found := c.after(room, since.token)
		ids := map[string]bool{}
		for _, e := range found {
			if ids[e.ID] {
				c.t.Errorf("%s is there twice", e.ID)
			}
			ids[e.ID] = true
		}
		for i, s := range c.senders {
			if s.room != room {
				continue
			}
			n := since.before[i]
			for _, e := range found {
				if e.Content.Sender != s.number {
					continue
				}
				if e.Content.Number != n || n < len(s.acked) && s.acked[n] != e.ID || n > len(s.acked) {
					c.t.Fatalf("sender %d: message %d is where %d was to be (%d acknowledged)", s.number, e.Content.Number, n, len(s.acked))
				}
				n++
			}
			if n < len(s.acked) {
				c.t.Fatalf("sender %d: %d messages are there of %d that were acknowledged", s.number, n, len(s.acked))
			}
			s.there = n
		}
		c.checkSync(room, since.token, found)
	}
}

// checkSync sees that /sync goes on from a token with what came last.
func (c *crashed) checkSync(room, token string, found []crashEvent) {
	c.t.Helper()
	var out struct {
		Rooms struct {
			Join map[string]struct {
				Timeline struct{ Events []crashEvent }
			}
		}
	}
	c.do(c.token, "GET", "sync?since="+token, nil, &out)
	got := out.Rooms.Join[room].Timeline.Events
	if len(got) > len(found) || len(found) > 0 && len(got) == 0 || !slices.Equal(got, found[len(found)-len(got):]) {
		c.t.Errorf("/sync after %s: %d events, which are not the last of %d", token, len(got), len(found))
	}
}
