package sync

import (
	"context"
	"strings"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// OfferSubscriptions lets users subscribe to threads (MSC4306). It must be called before the first answer.
func (s *Syncer) OfferSubscriptions() { s.subscriptions = true }

// subscribed are the threads that a user is subscribed to, by their roots.
func subscribed(tx table.Tx, user string) (map[string]bool, error) {
	found := map[string]bool{}
	for row, err := range store.Subscriptions.Scan(tx, table.Range{Prefix: []any{user}}) {
		if err != nil {
			return nil, err
		}
		if row.Subscribed {
			found[row.Thread] = true
		}
	}
	return found, nil
}

// SubscriptionsTold is what changed of a user's subscriptions to threads, by room and thread (MSC4308).
type SubscriptionsTold struct {
	Subscribed   map[string]map[string]SubscriptionTold   `json:"subscribed,omitempty"`
	Unsubscribed map[string]map[string]UnsubscriptionTold `json:"unsubscribed,omitempty"`
	Prev         string                                   `json:"prev_batch,omitempty"` // where others are, in sliding sync
	End          string                                   `json:"end,omitempty"`        // and where they are asked for
}

// SubscriptionTold is a subscription. Of two with the same thread the one with the greater stamp is newer.
type SubscriptionTold struct {
	Automatic bool  `json:"automatic"`
	Bump      int64 `json:"bump_stamp"`
}

// UnsubscriptionTold is the end of one.
type UnsubscriptionTold struct {
	Bump int64 `json:"bump_stamp"`
}

// Subscriptions are the last changes of a user's subscriptions to threads after a position and up to another one, nil if there are none; more is up to where
// others are, 0 if there are none.
func (s *Syncer) Subscriptions(ctx context.Context, user string, after, upTo int64, limit int) (told *SubscriptionsTold, more int64, err error) {
	last, err := s.lastSubscription(ctx, user)
	if err != nil || last <= after {
		return nil, 0, err
	}
	var rows []store.Subscription
	if err := s.stream.DB().View(ctx, func(tx table.Tx) (err error) {
		rows, err = store.Subscriptions.All(tx, table.Range{Index: "position", Prefix: []any{user}, From: after + 1, Before: upTo + 1, Descending: true, Limit: limit + 1})
		return err
	}); err != nil || len(rows) == 0 {
		return nil, 0, err
	}
	if len(rows) > limit {
		rows, more = rows[:limit], rows[limit].Position
	}
	told = &SubscriptionsTold{Subscribed: map[string]map[string]SubscriptionTold{}, Unsubscribed: map[string]map[string]UnsubscriptionTold{}}
	for _, row := range rows {
		if row.Subscribed {
			tell(told.Subscribed, row, SubscriptionTold{row.Automatic, row.Position})
		} else {
			tell(told.Unsubscribed, row, UnsubscriptionTold{row.Position})
		}
	}
	return told, more, nil
}

// ReadPos is up to where a client was told, by a token or by a pos of sliding sync, which names a connection and no epoch: connections end with the program, so
// that a restored database has none of before.
func (s *Syncer) ReadPos(token string) (int64, error) {
	position, holds, err := s.ReadToken(token)
	if !holds && !strings.Contains(token, ".") {
		position = 0
	}
	return position, err
}

func tell[T any](to map[string]map[string]T, row store.Subscription, v T) {
	if to[row.Room] == nil {
		to[row.Room] = map[string]T{}
	}
	to[row.Room][row.Thread] = v
}

// lastSubscription is the position of the newest change of a user's subscriptions; 0 if there is none.
func (s *Syncer) lastSubscription(ctx context.Context, user string) (int64, error) {
	return s.news.threads.get(user, func() (last int64, err error) {
		err = s.stream.DB().View(ctx, func(tx table.Tx) error {
			row, _, err := store.Subscriptions.First(tx, table.Range{Index: "position", Prefix: []any{user}, Descending: true})
			last = row.Position
			return err
		})
		return last, err
	})
}
