package delivery

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"orrery/matrix/appservice"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// sender sends to one service.
type sender struct {
	d       *Delivery
	service atomic.Pointer[appservice.Service]
	cancel  context.CancelFunc

	news    chan struct{} // there may be something to send
	again   chan struct{} // it may be tried again at once
	passing *passing
	backlog atomic.Int64 // how many events wait, with those that are under way
	since   atomic.Int64 // when what is under way was made; 0: nothing is
	devices int64        // up to where changes of devices were looked at; 0: it is not read yet
}

// pass takes notice of something that is kept nowhere.
func (s *sender) pass(of string, event json.RawMessage) {
	s.passing.put(of, event)
	poke(s.news)
}

// run sends until the context ends.
func (s *sender) run(ctx context.Context) {
	var pending, done *store.ServiceTransaction // what is under way, and what was taken and is not known to be yet
	var failures, trouble appservice.Backoff    // of the service, and of the database
	for first := true; ctx.Err() == nil; {
		var err error
		if pending == nil {
			if first {
				pending, err = s.recover(ctx)
			} else {
				pending, err = s.next(ctx, done)
			}
			if err != nil {
				s.pause(ctx, trouble.Fail(), "what waits for it cannot be read", err)
				continue
			}
			trouble.Reset()
			done = nil
		}
		if pending == nil {
			if first = false; s.idle(ctx) {
				continue
			}
			return
		}
		first = false
		s.since.Store(pending.Created)
		id := s.service.Load().ID
		if err := s.d.c.Remote.Transaction(ctx, s.service.Load(), pending.ID, pending.JSON); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.passing.reach(false)
			s.d.metrics.failures.WithLabelValues(id).Inc()
			s.recount(ctx, pending)
			s.pause(ctx, failures.Fail(), "it did not take a transaction", err)
			continue
		}
		failures.Reset()
		s.since.Store(0)
		s.passing.reach(true)
		s.d.metrics.sent.WithLabelValues(id).Add(float64(pending.Events))
		s.backlog.Add(-pending.Events)
		done, pending = pending, nil
	}
}

// idle waits for something to send; false says that the context ended.
func (s *sender) idle(ctx context.Context) bool {
	select {
	case <-s.news:
	case <-s.again:
	case <-ctx.Done():
		return false
	}
	return true
}

// pause waits after a failure, unless there is a reason to try again at once.
func (s *sender) pause(ctx context.Context, wait time.Duration, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	s.d.c.Logger.WarnContext(ctx, "something for an application service was not sent", "what", what, "service", s.service.Load().ID, "error", err, "again_in", wait)
	again := time.NewTimer(wait)
	defer again.Stop()
	select {
	case <-again.C:
	case <-s.again:
	case <-ctx.Done():
	}
}

// recover is what was under way when the server ended, if anything was; and counts what waits.
func (s *sender) recover(ctx context.Context) (found *store.ServiceTransaction, err error) {
	id, waiting := s.service.Load().ID, int64(0)
	err = s.d.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		row, ok, err := store.ServiceTransactions.Get(tx, id)
		if err != nil {
			return err
		}
		if found = nil; ok {
			found = &row
		}
		waiting, err = queued(tx, id, s.d.c.Stream.Current())
		waiting += row.Events
		return err
	})
	if err == nil {
		s.backlog.Add(waiting)
	}
	return found, err
}

// queued counts the events that are queued for a service, up to a position.
func queued(tx table.Tx, id string, current int64) (n int64, err error) {
	for q, err := range store.Queue.Scan(tx, table.Range{Prefix: []any{id}, Before: current + 1}) {
		if err != nil {
			return n, err
		}
		if q.Room != 0 {
			n++
		}
	}
	return n, nil
}

// maxRecounted is how much may wait that is counted again; of more than that nobody needs to know to one how many there are.
const maxRecounted = 10_000

// recount counts again what waits while a service does not take what is under way: an event that came just as it was counted may have been counted twice.
func (s *sender) recount(ctx context.Context, pending *store.ServiceTransaction) {
	counted := s.backlog.Load()
	if counted > maxRecounted {
		return
	}
	if err := s.d.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		n, err := queued(tx, pending.Service, s.d.c.Stream.Current())
		if err == nil {
			s.backlog.Add(n + pending.Events - counted)
		}
		return err
	}); err != nil {
		s.d.c.Logger.DebugContext(ctx, "what waits for an application service was not counted", "service", pending.Service, "error", err)
	}
}

// next forgets what was taken, and is what to send next, which is kept before it is sent; nil if there is nothing.
func (s *sender) next(ctx context.Context, done *store.ServiceTransaction) (*store.ServiceTransaction, error) {
	service := s.service.Load()
	counted := s.backlog.Load()
	g, err := s.gather(ctx, service)
	if err != nil {
		return nil, err
	}
	if g.all { // counting begins anew, so that no error stays; what comes meanwhile is added to it
		s.backlog.Add(g.noted - counted)
	}
	if g.Ephemeral = append(g.Ephemeral, s.passing.take()...); g.Empty() && len(g.queued) == 0 && done == nil {
		s.devices = g.devices
		return nil, nil //nolint:nilnil // there is nothing to send
	}
	body, err := g.Body(service)
	if err != nil {
		return nil, err
	}
	pending := store.ServiceTransaction{Service: service.ID, ID: rand.Text(), Events: g.noted, Created: s.d.c.Now().UnixMilli(), JSON: body}
	err = s.d.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if g.Empty() {
			return errors.Join(store.ServiceTransactions.Delete(tx, service.ID), g.forget(tx, service))
		}
		return errors.Join(store.ServiceTransactions.Put(tx, pending), g.forget(tx, service))
	})
	if err != nil {
		return nil, err
	}
	s.devices = g.devices
	if g.Empty() {
		return nil, nil //nolint:nilnil // there is nothing to send
	}
	return &pending, nil
}
