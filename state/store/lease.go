package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"orrery/state"
)

const (
	leaseShared = "shared-"
	leaseAlone  = "alone-"
	maxLease    = 10 * time.Minute
)

// leaseNote is the content of a lease object.
type leaseNote struct {
	Version int    `json:"version"`
	Holder  string `json:"holder"`  // for people
	Seconds int    `json:"seconds"` // how long it counts, from when the object was written
}

// decodeLease reads a note. What cannot be read counts as long as a lease can: its object's time is believed.
func decodeLease(b []byte) leaseNote {
	var n leaseNote
	if json.Unmarshal(b, &n) != nil || n.Version != 1 || n.Seconds <= 0 || n.Seconds > int(maxLease/time.Second) {
		return leaseNote{Version: 1, Holder: "somebody", Seconds: int(maxLease / time.Second)}
	}
	if n.Holder = strings.ToValidUTF8(n.Holder, "?"); len(n.Holder) > 100 {
		n.Holder = n.Holder[:100]
	}
	return n
}

// lease is a lock in a bucket: an object that its holder writes anew as long as it lives. It has a name of its own below
// the lock's, so that two who write theirs at the same time both find the other when they look afterwards.
type lease struct {
	files  *bucketFiles
	object string
	note   []byte
	stop   context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	renewed time.Time // by the wall clock: a machine may have slept
	lost    bool
}

// TryLock writes a lease, and takes it back where somebody else's counts.
func (f *bucketFiles) TryLock(ctx context.Context, name string, exclusive bool) (lock, error) {
	kind := leaseShared
	if exclusive {
		kind = leaseAlone
	}
	host, _ := os.Hostname() // for people only
	note, err := json.Marshal(leaseNote{1, fmt.Sprintf("process %d on %s", os.Getpid(), host), int(f.ttl / time.Second)})
	if err != nil {
		return lock{}, err
	}
	l := &lease{files: f, object: name + "/" + kind + random(), note: note, ended: make(chan struct{}), renewed: wall()}
	if err := f.bucket.Write(ctx, l.object, strings.NewReader(string(note)), false); err != nil {
		return lock{}, fmt.Errorf("cannot lock %s: %w", name, err)
	}
	if err := f.conflict(ctx, name, l.object, exclusive); err != nil {
		return lock{}, errors.Join(err, l.remove())
	}
	f.mu.Lock()
	f.leases[l] = true
	f.mu.Unlock()
	var renewing context.Context
	renewing, l.stop = context.WithCancel(f.ctx)
	go l.renew(renewing)
	return lock{l.release}, nil
}

// wall is the time without Go's monotonic clock, which stands still while a machine sleeps.
func wall() time.Time { return time.Now().Round(0) }

// conflict says who else has the lock. The time is the service's, from the object that was just written.
func (f *bucketFiles) conflict(ctx context.Context, name, mine string, exclusive bool) error {
	all, err := f.bucket.List(ctx, name+"/")
	if err != nil {
		return err
	}
	var now time.Time
	for _, o := range all {
		if o.Name == mine {
			now = o.Modified
		}
	}
	if now.IsZero() {
		return fmt.Errorf("cannot lock %s: the storage does not list what was written a moment ago", name)
	}
	for _, o := range all {
		kind := strings.TrimPrefix(o.Name, name+"/")
		alone := strings.HasPrefix(kind, leaseAlone)
		if o.Name == mine || !alone && (!exclusive || !strings.HasPrefix(kind, leaseShared)) {
			continue
		}
		b, err := f.fetch(o.Name, 0, min(o.Size, 4096))
		note := decodeLease(b)
		if err == nil && now.Sub(o.Modified) > time.Duration(note.Seconds)*time.Second {
			f.log.WarnContext(ctx, "the lease of somebody who is gone is removed", "lease", o.Name, "holder", note.Holder)
			if err := f.bucket.Delete(ctx, o.Name); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			return fmt.Errorf("snapshot store: %s is locked by %s: %w", name, note.Holder, state.ErrInUse)
		}
		if !errors.Is(err, fs.ErrNotExist) { // that one has been released since
			return err
		}
	}
	return nil
}

// renew keeps a lease until it is released.
func (l *lease) renew(ctx context.Context) {
	defer close(l.ended)
	tick := time.NewTicker(l.files.ttl / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.again(ctx)
		}
	}
}

// again writes the lease anew, unless it may have been taken away.
func (l *lease) again(ctx context.Context) {
	if !l.counts() {
		return
	}
	all, err := l.files.bucket.List(ctx, l.object)
	if err != nil {
		return // the next time
	}
	if len(all) == 0 {
		l.mu.Lock()
		l.lost = true
		l.mu.Unlock()
		return
	}
	at := wall()
	if l.files.bucket.Write(ctx, l.object, strings.NewReader(string(l.note)), false) == nil {
		l.mu.Lock()
		l.renewed = at
		l.mu.Unlock()
	}
}

// counts says whether others still honour the lease.
func (l *lease) counts() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.lost && wall().Sub(l.renewed) < l.files.ttl*3/4
}

func (l *lease) release() {
	l.stop()
	<-l.ended
	l.files.mu.Lock()
	delete(l.files.leases, l)
	l.files.mu.Unlock()
	if err := l.remove(); err != nil {
		l.files.log.Warn("a lease stays until it ends", "lease", l.object, "error", err)
	}
}

// remove works also when the operation was cancelled.
func (l *lease) remove() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.files.ctx), 3*time.Second)
	defer cancel()
	return l.files.bucket.Delete(ctx, l.object)
}

// assure says whether all that this process holds is still honoured, which is asked before anything is made visible.
func (f *bucketFiles) assure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for l := range f.leases {
		if !l.counts() {
			return fmt.Errorf("the storage was out of reach for so long that %s may be another's by now (repeat it): %w", l.object, state.ErrInUse)
		}
	}
	return nil
}

// patience is how long somebody waits for a lock.
type patience struct {
	first, most time.Duration // between two tries
	limit       time.Duration // zero: as long as the context allows
}

func (s *Store) patience() patience {
	if _, ok := s.raw.(*bucketFiles); ok { // each try takes requests, and those who hold a lock may be far away
		return patience{50 * time.Millisecond, 2 * time.Second, time.Minute}
	}
	return patience{time.Millisecond, 50 * time.Millisecond, 0}
}

// jitter spreads those who wait.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }
