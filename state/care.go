package state

import (
	"context"
	"io"
	"time"
)

// Custodian is what a keeper does for people beyond what a deploy needs. Like all of a keeper's operations these
// wait for each other on one component, may be repeated, and leave the state before where they end in an error.
type Custodian interface {
	Examiner
	Guard
	Archivist
	Brancher
	Librarian
	// Shell returns the program to work on an active component with; see Sheller. It may hold secrets.
	Shell(ctx context.Context, r Ref, command string) (Command, error)
	// Migrate carries out the migrations that an active component has files of and that were not carried out yet, and
	// returns them. With dryRun it only says which those are.
	Migrate(ctx context.Context, r Ref, dryRun bool) ([]Migration, error)
	// Sweep does what is due: it deletes expired forks and what test restores left, and ends expired leases.
	Sweep(ctx context.Context) error
}

// Examiner finds out how a component is.
type Examiner interface {
	// Health returns nil, or why an active component does not serve.
	Health(ctx context.Context, r Ref) error
	// Integrity returns nil, or what is damaged in the component's own structures; see state.Integrity.
	Integrity(ctx context.Context, r Ref) error
	// TestRestore restores a snapshot (empty: the newest generation's) into a scratch component beside, compares that
	// state with the snapshot, removes the scratch, and notes the time in the generations of the snapshot.
	TestRestore(ctx context.Context, r Ref, id SnapshotID) (Tested, error)
}

// Tested is the outcome of a test restore that went well.
type Tested struct {
	Snapshot SnapshotID `json:"snapshot"`
	// How the states were compared: "bytes", or "items" where a module's snapshots of one state may differ.
	How   string        `json:"how"`
	Items int64         `json:"items,omitempty"`
	Took  time.Duration `json:"took"`
}

