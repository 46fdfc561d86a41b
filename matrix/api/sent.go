package api

import (
	"context"
	"sync"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// How many devices' transactions are remembered, how many of each, and for how long they are kept.
const (
	maxSentDevices  = 5000
	maxSent         = 1000
	transactionLife = 24 * time.Hour
	sweepPiece      = 500
)

// sent remembers what devices sent (clause client-server API, transaction identifiers), so that a message needs no look into the database before it is sent.
type sent struct {
	mu      sync.Mutex
	devices map[[2]string]*sentDevice
}

type sentDevice struct {
	mu      sync.Mutex
	read    bool
	results map[string]string // by path; nil if there are too many
}

func (s *sent) device(user, device string, add bool) *sentDevice {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[[2]string{user, device}]
	if d == nil && add {
		if s.devices == nil || len(s.devices) >= maxSentDevices {
			s.devices = map[[2]string]*sentDevice{}
		}
		d = &sentDevice{}
		s.devices[[2]string{user, device}] = d
	}
	return d
}

// find is what came of a request that a device made before, and whether it did.
func (s *sent) find(ctx context.Context, db table.DB, user, device, path string) (id string, ok bool, err error) {
	d := s.device(user, device, true)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.read {
		if err := d.load(ctx, db, user, device); err != nil {
			return "", false, err
		}
	}
	if d.results != nil {
		id, ok = d.results[path]
		return id, ok, nil
	}
	err = db.View(ctx, func(tx table.Tx) error {
		t, found, err := store.Transactions.Get(tx, user, device, path)
		id, ok = t.Result, found
		return err
	})
	return id, ok, err
}

func (d *sentDevice) load(ctx context.Context, db table.DB, user, device string) error {
	return db.View(ctx, func(tx table.Tx) error {
		all, err := store.Transactions.All(tx, table.Range{Prefix: []any{user, device}, Limit: maxSent})
		if err != nil {
			return err
		}
		if d.read = true; len(all) < maxSent {
			d.results = map[string]string{}
		}
		for _, t := range all {
			d.add(t.Path, t.Result)
		}
		return nil
	})
}

func (d *sentDevice) add(path, id string) {
	if d.results == nil {
		return
	}
	if d.results[path] = id; len(d.results) >= maxSent {
		d.results = nil
	}
}

// note remembers what came of a request; after an error, which leaves that open, the device's are read again.
func (s *sent) note(user, device, path, id string, err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.devices, [2]string{user, device})
		return
	}
	if d := s.device(user, device, false); d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.add(path, id)
	}
}

// Sweep removes transactions that nobody repeats any more, media that are too old, and what is left of rooms that were purged.
func (a *API) Sweep(ctx context.Context) error {
	if err := store.Purge(ctx, a.Stream.DB(), func(int) {}); err != nil {
		return err
	}
	oldest := time.Unix(0, 0)
	if a.KeepMedia > 0 {
		oldest = a.Now().Add(-a.KeepMedia)
	}
	if _, err := a.Media.Sweep(ctx, oldest); err != nil {
		return err
	}
	before := a.Now().Add(-transactionLife).UnixMilli()
	for {
		n := 0
		err := a.Stream.DB().Update(ctx, func(tx table.Tx) error {
			old, err := store.Transactions.All(tx, table.Range{Index: "time", Before: before, Limit: sweepPiece})
			if err != nil {
				return err
			}
			n = len(old)
			for _, t := range old {
				if err := store.Transactions.Delete(tx, t.User, t.Device, t.Path); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || n < sweepPiece {
			return err
		}
	}
}
