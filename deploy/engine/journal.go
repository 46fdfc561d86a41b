package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// journalVersion is the version of the journal's format.
const journalVersion = 1

// The phases of a journal.
const (
	phaseRunning = "running" // Work[At] is under way; those before it are done
	phaseUndoing = "undoing" // Work holds the inverses of what was done, and Work[At] is under way
	phaseClosed  = "closed"  // nothing is under way
)

// The kinds of operations.
const (
	kindApply   = "apply"
	kindRemove  = "remove"
	kindBackup  = "backup"
	kindRestore = "restore"
	kindRecover = "recover"
	kindResume  = "resume"
)

// journal is what is under way on a manifest, or was last.
type journal struct {
	Version   int           `json:"version"`
	Operation string        `json:"operation"` // its id
	Kind      string        `json:"kind"`
	Phase     string        `json:"phase"`
	Owner     fabric.NodeID `json:"owner"`
	Holder    string        `json:"holder,omitempty"` // the run that holds it; empty: nobody
	Beat      uint64        `json:"beat"`             // grows with every write
	Started   time.Time     `json:"started"`
	Plan      deploy.Plan   `json:"plan"`
	Work      []work        `json:"work,omitempty"`
	At        int           `json:"at"`
	Doing     string        `json:"doing,omitempty"` // the part of Work[At] under way
	// Manifest is recorded when all is done.
	Manifest *deploy.Manifest `json:"manifest,omitempty"`
	Result   string           `json:"result,omitempty"` // how it ended
	// Leftovers are components on nodes that could not be reached when they should have been cleaned.
	Leftovers []leftover `json:"leftovers,omitempty"`
}

// work is one step with all that is needed to finish or undo it.
type work struct {
	Step   deploy.Step       `json:"step"`
	Before *deploy.Placement `json:"before,omitempty"` // nil: ran nowhere
	After  *deploy.Placement `json:"after,omitempty"`  // nil: will run nowhere
	// Source is where state comes from when Before is nil or on the same node; nil: from Before.
	Source *deploy.Placement `json:"source,omitempty"`
	// Carry are the components whose state moves.
	Carry []state.Component `json:"carry,omitempty"`
	// Snapshots are the states to bring, by component: of a retired service, or to restore.
	Snapshots map[string]state.SnapshotID `json:"snapshots,omitempty"`
	// From are the nodes that have Snapshots to restore, or of a service whose node was put out, by component.
	From map[string][]fabric.NodeID `json:"from,omitempty"`
	// Restore says that the work restores Snapshots where the service is; Previous are the states before.
	Restore  bool                        `json:"restore,omitempty"`
	Previous map[string]state.SnapshotID `json:"previous,omitempty"`

	revision uint64 // of the placement when the work began
}

// service is the name of the service that the work is about.
func (w *work) service() string { return w.Step.Service }

// moves says whether the service changes node.
func (w *work) moves() bool {
	return w.Before != nil && w.After != nil && w.Before.Node != w.After.Node
}

// leftover is what a node has to clean when it is back.
type leftover struct {
	Service    string        `json:"service"`
	Node       fabric.NodeID `json:"node"`
	Components []state.Ref   `json:"components"` // in order of activation
}

// retired is the last place of a service that runs nowhere.
type retired struct {
	deploy.Placement
	// Snapshots are its last states, by component, in the store of its node.
	Snapshots map[string]state.SnapshotID `json:"snapshots,omitempty"`

	from map[string][]fabric.NodeID // that have the snapshots, where its node was put out
}

var (
	// errFenced says that another engine has taken the journal over.
	errFenced = errors.New("another node has taken the operation over")
	// errSilent says that the journal could not be renewed in time, so that another engine may have it.
	errSilent = errors.New("the table was out of reach for too long")
)

// readJournal reads a manifest's journal; revision 0 if there is none.
func (e *Engine) readJournal(ctx context.Context, manifest string) (journal, uint64, error) {
	entry, err := e.Table.Get(ctx, deploy.JournalPrefix+manifest)
	if errors.Is(err, fabric.ErrNotFound) {
		return journal{Phase: phaseClosed}, 0, nil
	}
	if err != nil {
		return journal{}, 0, fmt.Errorf("cannot read the journal of %s: %w", manifest, err)
	}
	var j journal
	if err := json.Unmarshal(entry.Value, &j); err != nil {
		return journal{}, 0, fmt.Errorf("journal of %s cannot be read: %w", manifest, err)
	}
	if j.Version != journalVersion {
		return journal{}, 0, fmt.Errorf("journal of %s has version %d, this Orrery knows %d (use the newer one)", manifest, j.Version, journalVersion)
	}
	return j, entry.Revision, nil
}

// swap writes value if the key is still at revision. A table that does not know whether it wrote
// is asked again.
func (e *Engine) swap(ctx context.Context, key string, revision uint64, value []byte) (uint64, error) {
	unsure := false
	for attempt := 0; ; attempt++ {
		next, err := e.Table.CompareAndSwap(ctx, key, revision, value)
		if err == nil {
			return next, nil
		}
		if errors.Is(err, fabric.ErrConflict) && !unsure {
			return 0, err
		}
		if !errors.Is(err, fabric.ErrConflict) {
			unsure = true
		}
		if attempt == 2 || ctx.Err() != nil {
			return 0, err
		}
		entry, readErr := e.Table.Get(ctx, key)
		switch {
		case readErr == nil && entry.Revision != revision && bytes.Equal(entry.Value, value):
			return entry.Revision, nil
		case readErr == nil && entry.Revision != revision, errors.Is(readErr, fabric.ErrNotFound) && revision != 0:
			return 0, fabric.ErrConflict
		}
	}
}