// Lease says that somebody keeps others from changing a component's state or taking it out of service.
type Lease struct {
	By    string    `json:"by"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	Held  bool      `json:"held,omitempty"` // the component itself holds still; see Locker
}

// Guard leases components.
type Guard interface {
	// Lock leases a component, or prolongs the lease of the same caller, and asks an active component that can to hold
	// still. ErrLocked if somebody else has it, ErrVeto if the component refuses.
	Lock(ctx context.Context, r Ref, by string, lasting time.Duration) (Lease, error)
	// Unlock ends a lease; with force somebody else's too. Nothing happens if there is none.
	Unlock(ctx context.Context, r Ref, by string, force bool) error
}

// SnapshotRequest asks for snapshots.
type SnapshotRequest struct {
	// Refs are the components; several are taken together, while those that can hold still.
	Refs   []Ref    `json:"refs"`
	Reason string   `json:"reason"`
	Tags   []string `json:"tags,omitempty"`
	// Check has each component's integrity checked first, where its module can.
	Check bool `json:"check,omitempty"`
}

// RestoreRequest asks for a restore.
type RestoreRequest struct {
	Ref Ref        `json:"ref"`
	ID  SnapshotID `json:"id,omitempty"` // empty: the newest generation's
	// Part is what to restore of it, in the module's words; empty: all.
	Part string `json:"part,omitempty"`
	// Wait is how long connected clients are waited for, where the module can count them; with Force they are not waited for.
	Wait  time.Duration `json:"wait,omitempty"`
	Force bool          `json:"force,omitempty"`
	// As restores into a new component of that name beside, in Container or where Ref is.
	As        string `json:"as,omitempty"`
	Container string `json:"container,omitempty"`
	// With are others to restore together with Ref, all or none. It excludes Part and As.
	With []Restoring `json:"with,omitempty"`
}

// Restoring is a component and the snapshot that its state becomes.
type Restoring struct {
	Ref Ref        `json:"ref"`
	ID  SnapshotID `json:"id"`
}

// Archivist takes and brings back snapshots for people.
type Archivist interface {
	// TakeSnapshots takes snapshots of one component, or of several at once: what can hold still does so until the last
	// of them is complete, and their generations share a group. Where one refuses or fails, no generation is kept of any.
	TakeSnapshots(ctx context.Context, q SnapshotRequest) ([]Generation, error)
	// RestoreAs carries out a RestoreRequest and returns the component that has the state now.
	RestoreAs(ctx context.Context, q RestoreRequest) (Status, error)
	// Undo restores what the last restore, or migration that was undone, replaced. Undoing again brings back what was undone.
	Undo(ctx context.Context, q RestoreRequest) (Generation, error)
}

// Branch is what a keeper knows of a fork.
type Branch struct {
	Origin   Ref           `json:"origin"`
	Snapshot SnapshotID    `json:"snapshot,omitempty"` // that it began as, where that was asked for
	Method   string        `json:"method"`
	Owner    string        `json:"owner,omitempty"`
	Created  time.Time     `json:"created"`
	Expires  time.Time     `json:"expires,omitzero"`
	Lasting  time.Duration `json:"lasting,omitempty"` // from Created to Expires
}

// ForkRequest asks for a fork.
type ForkRequest struct {
	From Ref    `json:"from"`
	As   string `json:"as"` // the fork's name; its container is the origin's
	// At is the snapshot to begin with; empty: the component as it is now, which is active.
	At      SnapshotID    `json:"at,omitempty"`
	Method  string        `json:"method,omitempty"` // empty: the best one that can be gone
	Owner   string        `json:"owner,omitempty"`
	Expires time.Duration `json:"expires,omitempty"` // zero: never
}

// Brancher makes and ends forks and replicas.
type Brancher interface {
	Mirror
	// ForkAs carries out a ForkRequest. A module that cannot fork gets a snapshot of the origin to restore.
	ForkAs(ctx context.Context, q ForkRequest) (Status, error)
	// ResetFork makes a fork as it was when it began, or where it began as its origin was, as the origin is now.
	ResetFork(ctx context.Context, r Ref) (Status, error)
	// DiffFork compares a fork with its origin as that is now, or with what it began as. ErrBadProperty if it is no fork,
	// ErrNoSnapshot where no snapshot is known that it began as.
	DiffFork(ctx context.Context, q ForkDiffRequest) (Difference, error)
	// DeleteFork takes a fork out of service and deletes its state without a snapshot. ErrBadProperty if it is no fork.
	DeleteFork(ctx context.Context, r Ref) error
}

// ReplicaRequest asks for a replica.
type ReplicaRequest struct {
	From    Ref           `json:"from"`
	As      string        `json:"as"` // its name; its container is the source's
	Owner   string        `json:"owner,omitempty"`
	Expires time.Duration `json:"expires,omitempty"` // zero: never
}

// Mirror makes and ends replicas; see Replicator. A replica has a Branch whose method is ForkReplica: Brancher's ResetFork makes it
// anew, DeleteFork deletes it.
type Mirror interface {
	// Replicate makes a replica of an active component and activates it. ErrNotAble if the module cannot, ErrInUse if there is
	// something of that name, a replica too; what is left of one that was interrupted is removed first.
	Replicate(ctx context.Context, q ReplicaRequest) (Status, error)
	// Lag says how far an active replica is behind; ErrBadProperty if it is no replica.
	Lag(ctx context.Context, r Ref) (Lag, error)
	// Promote makes an active replica a component by itself: a fork of its source, which does not expire.
	Promote(ctx context.Context, r Ref) (Status, error)
}

// ExportRequest says what of a snapshot to write.
type ExportRequest struct {
	ID SnapshotID `json:"id"`
	// Module is whose snapshot it is where the store does not say it right: the same bytes may be those of two modules.
	Module string `json:"module,omitempty"`
	// Raw is the snapshot's own bytes instead of what the service's own tools read; see Portable.
	Raw bool `json:"raw,omitempty"`
}

// ImportRequest says what to make a generation of, and whose.
type ImportRequest struct {
	Ref Ref `json:"ref"`
	// Module is whose snapshot it becomes. Empty: that of the component, or of its newest generation, or the one
	// that the container is for.
	Module string `json:"module,omitempty"`
	// Raw says that what is read is a snapshot's own bytes; see ExportRequest.
	Raw bool `json:"raw,omitempty"`
}

// Librarian takes snapshots out of a store and into it.
type Librarian interface {
	Comparer
	// Export writes a snapshot, and returns an error where what was written is worthless.
	Export(ctx context.Context, q ExportRequest, w io.Writer) error
	// Import makes of what r yields, to its end, a generation with reason "import", and verifies it. The component need
	// not exist. An error of r, or content that is not whole, leaves the store as it was.
	Import(ctx context.Context, q ImportRequest, r io.Reader) (Generation, error)
}

type callerKey struct{}

// WithCaller notes who asks for the operations of a context; leases are compared with it.
func WithCaller(ctx context.Context, by string) context.Context {
	return context.WithValue(ctx, callerKey{}, by)
}

// Caller is who was noted with WithCaller; empty if nobody was.
func Caller(ctx context.Context) string {
	by, _ := ctx.Value(callerKey{}).(string)
	return by
}
