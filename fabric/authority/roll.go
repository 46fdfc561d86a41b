package authority

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"orrery/fabric"
)

// RollConfig is what a Roll needs.
type RollConfig struct {
	Self  fabric.NodeID
	Table fabric.Table
	// Belongs says whether a node is in the table's own group, which one that leaves still is after it gave its name back.
	Belongs func(id fabric.NodeID) bool
	// Introduced says whether this node was told of another one when it joined. That counts until it has the table.
	Introduced func(id fabric.NodeID) bool
	// Ready says whether the table probably answers now. Ask asks other nodes of the roll about a holder that this node does not know, because
	// it was away; the error wraps fabric.ErrNotFound if nobody could be asked.
	Ready func() bool
	Ask   func(ctx context.Context, holder fabric.Identity) error
	// Changed is told when somebody was put out. Nil: nobody.
	Changed func()
	Logger  *slog.Logger // nil: discard
}

// Roll knows whose certificates count: those of the nodes that have a name in the table, and of the people whom it has. A signature of
// the CA alone is not enough, for every node that ever was can make one.
//
// It follows the table by itself. Safe for concurrent use.
type Roll struct {
	config  RollConfig
	asking  chan struct{} // holds a token for each question that is under way
	changes []<-chan fabric.Change

	mu     sync.Mutex
	nodes  map[string]fabric.NodeID // by name
	people map[fabric.NodeID]Person
	out    map[fabric.NodeID]Eviction
}

const (
	maxAsking  = 16
	askingTime = 2 * time.Second
)

// OpenRoll reads what the node's copy of the table has, and follows it in Run. ctx is of both.
func OpenRoll(ctx context.Context, c RollConfig) (*Roll, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Roll{
		config: c, asking: make(chan struct{}, maxAsking),
		nodes: map[string]fabric.NodeID{}, people: map[fabric.NodeID]Person{}, out: map[fabric.NodeID]Eviction{},
	}
	for _, prefix := range []string{EvictedPrefix, NamePrefix, PersonPrefix} {
		changes, err := c.Table.Watch(ctx, prefix)
		if err != nil {
			return nil, fmt.Errorf("cannot follow who belongs to the cluster: %w", err)
		}
		r.take(<-changes)
		r.changes = append(r.changes, changes)
	}
	return r, nil
}

// Run follows the table until ctx ends or the table is closed.
func (r *Roll) Run(context.Context) error {
	var following sync.WaitGroup
	for _, changes := range r.changes {
		following.Go(func() {
			for change := range changes {
				if r.take(change) && r.config.Changed != nil {
					r.config.Changed()
				}
			}
		})
	}
	following.Wait()
	return nil
}

// take takes a change in; out says that somebody was put out by it.
func (r *Roll) take(change fabric.Change) (out bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range change.Entries {
		switch {
		case strings.HasPrefix(e.Key, NamePrefix):
			r.nodes[strings.TrimPrefix(e.Key, NamePrefix)] = fabric.NodeID(e.Value) // empty, which is nobody, when it was released
		case strings.HasPrefix(e.Key, PersonPrefix):
			keep(r, r.people, strings.TrimPrefix(e.Key, PersonPrefix), e)
		case strings.HasPrefix(e.Key, EvictedPrefix):
			keep(r, r.out, strings.TrimPrefix(e.Key, EvictedPrefix), e)
			out = true
		}
	}
	return out
}

// keep takes over one record. One that cannot be read is as good as none, which lets nobody in; it puts nobody out either.
func keep[T any](r *Roll, all map[fabric.NodeID]T, id string, e fabric.Entry) {
	var record T
	delete(all, fabric.NodeID(id))
	if e.Value == nil {
		return
	}
	if err := json.Unmarshal(e.Value, &record); err != nil {
		r.config.Logger.Error("record of the table cannot be read", "key", e.Key, "error", err)
		return
	}
	all[fabric.NodeID(id)] = record
}

// Out is the error for a node or person that was put out, as far as this node knows; nil otherwise.
func (r *Roll) Out(id fabric.NodeID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out[id].Refusal()
}

// Admit says whether whom a certificate names belongs to the cluster. What this node's copy of the table does not know is looked up in the
// table, or asked of other nodes, so it may take some seconds. Errors wrap fabric.ErrEvicted or fabric.ErrForbidden.
func (r *Roll) Admit(ctx context.Context, holder fabric.Identity) error {
	known, err := r.Known(holder)
	if known || err != nil {
		return err
	}
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	default:
		return fmt.Errorf("cannot find out whether %s belongs to the cluster: %w: too many are asked for", describeHolder(holder), fabric.ErrForbidden)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*askingTime)
	defer cancel()
	if r.config.Ready() {
		if err := r.LookUp(ctx, holder); err == nil || decided(err) {
			return err
		}
	}
	err = r.config.Ask(ctx, holder)
	if err != nil && !decided(err) {
		err = fmt.Errorf("cannot find out whether %s belongs to the cluster: %w (%w)", describeHolder(holder), fabric.ErrForbidden, err)
	}
	return err
}

// decided says whether an error is an answer about a holder, and not why there is none.
func decided(err error) bool {
	return errors.Is(err, fabric.ErrEvicted) || errors.Is(err, fabric.ErrForbidden)
}

// Known says whether this node's copy of the table has a holder; the error is for one that was put out.
func (r *Roll) Known(holder fabric.Identity) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out[holder.ID].Refusal(); err != nil || holder.ID == r.config.Self {
		return err == nil, err
	}
	if holder.Role != fabric.RoleNode {
		return r.people[holder.ID].Role == holder.Role, nil
	}
	if r.nodes[holder.Name] == holder.ID || r.config.Belongs(holder.ID) {
		return true, nil
	}
	return !r.config.Belongs(r.config.Self) && r.config.Introduced(holder.ID), nil
}

// LookUp is Admit by the table alone.
func (r *Roll) LookUp(ctx context.Context, holder fabric.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, askingTime)
	defer cancel()
	var eviction Eviction
	if _, err := read(ctx, r.config.Table, EvictedPrefix+string(holder.ID), func(b []byte) error { return json.Unmarshal(b, &eviction) }); err != nil {
		return err
	}
	if err := eviction.Refusal(); err != nil {
		return err
	}
	known, err := r.enrolled(ctx, holder)
	if err == nil && !known {
		err = fmt.Errorf("certificate of %s: %w: it is not among those that the cluster knows, for it has left, or was not admitted by a token (join anew)",
			describeHolder(holder), fabric.ErrForbidden)
	}
	return err
}

func (r *Roll) enrolled(ctx context.Context, holder fabric.Identity) (known bool, err error) {
	if holder.Role == fabric.RoleNode {
		var id fabric.NodeID
		_, err := read(ctx, r.config.Table, NamePrefix+holder.Name, func(b []byte) error { id = fabric.NodeID(b); return nil })
		return id == holder.ID || r.config.Belongs(holder.ID), err
	}
	var p Person
	_, err = read(ctx, r.config.Table, PersonPrefix+string(holder.ID), func(b []byte) error { return json.Unmarshal(b, &p) })
	return p.Role == holder.Role, err
}

// read decodes the value of a key, if there is one, and returns its revision.
func read(ctx context.Context, table fabric.Table, key string, decode func([]byte) error) (revision uint64, err error) {
	entry, err := table.Get(ctx, key)
	if errors.Is(err, fabric.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		err = decode(entry.Value)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot read %s: %w", key, err)
	}
	return entry.Revision, nil
}

func describeHolder(holder fabric.Identity) string {
	return fmt.Sprintf("%s %s, %s", holder.Role, holder.Name, holder.ID)
}
