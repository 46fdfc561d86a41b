package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"orrery/matrix"
	"orrery/matrix/presence"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// maxNews is how many changes of presence are remembered in their order.
const maxNews = 1024

// present is who is there, and when that changed.
type present struct {
	tracker *presence.Tracker // nil if presence is not shown

	mu    sync.Mutex
	since map[string]int64 // by user, the position of the last change
	news  []change         // the last changes, by position; all after the first one's
}

type change struct {
	position int64
	user     string
}

// ShowPresence lets users see who is there. It must be called before the first answer.
func (s *Syncer) ShowPresence(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	s.present.since = map[string]int64{}
	s.present.tracker = presence.New(s.now, func(user string, state presence.State) {
		_ = s.presenceChanged(ctx, user, state) // a failure is repaired by the next change
	})
}

// Close ends what goes on by itself.
func (s *Syncer) Close() {
	if s.present.tracker != nil {
		s.present.tracker.Close()
	}
}

// presenceChanged tells those who share a room with a user. Only what the user says is kept in the store.
func (s *Syncer) presenceChanged(ctx context.Context, user string, state presence.State) error {
	var position int64
	err := s.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) (err error) {
		if position, err = advance(1); err != nil {
			return err
		}
		old, _, err := store.Statuses.Get(tx, user)
		if err != nil || old.Text == state.Status {
			return err
		}
		return store.Statuses.Put(tx, store.Status{User: user, Text: state.Status})
	}, func() { s.present.note(change{position, user}) })
	s.WakeSharing(ctx, user)
	s.followPresence(ctx, user)
	return err
}

func (p *present) note(c change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since[c.user] = max(p.since[c.user], c.position)
	i, _ := slices.BinarySearchFunc(p.news, c.position, func(x change, at int64) int { return cmp.Compare(x.position, at) })
	p.news = slices.Insert(p.news, i, c)
	if len(p.news) > 2*maxNews {
		p.news = slices.Clone(p.news[maxNews:])
	}
}

// changed are those whose presence changed after a position, and not after another one.
func (p *present) changed(since, upTo int64) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.news) == 0 || p.news[len(p.news)-1].position <= since {
		return nil
	}
	var found []string
	if since > 0 && p.news[0].position <= since {
		i, _ := slices.BinarySearchFunc(p.news, since+1, func(x change, at int64) int { return cmp.Compare(x.position, at) })
		for _, c := range p.news[i:] {
			if c.position <= upTo && p.since[c.user] == c.position {
				found = append(found, c.user)
			}
		}
		return found
	}
	for user, position := range p.since {
		if position > since && position <= upTo {
			found = append(found, user)
		}
	}
	slices.Sort(found)
	return found
}

// Attend notes that a user's client waits for what is new, until the function that it returns is called; state is what it sets, "" for online.
func (s *Syncer) Attend(ctx context.Context, user, state string) (func(), error) {
	t := s.present.tracker
	if t == nil {
		return func() {}, nil
	}
	if err := s.recall(ctx, user); err != nil {
		return nil, err
	}
	return t.Ask(user, cmp.Or(state, presence.Online)), nil
}

// recall reads what a user has said of themselves, if nothing is known of them.
func (s *Syncer) recall(ctx context.Context, user string) error {
	if _, known := s.present.tracker.Get(user); known {
		return nil
	}
	return s.stream.DB().View(ctx, func(tx table.Tx) error {
		row, _, err := store.Statuses.Get(tx, user)
		if err == nil {
			s.present.tracker.Know(user, row.Text)
		}
		return err
	})
}

// Act notes that a user did something.
func (s *Syncer) Act(user string) {
	if s.present.tracker != nil {
		s.present.tracker.Act(user)
	}
}

// SetPresence sets what a user is and says.
func (s *Syncer) SetPresence(ctx context.Context, user, state, status string) error {
	if s.present.tracker == nil {
		return nil
	}
	if err := s.recall(ctx, user); err != nil {
		return err
	}
	s.present.tracker.Set(user, state, status)
	return nil
}

// PresenceContent is the presence of a user (clause client-server API, m.presence).
type PresenceContent struct {
	Is     string `json:"presence"`
	Status string `json:"status_msg,omitempty"`
	Ago    *int64 `json:"last_active_ago,omitempty"` // milliseconds
	Now    *bool  `json:"currently_active,omitempty"`
}

// Presence is that of a user.
func (s *Syncer) Presence(ctx context.Context, user string) (PresenceContent, error) {
	if s.present.tracker == nil {
		return PresenceContent{Is: presence.Offline}, nil
	}
	if err := s.recall(ctx, user); err != nil {
		return PresenceContent{}, err
	}
	return s.presenceOf(user, s.now()), nil
}

// append appends it as an event of a user.
func (c PresenceContent) append(b []byte, user string) []byte {
	o := newObject(b)
	o.text("type", "m.presence")
	o.text("sender", user)
	o.inner("content", func(o *object) {
		o.text("presence", c.Is)
		if c.Status != "" {
			o.text("status_msg", c.Status)
		}
		if c.Ago != nil {
			o.int("last_active_ago", int(*c.Ago))
		}
		if c.Now != nil {
			o.truth("currently_active", *c.Now)
		}
	})
	return o.end()
}

func (s *Syncer) presenceOf(user string, now time.Time) PresenceContent {
	state, _ := s.present.tracker.Get(user)
	c := PresenceContent{Is: state.Is, Status: state.Status}
	if !state.Active.IsZero() {
		c.Ago = new(max(0, now.Sub(state.Active).Milliseconds()))
	}
	if state.Is == presence.Online {
		c.Now = new(state.Now(now))
	}
	return c
}

// SharesRoom says whether two users are members of a room.
func (s *Syncer) SharesRoom(ctx context.Context, user, other string) (bool, error) {
	shared, err := s.sharingOf(ctx, user, map[string]bool{other: true})
	return shared[other], err
}

// presence adds who came and went of those who share a room with the user, also by the user's joining it.
func (a *answer) presence(ctx context.Context, memberships map[string]membership, resp *Response) error {
	p := &a.s.present
	if p.tracker == nil {
		return nil
	}
	news := p.changed(a.q.Since, a.upTo)
	changed := make(map[string]bool, len(news))
	for _, who := range news {
		changed[who] = true
	}
	if len(changed) > 0 {
		shared, err := a.s.sharingOf(ctx, a.q.User, changed)
		if err != nil {
			return err
		}
		for who := range changed {
			if !shared[who] {
				delete(changed, who)
			}
		}
	}
	for id, m := range memberships {
		if a.q.Initial || m.is != matrix.Join || m.order <= a.q.Since || m.order > a.upTo {
			continue
		}
		r, err := a.s.rooms.Find(ctx, id)
		if errors.Is(err, room.ErrNotFound) { // it was purged since
			continue
		}
		if err != nil {
			return err
		}
		for _, who := range r.Joined() {
			if state, _ := p.tracker.Get(who); state.Is != presence.Offline {
				changed[who] = true
			}
		}
	}
	if err := a.newcomers(ctx, memberships, changed); err != nil {
		return err
	}
	now := a.s.now()
	var all []json.RawMessage
	for who := range changed {
		content := a.s.presenceOf(who, now)
		if !a.q.Filter.Presence.wantsOf("m.presence", who) || a.q.Initial && content.Is == presence.Offline {
			continue
		}
		all = append(all, a.texts.add(func(b []byte) []byte { return content.append(b, who) }))
	}
	if len(all) > 0 {
		resp.Presence = &Events{all}
	}
	return nil
}
