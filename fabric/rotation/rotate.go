package rotation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"orrery/fabric"
)

// maxKept is how many keys a node keeps besides a new one.
const maxKept = 4

// Step is what happened to one node in a rotation.
type Step struct {
	Phase Phase         `json:"phase"`
	Node  fabric.NodeID `json:"node"`
	Name  string        `json:"name"`
	// Away is why the node did not take the step, although it is not there; it catches up when it is back.
	Away string `json:"away,omitempty"`
}

// Latest is the newest rotation in the table; a zero one if there was none.
func (r *Rotator) Latest(ctx context.Context) (Record, error) {
	record, _, err := r.read(ctx)
	return record, err
}

func (r *Rotator) read(ctx context.Context) (record Record, revision uint64, err error) {
	entry, err := r.config.Table.Get(ctx, Key)
	if errors.Is(err, fabric.ErrNotFound) {
		return Record{}, 0, nil
	}
	if err == nil {
		record, err = decode(entry.Value)
	}
	if err != nil {
		return Record{}, 0, fmt.Errorf("cannot read how far the gossip's key is changed: %w", err)
	}
	return record, entry.Revision, nil
}

func (r *Rotator) write(ctx context.Context, record Record, revision uint64) (uint64, error) {
	value, err := json.Marshal(record)
	if err != nil {
		return 0, err
	}
	revision, err = r.config.Table.CompareAndSwap(ctx, Key, revision, value)
	if errors.Is(err, fabric.ErrConflict) {
		err = fmt.Errorf("somebody else changes the gossip's key, too: %w (run the command again to wait for the end)", err)
	}
	return revision, err
}

// Rotate ends the rotation that is under way, or carries a new one out. by is who wants it. told is told each node's steps, from one
// goroutine at a time. After an error Rotate, on any node, goes on.
func (r *Rotator) Rotate(ctx context.Context, by string, told func(Step)) (Record, error) {
	record, revision, err := r.read(ctx)
	if err != nil {
		return record, err
	}
	underWay := record.Serial > 0 && record.Phase != Done
	if underWay {
		err = r.Follow(ctx, record)
	}
	if !underWay || errors.Is(err, ErrKeyLost) {
		record, revision, err = r.begin(ctx, record.Serial+1, revision, by)
	}
	if err != nil {
		return record, err
	}
	for _, phase := range phases[1:] {
		if !(Record{Serial: record.Serial, Phase: phase}).after(record) {
			continue // it was there when this began
		}
		if err := r.turn(ctx, record, told); err != nil {
			return record, err
		}
		if record.Phase = phase; phase == Done {
			record.Ended = time.Now().UTC()
		}
		if revision, err = r.write(ctx, record, revision); err != nil {
			return record, err
		}
	}
	return record, r.Follow(ctx, record)
}

// begin makes a key. It is kept here before the record names it.
func (r *Rotator) begin(ctx context.Context, serial, revision uint64, by string) (Record, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, err := newKey()
	if err != nil {
		return Record{}, 0, err
	}
	keys := r.config.Ring.Keys()
	keys = keys[:min(len(keys), maxKept)] // of rotations that were begun and not ended
	if err := r.config.Ring.Set(append(keys, key)); err != nil {
		return Record{}, 0, fmt.Errorf("cannot keep a new gossip key: %w", err)
	}
	record := Record{Serial: serial, Phase: Adding, Key: Fingerprint(key), Holder: r.config.Self, By: by, Begun: time.Now().UTC()}
	if revision, err = r.write(ctx, record, revision); err != nil {
		return record, 0, err // the key stays, for perhaps it was written; the next rotation that ends removes it
	}
	r.followed = record
	return record, revision, nil
}

// turn has all nodes take a step. Those that are away do it later; one that is alive and does not ends the rotation, for it would be cut off.
func (r *Rotator) turn(ctx context.Context, record Record, told func(Step)) error {
	nodes, err := r.config.Nodes(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.Patience)
	defer cancel()
	var turning sync.WaitGroup
	var mu sync.Mutex // of errs and told
	var errs []error
	for _, n := range nodes {
		turning.Go(func() {
			away, err := r.turnOne(ctx, n.ID, record)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("node %s, %s, is alive and does not %s gossip key %s: %w", n.Name, n.ID, record.Phase, record.Key, err))
				return
			}
			step := Step{Phase: record.Phase, Node: n.ID, Name: n.Name}
			if away != nil {
				step.Away = away.Error()
			}
			told(step)
		})
	}
	turning.Wait()
	return errors.Join(errs...)
}

// turnOne has one node take a step; away is why it did not, if it is not there.
func (r *Rotator) turnOne(ctx context.Context, id fabric.NodeID, record Record) (away, err error) {
	if id == r.config.Self {
		return nil, r.Follow(ctx, record)
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*askTime)
		err := r.config.Turn(attempt, id, record)
		cancel()
		switch {
		case err == nil:
			return nil, nil
		case !r.config.Alive(id):
			return err, nil
		case !pause(ctx):
			return nil, err
		}
	}
}
