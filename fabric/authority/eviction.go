package authority

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"orrery/fabric"
)

// Keys of the table that say who is out, and which people are in.
const (
	EvictedPrefix = "fabric/evicted/" // + id: Eviction
	PersonPrefix  = "fabric/person/"  // + id: Person
)

// Eviction is the record of a node, or a person's certificate, that is put out of the cluster for good.
type Eviction struct {
	ID    fabric.NodeID `json:"id"`
	Name  string        `json:"name"`
	Role  fabric.Role   `json:"role"`
	By    string        `json:"by"`
	Why   string        `json:"why,omitempty"`
	Begun time.Time     `json:"begun"`
	// Out is since when its certificate is refused; zero until the table can do without it.
	Out time.Time `json:"out,omitzero"`
	// Done is when the last step was done; zero: run the command again.
	Done time.Time `json:"done,omitzero"`
	// Gossip is the last rotation of the gossip's key that was begun while it was in; only one with a greater serial keeps its gossip out.
	Gossip uint64 `json:"gossip,omitempty"`
	// Lost is what was given up with it: services, and chains of which it had the last copy.
	Lost []string `json:"lost,omitempty"`
}

// Refusal is the error that the holder of the certificate is told; nil while it is not out.
func (e Eviction) Refusal() error {
	if e.Out.IsZero() {
		return nil
	}
	why := ""
	if e.Why != "" {
		why = ": " + e.Why
	}
	return fmt.Errorf("%s %s, %s, was %w by %s at %s%s (to come back, join anew: with a fresh token, in a fresh folder)",
		e.Role, e.Name, e.ID, fabric.ErrEvicted, e.By, e.Out.UTC().Format(time.RFC3339), why)
}

// Person is a person's certificate. Without a record here it is not taken.
type Person struct {
	ID       fabric.NodeID `json:"id"`
	Name     string        `json:"name"`
	Role     fabric.Role   `json:"role"`
	Token    string        `json:"token"` // id of the one that admitted it
	Admitted time.Time     `json:"admitted"`
	Expires  time.Time     `json:"expires"`
}

// Evictions lists who was put out, sorted by id.
func (r *Registrar) Evictions(ctx context.Context) ([]Eviction, error) {
	return list[Eviction](ctx, r.table, EvictedPrefix)
}

// Eviction returns the record of an id; a zero one, with revision 0, if it was not put out.
func (r *Registrar) Eviction(ctx context.Context, id fabric.NodeID) (e Eviction, revision uint64, err error) {
	revision, err = read(ctx, r.table, EvictedPrefix+string(id), func(b []byte) error { return json.Unmarshal(b, &e) })
	return e, revision, err
}

// Evict writes a record if it is still at that revision, and returns the new one.
func (r *Registrar) Evict(ctx context.Context, e Eviction, revision uint64) (uint64, error) {
	value, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	return r.table.CompareAndSwap(ctx, EvictedPrefix+string(e.ID), revision, value)
}

// barred is the error for an id that was put out.
func (r *Registrar) barred(ctx context.Context, id fabric.NodeID) error {
	e, _, err := r.Eviction(ctx, id)
	if err != nil {
		return err
	}
	return e.Refusal()
}

// People lists the people who have a certificate, sorted by id.
func (r *Registrar) People(ctx context.Context) ([]Person, error) {
	return list[Person](ctx, r.table, PersonPrefix)
}

// Revoke takes a person's certificate away. It is refused from now on, and its connections are ended. Repeating it is fine.
func (r *Registrar) Revoke(ctx context.Context, p Person, by, why string) error {
	e, revision, err := r.Eviction(ctx, p.ID)
	if err != nil {
		return err
	}
	if e.Done.IsZero() {
		now := r.now().UTC()
		e = Eviction{ID: p.ID, Name: p.Name, Role: p.Role, By: by, Why: why, Begun: now, Out: now, Done: now}
		if _, err := r.Evict(ctx, e, revision); err != nil {
			return fmt.Errorf("cannot revoke the certificate of %s: %w", p.Name, err)
		}
	}
	return r.table.Delete(ctx, PersonPrefix+string(p.ID), 0)
}

// enter writes down a person who is admitted.
func (r *Registrar) enter(ctx context.Context, p Person) error {
	value, err := json.Marshal(p)
	if err == nil {
		_, err = r.table.Put(ctx, PersonPrefix+string(p.ID), value)
	}
	if err != nil {
		return fmt.Errorf("cannot write down that %s was admitted: %w", p.Name, err)
	}
	return nil
}

func list[T any](ctx context.Context, table fabric.Table, prefix string) ([]T, error) {
	entries, err := table.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", prefix, err)
	}
	all := make([]T, len(entries))
	for i, e := range entries {
		if err := json.Unmarshal(e.Value, &all[i]); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", e.Key, err)
		}
	}
	return all, nil
}
