package pusher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// maxAnswer is how large a gateway's answer may be.
const maxAnswer = 64 << 10

var errAnswer = errors.New("the gateway does not say that it took the notification")

// notification is what is sent to a gateway (clause push gateway API, POST /_matrix/push/v1/notify).
type notification struct {
	EventID    string          `json:"event_id,omitempty"`
	RoomID     string          `json:"room_id,omitempty"`
	Type       string          `json:"type,omitempty"`
	Sender     string          `json:"sender,omitempty"`
	SenderName string          `json:"sender_display_name,omitempty"`
	RoomName   string          `json:"room_name,omitempty"`
	RoomAlias  string          `json:"room_alias,omitempty"`
	Membership string          `json:"membership,omitempty"`
	Target     bool            `json:"user_is_target,omitempty"`
	Prio       string          `json:"prio,omitempty"`
	Content    json.RawMessage `json:"content,omitempty"`
	Counts     counts          `json:"counts"`
	Devices    []device        `json:"devices"`
}

type counts struct {
	Unread int `json:"unread"`
}

type device struct {
	App    string                     `json:"app_id"`
	Key    string                     `json:"pushkey"`
	Time   int64                      `json:"pushkey_ts,omitempty"` // seconds
	Data   map[string]json.RawMessage `json:"data"`
	Tweaks map[string]json.RawMessage `json:"tweaks"`
}

// data is what a pusher says of how to notify.
type data struct {
	URL    string `json:"url"`
	Format string `json:"format"`
}

// send sends what there is to send; gone says that the pusher is not there any more.
func (p *Pushers) send(s *sender) (gone bool, err error) {
	p.mu.Lock()
	row := s.row
	p.mu.Unlock()
	found, upTo, err := p.c.Syncer.Unpushed(p.ctx, row.User, row.Pushed)
	if err != nil {
		return false, err
	}
	for _, n := range found {
		note := p.full(n, row.User)
		if gone, err := p.notify(s, note, &n); gone || err != nil {
			return gone, err
		}
		if err := p.pushed(s, n.Event.Order, true); err != nil {
			return false, err
		}
	}
	if err := p.pushed(s, upTo, false); err != nil {
		return false, err
	}
	unread, err := p.c.Syncer.Unread(p.ctx, row.User)
	if err != nil || unread >= s.count { // what is more comes with its event
		return false, err
	}
	return p.notify(s, notification{}, nil) // something was read: only the count changes
}

// full is a notification that says everything.
func (p *Pushers) full(n sync.Notification, user string) notification {
	e := n.Event
	note := notification{EventID: e.ID(), RoomID: n.Room.ID(), Type: e.Type(), Sender: e.Sender(), Membership: e.Membership(), Prio: "low", Content: e.Content().JSON()}
	if key, isState := e.StateKey(); isState && e.Type() == matrix.TypeMember {
		note.Target = key == user
	}
	if _, sounds := n.Outcome.Tweaks["sound"]; sounds || n.Outcome.Highlight || e.Type() == "m.room.encrypted" {
		note.Prio = "high"
	}
	text := func(kind, key, field string) string {
		if s := n.Room.State(matrix.Key{Type: kind, StateKey: key}); s != nil {
			return s.Content().Get(field).String()
		}
		return ""
	}
	note.SenderName = text(matrix.TypeMember, e.Sender(), "displayname")
	note.RoomName, note.RoomAlias = text("m.room.name", "", "name"), text("m.room.canonical_alias", "", "alias")
	return note
}

// notify sends one notification.
func (p *Pushers) notify(s *sender, note notification, n *sync.Notification) (gone bool, err error) {
	p.mu.Lock()
	row := s.row
	p.mu.Unlock()
	var there bool
	if err := p.c.Stream.DB().View(p.ctx, func(tx table.Tx) (err error) {
		there, err = store.Pushers.Has(tx, row.User, row.App, row.Key)
		return err
	}); err != nil || !there {
		return err == nil, err
	}
	var how data
	d := device{App: row.App, Key: row.Key, Time: row.Created / 1000, Data: map[string]json.RawMessage{}, Tweaks: map[string]json.RawMessage{}}
	if err := errors.Join(json.Unmarshal(row.Data, &how), json.Unmarshal(row.Data, &d.Data)); err != nil {
		return false, err
	}
	delete(d.Data, "url")
	if n != nil {
		d.Tweaks = n.Outcome.Tweaks
	}
	if how.Format == "event_id_only" {
		note = notification{EventID: note.EventID, RoomID: note.RoomID, Prio: note.Prio}
	}
	unread, err := p.c.Syncer.Unread(p.ctx, row.User)
	if err != nil {
		return false, err
	}
	note.Counts.Unread, note.Devices = unread, []device{d}
	rejected, err := p.post(p.ctx, how.URL, note)
	if err != nil {
		return false, err
	}
	if slices.Contains(rejected, row.Key) {
		p.c.Logger.Info("a gateway rejected a pusher", "user", row.User, "app", row.App)
		return true, p.Remove(p.ctx, row.User, row.App, row.Key)
	}
	s.count = unread
	return false, nil
}

// post sends a notification to a gateway, and is which keys it rejects.
func (p *Pushers) post(ctx context.Context, url string, note notification) ([]string, error) {
	body, err := json.Marshal(map[string]notification{"notification": note})
	if err != nil {
		return nil, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", "application/json")
	resp, err := p.c.Client.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	var out struct {
		Rejected []string `json:"rejected"`
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: status %d", errAnswer, resp.StatusCode)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	}
	return out.Rejected, nil
}

// pushed notes up to where the user was notified; in the store only where a notification was sent.
func (p *Pushers) pushed(s *sender, upTo int64, sent bool) error {
	p.mu.Lock()
	s.row.Pushed = max(s.row.Pushed, upTo)
	row := s.row
	p.mu.Unlock()
	if !sent {
		return nil
	}
	return p.c.Stream.DB().Update(p.ctx, func(tx table.Tx) error {
		kept, ok, err := store.Pushers.Get(tx, row.User, row.App, row.Key)
		if err != nil || !ok {
			return err
		}
		kept.Pushed = max(kept.Pushed, upTo)
		return store.Pushers.Put(tx, kept)
	})
}
