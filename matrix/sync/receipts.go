package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Types of receipts (clause client-server API, receipts).
const (
	Read        = "m.read"
	ReadPrivate = "m.read.private" // only the user's own devices see it
)

// ephemeral is what is told of a room besides its events: who has read up to where, and who types.
type ephemeral struct {
	loaded sync.Once
	err    error
	stale  atomic.Int64 // not 0: it must be read again

	mu       sync.Mutex
	receipts map[receiptKey]store.Receipt
	read     map[string]*read // by user
	typing   typing
	last     int64 // position of the newest change
}

type receiptKey struct{ user, kind, thread string }

// read is up to where a user has read a room, by the orders of events: all of it, and threads of it (clause client-server API, threaded read receipts).
type read struct {
	upTo    int64
	threads map[string]int64
	newest  int64 // position of the newest receipt
}

// add takes a receipt into account.
func (r *read) add(by store.Receipt) {
	r.newest = max(r.newest, by.Position)
	if by.Thread == "" {
		r.upTo = max(r.upTo, by.Order)
		return
	}
	r.threads = maps.Clone(r.threads) // others read the old one
	if r.threads == nil {
		r.threads = map[string]int64{}
	}
	r.threads[by.Thread] = max(r.threads[by.Thread], by.Order)
}

// ephemeral is that of a room, read from the store the first time.
func (s *Syncer) ephemeral(ctx context.Context, roomID string) (*ephemeral, error) {
	s.mu.Lock()
	e := s.ephemerals[roomID]
	if e == nil {
		e = &ephemeral{receipts: map[receiptKey]store.Receipt{}, read: map[string]*read{}}
		s.ephemerals[roomID] = e
	}
	s.mu.Unlock()
	e.loaded.Do(func() { e.err = s.readReceipts(ctx, roomID, e) })
	if e.err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ephemerals, roomID)
		return nil, e.err
	}
	if stale := e.stale.Load(); stale != 0 {
		doubt := s.news.doubt.Load() != 0
		if err := s.readReceipts(ctx, roomID, e); err != nil {
			return nil, err
		}
		if !doubt {
			e.stale.CompareAndSwap(stale, 0)
		}
	}
	return e, nil
}

// readReceipts takes over what the store has. What is in memory is newer, or the same.
func (s *Syncer) readReceipts(ctx context.Context, roomID string, e *ephemeral) error {
	return s.stream.DB().View(context.WithoutCancel(ctx), func(tx table.Tx) error {
		all, err := store.Receipts.All(tx, table.Range{Prefix: []any{roomID}})
		for _, r := range all {
			e.set(r)
		}
		return err
	})
}

// reread lets the receipts of a room be read again, because it is not known which ones the store has.
func (s *Syncer) reread(roomID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.ephemerals[roomID]; e != nil {
		e.stale.Add(1)
	}
}

func (e *ephemeral) set(r store.Receipt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := receiptKey{r.User, r.Type, r.Thread}
	if old, ok := e.receipts[key]; !ok || r.Position > old.Position {
		e.receipts[key] = r
		if r.Type == Read || r.Type == ReadPrivate {
			if e.read[r.User] == nil {
				e.read[r.User] = &read{}
			}
			e.read[r.User].add(r)
		}
	}
	e.last = max(e.last, r.Position)
}

// Receive keeps a receipt, and tells it to whom it concerns.
func (s *Syncer) Receive(ctx context.Context, r *room.Room, receipt store.Receipt) error {
	e, err := s.ephemeral(ctx, r.ID())
	if err != nil {
		return err
	}
	receipt.Room = r.ID()
	if e.passed(receipt) {
		return nil
	}
	err = s.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) (err error) {
		if receipt.Position, err = advance(1); err != nil {
			return err
		}
		if s.follower != nil {
			if err := s.follower.Receipt(tx, r, receipt); err != nil {
				return err
			}
		}
		return store.Receipts.Put(tx, receipt)
	}, func() { e.set(receipt) })
	if s.follower != nil && err == nil {
		s.follower.Received(ctx, r)
	}
	if receipt.Type == ReadPrivate {
		s.Wake(receipt.User)
	} else {
		s.WakeRoom(r)
	}
	return err
}

// passed says whether a receipt is of what is before what the user's receipts of its kind say already.
func (e *ephemeral) passed(r store.Receipt) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return r.Order < e.receipts[receiptKey{r.User, r.Type, r.Thread}].Order
}

// changed is the position of the newest change.
func (e *ephemeral) changed() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

// readBy is up to where a user has read a room; nothing if nothing is known.
func (e *ephemeral) readBy(user string) read {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.read[user]; r != nil {
		return *r
	}
	return read{}
}

// has says whether the user has read an event of a thread.
func (r *read) has(e *room.Entry, thread string) bool {
	return e.Order <= max(r.upTo, r.threads[cmp.Or(thread, mainThread)])
}

// events are what is new for a user after a position, up to another, of the types that are wanted.
func (e *ephemeral) events(user string, since, upTo int64, wants func(kind string) bool) []json.RawMessage {
	all := []json.RawMessage{}
	if receipts := e.receiptsFor(user, since, upTo, nil); receipts != nil && wants("m.receipt") {
		all = append(all, receipts)
	}
	if typing := e.typingFor(since, upTo); typing != nil && wants("m.typing") {
		all = append(all, typing)
	}
	return all
}

// receiptsFor are the receipts that are new for a user, as an event; nil if there are none. If only is not nil they are of these events, or the user's own.
func (e *ephemeral) receiptsFor(user string, since, upTo int64, only map[string]bool) json.RawMessage {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last <= since {
		return nil
	}
	var found []store.Receipt
	for _, r := range e.receipts {
		if r.Position > since && r.Position <= upTo && (r.Type != ReadPrivate || r.User == user) && (only == nil || only[r.EventID] || r.User == user) {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return receiptEvent(found)
}

// typingFor says who types, if that changed; whoever knows nothing yet hears of it only if somebody does.
func (e *ephemeral) typingFor(since, upTo int64) json.RawMessage {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.typing.position <= since || e.typing.position > upTo || since == 0 && len(e.typing.until) == 0 {
		return nil
	}
	return e.typing.event()
}

// receiptEvent is an m.receipt event.
func receiptEvent(all []store.Receipt) json.RawMessage {
	slices.SortFunc(all, func(a, b store.Receipt) int { return cmp.Compare(a.Position, b.Position) })
	type one struct {
		Time   int64  `json:"ts"`
		Thread string `json:"thread_id,omitempty"`
	}
	content := map[string]map[string]map[string]one{}
	for _, r := range all {
		if content[r.EventID] == nil {
			content[r.EventID] = map[string]map[string]one{}
		}
		if content[r.EventID][r.Type] == nil {
			content[r.EventID][r.Type] = map[string]one{}
		}
		if old, ok := content[r.EventID][r.Type][r.User]; ok && old.Thread == "" { // there is place for one, and this one says more (MSC4102)
			continue
		}
		content[r.EventID][r.Type][r.User] = one{r.Time, r.Thread}
	}
	text, _ := json.Marshal(map[string]any{"type": "m.receipt", "content": content})
	return text
}
