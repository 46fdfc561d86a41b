package delivery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orrery/matrix/appservice"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrNothing says that nothing waits for a service.
var ErrNothing = errors.New("nothing waits for the application service")

// ErrRegistered says that what waits for a service is sent to it, and is not dropped.
var ErrRegistered = errors.New("the application service is registered, and is sent what waits for it")

// Standing is how a service stands: one that is registered, or one that is not any more and for which something waits.
type Standing struct {
	ID    string     `json:"id"`
	URL   string     `json:"url,omitempty"`
	User  string     `json:"user,omitempty"`  // its own
	File  string     `json:"file,omitempty"`  // of its registration; "": it has none any more
	Since *time.Time `json:"since,omitempty"` // when the transaction was made that is under way; nil: none is

	Waiting
}

// Waiting is how much waits for a service.
type Waiting struct {
	Events int64 `json:"waiting"`
	Others int64 `json:"others"` // receipts, messages to devices, and devices whose keys changed
}

// None says whether nothing does.
func (w Waiting) None() bool { return w == Waiting{} }

// Standings are how services stand: those that are registered, in their order, then the others by their ids.
func Standings(ctx context.Context, db table.DB, services *appservice.Services) (all []Standing, err error) {
	found := map[string]*Standing{}
	of := func(id string) *Standing {
		if found[id] == nil {
			found[id] = &Standing{ID: id}
		}
		return found[id]
	}
	if err := db.View(ctx, func(tx table.Tx) error {
		clear(found)
		return waiting(tx, of)
	}); err != nil {
		return nil, err
	}
	for _, s := range services.All() {
		one := of(s.ID)
		one.URL, one.User, one.File = s.URL, s.SenderID, s.File
		all = append(all, *one)
		delete(found, s.ID)
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		all = append(all, *found[id])
	}
	return all, nil
}

// waiting counts what waits for services.
func waiting(tx table.Tx, of func(id string) *Standing) error {
	for t, err := range store.ServiceTransactions.Scan(tx, table.Range{}) {
		if err != nil {
			return err
		}
		s := of(t.Service)
		s.Events, s.Since = t.Events, new(time.UnixMilli(t.Created).UTC())
	}
	for q, err := range store.Queue.Scan(tx, table.Range{}) {
		if err != nil {
			return err
		}
		if s := of(q.Service); q.Room != 0 {
			s.Events++
		} else {
			s.Others++
		}
	}
	for r, err := range store.QueuedReceipts.Scan(tx, table.Range{}) {
		if err != nil {
			return err
		}
		of(r.Service).Others++
	}
	for k, err := range store.AllChangedKeys.Scan(tx, table.Range{}) {
		if err != nil {
			return err
		}
		of(k.Service).Others++
	}
	return nil
}

// dropped is how many rows are dropped in one commit.
const dropped = 500

// Drop removes what waits for a service to which nothing is sent, because it is not registered any more or has no address, and says how much that was; a dry one only says so.
// Accounts and rooms of the service stay. services are asked each time that something is removed: the service may come back meanwhile.
func Drop(ctx context.Context, db table.DB, services func() *appservice.Services, id string, dry bool) (w Waiting, err error) {
	gone := func() error {
		if s := services().ByID(id); s != nil && s.URL != "" {
			return fmt.Errorf("%w: %s, by %s (take that away, and send the server a SIGHUP)", ErrRegistered, id, s.File)
		}
		return nil
	}
	if err := gone(); err != nil {
		return w, err
	}
	all, err := Standings(ctx, db, nil)
	if err != nil {
		return w, err
	}
	i := slices.IndexFunc(all, func(s Standing) bool { return s.ID == id })
	if i < 0 {
		return w, fmt.Errorf("%w %s", ErrNothing, id)
	}
	if w = all[i].Waiting; dry {
		return w, nil
	}
	of := table.Range{Prefix: []any{id}, Limit: dropped}
	for more := true; more; {
		if err := db.Update(ctx, func(tx table.Tx) error {
			if err := gone(); err != nil {
				return err
			}
			if err := errors.Join(store.Queue.DeleteAll(tx, of), store.QueuedReceipts.DeleteAll(tx, of), store.AllChangedKeys.DeleteAll(tx, of),
				store.ServiceTransactions.Delete(tx, id), store.ServiceStates.Delete(tx, id)); err != nil {
				return err
			}
			var err error
			more, err = waits(tx, id)
			return err
		}); err != nil {
			return w, err
		}
	}
	return w, nil
}

// waits says whether something waits for a service.
func waits(tx table.Tx, id string) (bool, error) {
	of := table.Range{Prefix: []any{id}}
	_, queued, err := store.Queue.First(tx, of)
	if err != nil || queued {
		return queued, err
	}
	_, receipts, err := store.QueuedReceipts.First(tx, of)
	if err != nil || receipts {
		return receipts, err
	}
	_, keys, err := store.AllChangedKeys.First(tx, of)
	return keys, err
}
