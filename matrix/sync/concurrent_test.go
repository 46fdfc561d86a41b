package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	gosync "sync"
	"testing"
	"time"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/sync"
)

// ear is a device that hears of everything once.
type ear struct {
	user, device string
	heard        map[string]int
}

// listen asks until all is heard, or the time is over.
func (e *ear) listen(ctx context.Context, s *sync.Syncer, all int) error {
	q := &sync.Request{User: e.user, Device: e.device, Initial: true, Timeout: time.Second, Filter: &sync.Filter{}}
	q.Filter.Room.Timeline.Limit = new(100)
	for len(e.heard) < all && ctx.Err() == nil {
		resp, err := s.Do(ctx, q)
		if err != nil {
			return err
		}
		e.hear(resp)
		if q.Since, err = s.ReadSince(resp.NextBatch); err != nil {
			return err
		}
		q.Initial = false
	}
	return nil
}

func (e *ear) hear(resp *sync.Response) {
	var all []json.RawMessage
	for _, events := range []*sync.Events{resp.AccountData, resp.ToDevice} {
		if events != nil {
			all = append(all, events.Events...)
		}
	}
	if resp.Rooms != nil {
		for _, r := range resp.Rooms.Join {
			all = append(all, r.Timeline.Events...)
		}
	}
	for _, text := range all {
		var event struct {
			Type    string `json:"type"`
			Content struct {
				Body string `json:"body"`
			} `json:"content"`
		}
		if json.Unmarshal(text, &event) == nil && event.Content.Body != "" {
			e.heard[event.Content.Body]++
		}
	}
}

// TestNothingIsMissed: what happens while devices ask and wait is told to each of them, once.
func TestNothingIsMissed(t *testing.T) {
	const writers, each = 4, 40
	h := newHouse(t)
	(&history{house: h}).devices()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var writing, hearing gosync.WaitGroup
	var ears []*ear
	for _, who := range people {
		for _, id := range devices {
			e := &ear{who, id, map[string]int{}}
			ears = append(ears, e)
			hearing.Go(func() {
				if err := e.listen(ctx, h.syncer, writers*each); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for w := range writers {
		r := h.create(people[0])
		writing.Go(func() {
			for i := range each {
				body := fmt.Sprintf("%d of %d", i, w)
				switch i % 4 {
				case 0:
					if i < 4*len(people) { // a member more
						h.send(r.ID(), member(people[i/4], matrix.Join))
					}
					h.toAll(func(who string) { h.data(who, "", "own."+body, fmt.Sprintf(`{"body":%q}`, body)) })
				case 1:
					h.toAll(func(who string) {
						if err := h.keys.Send(t.Context(), who, "own", object(who, object("*", object("body", body)))); err != nil {
							t.Error(err)
						}
					})
				default:
					h.send(r.ID(), room.Draft{Type: "m.room.message", Sender: people[0], Content: object("body", body)})
				}
			}
		})
	}
	writing.Wait()
	hearing.Wait()
	for _, e := range ears {
		for w := range writers {
			for i := range each {
				if body := fmt.Sprintf("%d of %d", i, w); e.heard[body] != 1 {
					t.Errorf("%s on %s heard %q %d times", e.user, e.device, body, e.heard[body])
				}
			}
		}
	}
}

func (h *house) toAll(f func(who string)) {
	for _, who := range people {
		f(who)
	}
}
