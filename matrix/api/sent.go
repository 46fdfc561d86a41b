package api

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// How many transactions are remembered, of all devices and of each, and for how long they are kept.
const (
	maxSent         = 500_000
	maxSentByDevice = 20_000
	transactionLife = 24 * time.Hour
	sweepPiece      = 500
)

// sent remembers what devices sent (clause client-server API, transaction identifiers), so that a message needs no look into the database before it is sent: for
// each device it has a hash of all transactions that the database has. One that is not among them is new; only what may be a repetition is looked up.
type sent struct {
	most, byDevice int // how many are remembered
	seed           maphash.Seed

	mu      sync.Mutex
	devices map[[2]string]*sentDevice
	count   int // of all devices, about
}

type sentDevice struct {
	mu    sync.Mutex
	read  bool
	known map[uint64]struct{} // nil if there are too many
}

func newSent(most, byDevice int) sent {
	return sent{most: most, byDevice: byDevice, seed: maphash.MakeSeed(), devices: map[[2]string]*sentDevice{}}
}

func (s *sent) device(user, device string, add bool) *sentDevice {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.devices[[2]string{user, device}]
	if d == nil && add {
		d = &sentDevice{}
		s.devices[[2]string{user, device}] = d
		s.counts(1)
	}
	return d
}

// counts notes that more are remembered. If they become too many all are forgotten, but for those that are just being used. The caller holds the mutex.
func (s *sent) counts(n int) {
	if s.count += n; s.count > s.most {
		clear(s.devices)
		s.count = 0
	}
}

// find is what came of a request that a device made before, and whether it did.
func (s *sent) find(ctx context.Context, db table.DB, user, device, path string) (id string, ok bool, err error) {
	d := s.device(user, device, true)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.read {
		if err := s.load(ctx, d, db, user, device); err != nil {
			return "", false, err
		}
	}
	if _, may := d.known[maphash.String(s.seed, path)]; d.known != nil && !may {
		return "", false, nil
	}
	err = db.View(ctx, func(tx table.Tx) error {
		t, found, err := store.Transactions.Get(tx, user, device, path)
		id, ok = t.Result, found
		return err
	})
	return id, ok, err
}

// load reads what a device sent. The caller holds its mutex.
func (s *sent) load(ctx context.Context, d *sentDevice, db table.DB, user, device string) error {
	known := map[uint64]struct{}{}
	if err := db.View(ctx, func(tx table.Tx) error {
		for t, err := range store.Transactions.Scan(tx, table.Range{Prefix: []any{user, device}, Limit: s.byDevice}) {
			if err != nil {
				return err
			}
			known[maphash.String(s.seed, t.Path)] = struct{}{}
		}
		return nil
	}); err != nil {
		return err
	}
	d.read, d.known = true, known
	s.full(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts(len(d.known))
	return nil
}

// full gives up remembering a device's transactions if they are too many.
func (s *sent) full(d *sentDevice) {
	if len(d.known) >= s.byDevice {
		d.known = nil
	}
}

// note remembers what came of a request; after an error, which leaves that open, the device's are read again.
func (s *sent) note(user, device, path string, err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.devices, [2]string{user, device})
		return
	}
	d := s.device(user, device, false)
	if d == nil {
		return
	}
	d.mu.Lock()
	if d.known != nil {
		d.known[maphash.String(s.seed, path)] = struct{}{}
		s.full(d)
	}
	d.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts(1)
}

// fewer lets devices be read again that had too many: old ones were removed.
func (s *sent) fewer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.devices, func(_ [2]string, d *sentDevice) bool {
		if !d.mu.TryLock() { // it is being used
			return false
		}
		defer d.mu.Unlock()
		return d.read && d.known == nil
	})
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
	if err := store.ForgetRedactions(ctx, a.Stream.DB(), before); err != nil {
		return err
	}
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
			a.sent.fewer()
			return err
		}
	}
}
