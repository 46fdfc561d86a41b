package sync

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"

	"orrery/matrix/keys"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/watch"
)

// news is what answers need of the store again and again, in memory: an answer reads only what has changed. Who writes need not know of it: the database
// that it watches says what was written, before that counts as seen.
type news struct {
	stream *store.Stream

	data    memo[string, int64]           // by user, the position of the newest account data
	threads memo[string, int64]           // by user, the position of the newest change of subscriptions to threads
	tastes  memo[string, *taste]          // by user
	direct  memo[string, map[string]bool] // by user, the rooms that are direct chats
	queues  memo[device, queue]
	stocks  memo[device, stock]
	filters memo[filterKey, *Filter]
	lists   journal[listChange]

	changing sync.Mutex // whether there is a doubt
	// doubt is a position: until the stream is past it, nothing is kept, because something may be committed of which nobody was told. Positions are given out in
	// the transactions themselves: one that has a greater position came after that commit, if there was one. 0 is no doubt.
	doubt atomic.Int64
}

// queue is which messages to a device the store has: the positions of the oldest and of the newest one, 0 for none.
type queue struct{ oldest, newest int64 }

// stock is what a device has left of its keys.
type stock struct {
	counts    map[string]int
	fallbacks []string // which are unused
}

type filterKey struct {
	user   string
	number int64
}

// listChange is a user whose devices or keys changed: for all, or for one who has signed them.
type listChange struct{ user, signer string }

// watched are the tables of which something is in memory.
var watched = []*table.Schema{
	store.AllAccountData.Schema(), store.ToDevices.Schema(), store.OneTimeKeys.Schema(), store.FallbackKeys.Schema(), store.Filters.Schema(),
	store.DeviceLists.Schema(), store.SignedUsers.Schema(), store.Receipts.Schema(), store.Subscriptions.Schema(),
}

// follow begins to watch the database.
func (s *Syncer) follow(db *watch.DB) {
	s.news.stream = s.stream
	db.Watch(s, watched...)
	s.news.lists.restart(s.stream.Current())
}

// Written takes notice of what was committed.
func (s *Syncer) Written(all []table.Write) {
	n := &s.news
	for _, w := range all {
		name, _ := w.Row[0].(string) // the user, in all of these tables but receipts
		switch w.Table {
		case store.AllAccountData.Schema():
			n.dataWritten(name, w)
		case store.Subscriptions.Schema():
			n.threads.forget(name)
			n.tastes.forget(name)
		case store.ToDevices.Schema():
			n.queues.forget(deviceOf(w))
		case store.OneTimeKeys.Schema(), store.FallbackKeys.Schema():
			n.stocks.forget(deviceOf(w))
		case store.Filters.Schema():
			number, _ := w.Row[1].(int64)
			n.filters.forget(filterKey{name, number})
		case store.DeviceLists.Schema():
			if len(w.Row) > 1 {
				n.lists.add(w.Row[1].(int64), listChange{user: name})
			}
		case store.SignedUsers.Schema():
			if len(w.Row) > 2 {
				n.lists.add(w.Row[2].(int64), listChange{user: w.Row[1].(string), signer: name})
			}
		}
	}
}

func (n *news) dataWritten(user string, w table.Write) {
	n.data.forget(user)
	if w.Row[1] != "" { // of a room
		return
	}
	switch kind, _ := w.Row[2].(string); kind {
	case Direct:
		n.direct.forget(user)
	case PushRules, Ignored, Invites:
		n.tastes.forget(user)
	}
}

func deviceOf(w table.Write) device {
	user, _ := w.Row[0].(string)
	id, _ := w.Row[1].(string)
	return device{user, id}
}

// Doubtful takes notice of what may be committed.
func (s *Syncer) Doubtful(all []table.Write) {
	n := &s.news
	n.changing.Lock()
	n.doubt.Store(max(s.stream.Given(), 1))
	n.keep(false)
	n.lists.unknown()
	n.changing.Unlock()
	for _, w := range all {
		if w.Table == store.Receipts.Schema() {
			s.reread(w.Row[0].(string))
		}
	}
}

func (n *news) keep(keep bool) {
	n.data.keep(keep)
	n.threads.keep(keep)
	n.tastes.keep(keep)
	n.direct.keep(keep)
	n.queues.keep(keep)
	n.stocks.keep(keep)
	n.filters.keep(keep)
}

// settle ends a doubt, once it is over.
func (n *news) settle() {
	if n.doubt.Load() == 0 {
		return
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	if current := n.stream.Current(); n.doubt.Load() != 0 && current > n.doubt.Load() {
		n.lists.restart(current)
		n.keep(true)
		n.doubt.Store(0)
	}
}

// lastData is the position of a user's newest account data; 0 if there is none.
func (s *Syncer) lastData(ctx context.Context, user string) (int64, error) {
	return s.news.data.get(user, func() (last int64, err error) {
		err = s.stream.DB().View(ctx, func(tx table.Tx) error {
			d, _, err := store.AllAccountData.First(tx, table.Range{Index: "position", Prefix: []any{user}, Descending: true})
			last = d.Position
			return err
		})
		return last, err
	})
}

// queue is which messages to a device there are.
func (s *Syncer) queue(ctx context.Context, d device) (queue, error) {
	return s.news.queues.get(d, func() (q queue, err error) {
		err = s.stream.DB().View(ctx, func(tx table.Tx) error {
			of := table.Range{Prefix: []any{d.user, d.id}}
			oldest, ok, err := store.ToDevices.First(tx, of)
			if err != nil || !ok {
				return err
			}
			of.Descending = true
			newest, _, err := store.ToDevices.First(tx, of)
			q = queue{oldest.Position, newest.Position}
			return err
		})
		return q, err
	})
}

// stock is what a device has left of its keys. Nobody changes it.
func (s *Syncer) stock(ctx context.Context, d device) (stock, error) {
	return s.news.stocks.get(d, func() (left stock, err error) {
		err = s.stream.DB().View(ctx, func(tx table.Tx) (err error) {
			if left.counts, err = keys.Counts(tx, d.user, d.id); err != nil {
				return err
			}
			left.fallbacks, err = keys.UnusedFallbacks(tx, d.user, d.id)
			return err
		})
		return left, err
	})
}

// Filter is a filter that a user has kept; nil if there is none with that number. Nobody changes it.
func (s *Syncer) Filter(ctx context.Context, user string, number int64) (*Filter, error) {
	return s.news.filters.get(filterKey{user, number}, func() (f *Filter, err error) {
		err = s.stream.DB().View(ctx, func(tx table.Tx) error {
			row, ok, err := store.Filters.Get(tx, user, number)
			if err != nil || !ok {
				return err
			}
			f = &Filter{}
			return json.Unmarshal(row.JSON, f)
		})
		return f, err
	})
}
