// Package state is the contract for units of mutable state on one machine.
//
// A Component is a unit of state, a Container hosts it, a Module carries out
// operations on one type of component, a Store keeps snapshots, and a Keeper
// does all of that for the components of one machine. Optional abilities of a
// module are separate interfaces that are found by assertion.
//
// The parts are below it. Pure: delta (the byte-delta coder), address (what a name means), retention, schedule,
// difference. Storage: store (the snapshot store), vault (its encryption), bucket (object storage). Running: keeper (the
// Keeper), module/* (the modules), account (users and groups of components), dysnomia (Dysnomia's commands and files).
package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

var (
	// ErrNotFound says that a component, module, snapshot or file does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInUse says that something else holds what the operation needs for itself.
	ErrInUse = errors.New("in use")
	// ErrCorrupt says that stored bytes are not the bytes that were stored.
	ErrCorrupt = errors.New("corrupt")
	// ErrActive says that an operation is not possible while the component is active.
	ErrActive = errors.New("component is active")
	// ErrInactive says that an operation needs an active component.
	ErrInactive = errors.New("component is not active")
	// ErrNotAble says that the component's module lacks an optional ability, such as fork.
	ErrNotAble = errors.New("module is not able to")
	// ErrBadProperty says that a property is missing, unknown or malformed.
	ErrBadProperty = errors.New("bad property")
	// ErrNoSnapshot says that a component has no snapshot to restore.
	ErrNoSnapshot = errors.New("no snapshot")
	// ErrVeto says that a component refused to be locked.
	ErrVeto = errors.New("refused by the component")
	// ErrReplica says that a component follows another one, so that nothing else changes it.
	ErrReplica = errors.New("it is a replica, which only its source changes (promote it first)")
	// ErrLocked says that somebody else has leased the component.
	ErrLocked = errors.New("locked")
	// ErrUnreachable says that the service which hosts a component does not answer.
	ErrUnreachable = errors.New("not reachable")
	// ErrKey says that a store or snapshot is encrypted and no key that was given opens it.
	ErrKey = errors.New("no fitting key")
)

// Properties configure a component or a container: JSON values by name. A
// module decodes them into a struct of its own.
type Properties map[string]any

// Decode fills the struct that into points to. A name that the struct does not
// have, or a value of the wrong type, is an ErrBadProperty that names it.
func (p Properties) Decode(into any) error {
	if len(p) == 0 {
		return nil
	}
	encoded, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrBadProperty, err)
	}
	d := json.NewDecoder(bytes.NewReader(encoded))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %v", ErrBadProperty, err)
	}
	return nil
}

// Container is what hosts components of one module: a DBMS, a process
// manager, a folder of database files.
type Container struct {
	Name       string     `json:"name"`
	Module     string     `json:"module"`
	Properties Properties `json:"properties,omitempty"`
	// Directory is a folder of this machine that the module may use for
	// this container (database files, logs, run files). It exists.
	Directory string `json:"directory"`
}

// Component is a unit of mutable state and what first created it.
type Component struct {
	Name       string     `json:"name"` // see ValidName
	Module     string     `json:"module"`
	Container  string     `json:"container"` // the name of its container; default: the module's name
	Properties Properties `json:"properties,omitempty"`
	// Files are artifacts by the name that properties refer to them with
	// (${file.NAME}); the value is the SHA-256 of the content in hex. The keeper has them as files.
	Files map[string]string `json:"files,omitempty"`
	// Session names the session that owns the component; empty for production.
	Session string `json:"session,omitempty"`
}

// Ref names a component on one machine.
type Ref struct {
	Container string `json:"container"`
	Component string `json:"component"`
}

// String is CONTAINER/COMPONENT.
func (r Ref) String() string { return r.Container + "/" + r.Component }

// Ref is the component's name on its machine.
func (c Component) Ref() Ref { return Ref{c.Container, c.Name} }

var validTag = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,63}$`)

// ValidTag says whether a tag can be given to a generation: letters, digits and "_.:-", at most 64.
func ValidTag(tag string) bool { return validTag.MatchString(tag) }

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?(@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$`)

// ValidName says whether name can name a component or container: lower-case letters, digits, '-', '_' and
// '.', at most 63, and for a session's component "@" and the session's name.
func ValidName(name string) bool { return validName.MatchString(name) }

// Target is what a module's operation works on: the component with its
// references resolved, the container that hosts it, and a folder of its own.
type Target struct {
	Component Component
	Container Container
	// Directory belongs to this component alone (run files, logs, staging). It
	// exists, lives as long as the component and is removed after its garbage is collected.
	Directory string
	// Files are the component's artifacts, as absolute paths by name.
	Files map[string]string
}

// Property describes one property for people and for validation.
type Property struct {
	Name     string `json:"name"`
	Type     string `json:"type"` // string, int, bool, duration, size, []string, map[string]string, secret
	Default  string `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
	Doc      string `json:"doc"` // a sentence
}

// Description is a module's account of itself.
type Description struct {
	Name       string     `json:"name"`
	Doc        string     `json:"doc"` // what it drives, in a few sentences
	Properties []Property `json:"properties"`
	Container  []Property `json:"container"` // the properties of its containers
	Exports    []Property `json:"exports"`   // what others may refer to as ${component.NAME.EXPORT}
	Stateful   bool       `json:"stateful"`  // implements Stateful
	// Abilities are the optional ones; see the function Abilities, which tells. A module leaves it out.
	Abilities []string `json:"abilities,omitempty"`
	// Extension is the usual ending of the name of a file with an exported snapshot; see Portable. A module leaves it out.
	Extension string `json:"extension,omitempty"`
}

// Module carries out operations on one type of component. Every operation is
// idempotent and safe to repeat after a crash in the middle of it; an error leaves the
// state before it. Operations on one component do not overlap: the keeper holds its lock.
type Module interface {
	Describe() Description
	// Check finds what is wrong with a component's properties without touching anything.
	Check(c Component) error
	// Activate brings the component into being or back to life, and returns once it is
	// ready. State that exists is kept; the initial schema is loaded only if there is none.
	Activate(ctx context.Context, t Target) error
	// Deactivate takes it out of service. It never deletes state.
	Deactivate(ctx context.Context, t Target) error
}

// Stateful is a module whose components have state.
type Stateful interface {
	Module
	// Snapshot writes the component's whole logical state, consistent at one point in time while
	// clients write. The same state gives the same bytes. An error means that what was written is worthless.
	Snapshot(ctx context.Context, t Target, w io.Writer) error
	// Restore replaces the component's state by what r yields. The old state stays
	// until the new one is complete. Works on active and inactive components; an active
	// component of clients keeps its name and address.
	Restore(ctx context.Context, t Target, r io.Reader) error
	// CollectGarbage deletes the state of an inactive component.
	CollectGarbage(ctx context.Context, t Target) error
}

// Range is a half-open range of bytes [Offset, Offset+Length) of a snapshot stream.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// Image is a consistent, random-access view of the bytes that Snapshot would
// write, at the moment it was opened.
type Image interface {
	io.ReaderAt
	io.Closer
	// Size is the length of the image in bytes.
	Size() int64
	// Changed returns a superset of the ranges that differ from the image that the same
	// Tracker returned before, sorted and disjoint; ok is false if that is not known.
	Changed() (ranges []Range, ok bool)
}

// Tracker yields a sequence of images of one component and knows what changed
// between them at a cost that depends on the changes, not on the size.
type Tracker interface {
	// Image opens the current image. At most one image is open at a time.
	Image(ctx context.Context) (Image, error)
	// Close ends the tracking and gives back what it held (read locks).
	Close() error
}

// Trackable is a stateful module whose snapshot can be read at random and
// whose changes can be followed. Its components move with a pause as long as the last delta.
type Trackable interface {
	Stateful
	Track(ctx context.Context, t Target) (Tracker, error)
}

// Stage is a copy of a component's state that is being prepared beside it and is
// not in use. It survives the process: NewStage opens what is there.
type Stage interface {
	io.WriterAt
	io.ReaderAt
	// Truncate sets the length of the staged image in bytes.
	Truncate(size int64) error
	// Size is the length of the staged image in bytes.
	Size() (int64, error)
	// Sync makes what was written durable.
	Sync() error
	// Commit makes the stage the component's state, atomically and durably,
	// and keeps nothing of what was there. The component is inactive.
	Commit(ctx context.Context) error
	// Discard removes the stage.
	Discard() error
	// Close closes it and leaves it for later. After Commit it frees what was there before, which may take
	// the longer the larger that is; the state is committed without it.
	Close() error
}

// Stager is a stateful module that can prepare a restore piece by piece.
type Stager interface {
	Stateful
	NewStage(ctx context.Context, t Target) (Stage, error)
}

// SnapshotID is the BLAKE3-256 hash, in lower-case hex, of a snapshot's bytes.
type SnapshotID string

// Snapshot is an immutable copy of a component's logical state.
type Snapshot struct {
	ID      SnapshotID `json:"id"`
	Module  string     `json:"module"`
	Size    int64      `json:"size"`   // bytes of logical state
	Stored  int64      `json:"stored"` // bytes that it added to the store when it was written
	Created time.Time  `json:"created"`
	Parent  SnapshotID `json:"parent,omitempty"` // the snapshot it is a delta against, if any
	Depth   int        `json:"depth"`            // how many deltas lie between it and whole segments
}

// Generation is a dated entry of a component's history that points at a snapshot.
type Generation struct {
	Number    uint64     `json:"number"` // from 1, never used twice
	Container string     `json:"container"`
	Component string     `json:"component"`
	Snapshot  SnapshotID `json:"snapshot"`
	Time      time.Time  `json:"time"`
	Reason    string     `json:"reason"` // manual, backup, move, pre-restore, ...
	Size      int64      `json:"size"`   // bytes of logical state
	Stored    int64      `json:"stored"` // bytes that this generation added to the store
	// Server is the version of what hosted the component (see Versioner), empty if that is not known.
	Server string `json:"server,omitempty"`
	// Took is how long the snapshot took.
	Took time.Duration `json:"took,omitempty"`
	// Group is shared by the generations that were taken together, at one point in time; empty if it was taken alone.
	Group string `json:"group,omitempty"`
	// GroupSize is how many were; where there are fewer left, the others were dropped.
	GroupSize int `json:"groupSize,omitempty"`
	// Unfinished says that the others of its group are not saved yet. Nobody but the store sees such a one.
	Unfinished bool `json:"unfinished,omitempty"`
	Label
}

// Label is what people and checks add to a generation after it was taken.
type Label struct {
	Tags   []string `json:"tags,omitempty"` // sorted, without doubles; see ValidTag
	Note   string   `json:"note,omitempty"`
	Pinned bool     `json:"pinned,omitempty"` // no retention drops it
	// Verified is when the snapshot was last read whole and found to be its id; Tested when it was last restored
	// into a scratch component and that had the same state. Zero: never.
	Verified time.Time `json:"verified,omitzero"`
	Tested   time.Time `json:"tested,omitzero"`
}

// Relabel is a change of a label; nil and empty fields leave it as it is.
type Relabel struct {
	AddTags    []string   `json:"addTags,omitempty"`
	RemoveTags []string   `json:"removeTags,omitempty"`
	Note       *string    `json:"note,omitempty"`
	Pinned     *bool      `json:"pinned,omitempty"`
	Verified   *time.Time `json:"verified,omitempty"`
	Tested     *time.Time `json:"tested,omitempty"`
}

// Retention says which generations of a component are kept: those that any rule keeps, those that are pinned,
// and always the newest. The zero value keeps all.
type Retention struct {
	Last    int           `json:"last,omitempty"`   // the newest so many
	Hourly  int           `json:"hourly,omitempty"` // the newest of each of the last so many hours that have one
	Daily   int           `json:"daily,omitempty"`
	Weekly  int           `json:"weekly,omitempty"` // ISO weeks
	Monthly int           `json:"monthly,omitempty"`
	Within  time.Duration `json:"within,omitempty"` // younger than that, counted from the newest
	Tags    []string      `json:"tags,omitempty"`   // those with any of these tags
}

// Source is what a store takes a snapshot from: either a stream or an image.
type Source struct {
	// Write writes the snapshot's bytes. Nil if Image is set.
	Write func(w io.Writer) error
	// Image is read at random. If it knows what changed since the component's snapshot Since,
	// only that is read.
	Image Image
	// Since is the snapshot that Image.Changed refers to.
	Since SnapshotID
	// Server, Group and Tags are kept with the generation.
	Server string
	Group  string
	Tags   []string
	// GroupSize is how many generations the group has. They are seen by nobody before Store.Conclude.
	GroupSize int
	// Time is when the state was as it is, where that was not just now. Zero: now. A store takes it only where the
	// component's generations stay in the order of their times.
	Time time.Time
}

// Store keeps snapshots and the histories of components. Safe for concurrent
// use, also by several processes on one folder. A snapshot exists wholly or not at all, whatever happens.
type Store interface {
	Saver
	// Open reads a snapshot; every byte it yields has been verified. ErrNotFound, ErrCorrupt.
	Open(ctx context.Context, id SnapshotID) (Reader, error)
	// Get describes a snapshot.
	Get(ctx context.Context, id SnapshotID) (Snapshot, error)
	// Generations lists the generations of a component, oldest first; of all components for the zero Ref.
	Generations(ctx context.Context, r Ref) ([]Generation, error)
	// Verify reads a snapshot whole and compares it with its id.
	Verify(ctx context.Context, id SnapshotID) error
	// Prune drops the generations of a component (of each component for the zero Ref) that keep does not keep, and
	// then every object that nothing needs. With dryRun it only says what it would do. An error leaves the generations.
	Prune(ctx context.Context, r Ref, keep Retention, dryRun bool) (Pruned, error)
	// Usage is the store's size on disk.
	Usage(ctx context.Context) (Usage, error)
	Exchange
}

// Saver takes snapshots into a store.
type Saver interface {
	// Save takes a snapshot, stores what is new in it and adds a generation. Where the newest generation holds
	// the same state, that one is returned with the tags given, and nothing is added; but a save that belongs to
	// another group adds one, so that groups are complete.
	Save(ctx context.Context, r Ref, module, reason string, from Source) (Generation, error)
	Grouping
}

// Grouping makes the generations of a group appear together, or none of them.
type Grouping interface {
	// Conclude makes the generations of a group that were saved visible, one after the other, and returns them.
	// ErrNotFound where one is missing; none is visible then. After another error Settle is called for.
	Conclude(ctx context.Context, group string, refs []Ref) ([]Generation, error)
	// Settle ends what was interrupted: it concludes a group of which a member is visible already, and drops the
	// generations of any other. Nil: they were dropped.
	Settle(ctx context.Context, group string, refs []Ref) ([]Generation, error)
}

// Reader reads one snapshot.
type Reader interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64
	// Differs returns the ranges in which the snapshot may differ from another
	// one in the same store, sorted and disjoint; the whole if that is not known.
	Differs(ctx context.Context, from SnapshotID) ([]Range, error)
}

// Curator edits a store's generations.
type Curator interface {
	// Relabel changes the label of a generation and returns it; ErrNotFound.
	Relabel(ctx context.Context, r Ref, number uint64, change Relabel) (Generation, error)
	// Forget drops generations by number, pinned ones too, and then every object that nothing needs, as Prune does.
	// The newest generation of a component is dropped only if all is.
	Forget(ctx context.Context, r Ref, numbers []uint64, dryRun bool) (Pruned, error)
}

// Auditor looks for damage in a store, and mends what can be mended.
type Auditor interface {
	// Audit looks at the store's files and at snapshots: those given, or for nil all that generations point at. It
	// finds whether all that they consist of is there; with readData it reads each whole, compares it with its id,
	// and notes that in the generations of those that are well. Damage is no error of the audit.
	Audit(ctx context.Context, ids []SnapshotID, readData bool) (Audit, error)
	// Repair mends what can be mended from what is there, and moves damaged files aside. Generations whose snapshots
	// are lost are dropped only with dropLost, so that an audit finds nothing afterwards. With dryRun it only says what it
	// would do.
	Repair(ctx context.Context, dropLost, dryRun bool) (Repair, error)
}

// Audit is what an Auditor found.
type Audit struct {
	Snapshots int      `json:"snapshots"` // that were looked at
	Bytes     int64    `json:"bytes"`     // that were read; 0 if only the structure was looked at
	Files     []Damage `json:"files"`     // that are not as they were written
	Lost      []Loss   `json:"lost"`      // snapshots that cannot be read whole
}

// Whole says that nothing is wrong.
func (a Audit) Whole() bool { return len(a.Files) == 0 && len(a.Lost) == 0 }

// Damage is a file of a store that is not as it was written.
type Damage struct {
	File      string       `json:"file"` // relative to the store
	Problem   string       `json:"problem"`
	Snapshots []SnapshotID `json:"snapshots,omitempty"` // that cannot be read whole because of it
}

// Loss is a snapshot that cannot be read whole.
type Loss struct {
	Snapshot    SnapshotID   `json:"snapshot"`
	Problem     string       `json:"problem"`
	Generations []Generation `json:"generations"` // that point at it
}

// Repair is what was mended, or would be.
type Repair struct {
	Mended  []Damage     `json:"mended"`  // and how, in Problem
	Aside   []string     `json:"aside"`   // files that were moved into the folder damaged
	Lost    []Loss       `json:"lost"`    // beyond repair
	Dropped []Generation `json:"dropped"` // of what is lost
	Left    []Damage     `json:"left"`    // files that are beyond repair; only dropping what is lost moves them aside
}

// Exchange moves snapshots between stores: only what the receiver lacks.
type Exchange interface {
	// Objects lists what a snapshot consists of, in an order in which they can be imported (a delta after its base).
	Objects(ctx context.Context, id SnapshotID) ([]string, error)
	// Missing returns those of names that the store does not have, in the order given.
	Missing(ctx context.Context, names []string) ([]string, error)
	// Export writes objects as a stream that Import reads.
	Export(ctx context.Context, names []string, w io.Writer) error
	// Import reads such a stream, verifies each object and keeps it. A broken or malicious stream keeps nothing wrong.
	Import(ctx context.Context, r io.Reader) error
	// Adopt adds a generation for a snapshot whose objects were imported; ErrCorrupt if any is missing.
	Adopt(ctx context.Context, r Ref, reason string, id SnapshotID) (Generation, error)
}

// Pruned says what a prune removed, or would.
type Pruned struct {
	Generations []Generation `json:"generations"`
	Snapshots   int          `json:"snapshots"`
	Bytes       int64        `json:"bytes"` // freed on disk
}

// Usage is the size of a store.
type Usage struct {
	Snapshots int   `json:"snapshots"`
	Logical   int64 `json:"logical"` // bytes of all snapshots, as if each were whole
	Stored    int64 `json:"stored"`  // bytes on disk
}

// Phase is where a component is in its life on one machine.
type Phase string

// The phases of a component.
const (
	PhaseActive   Phase = "active"
	PhaseInactive Phase = "inactive" // deactivated: its state is kept until garbage collection
	PhaseStaged   Phase = "staged"   // being prepared here, never active yet
	PhaseFailed   Phase = "failed"   // should be active and is not well
)

// Status is a component as its keeper sees it.
type Status struct {
	Component  Component         `json:"component"`
	Phase      Phase             `json:"phase"`
	Detail     string            `json:"detail,omitempty"` // why it failed
	Forked     string            `json:"forked,omitempty"` // how it was made, if it is a fork; see the methods
	Branch     *Branch           `json:"branch,omitempty"` // where it comes from, if it is a fork
	Lease      *Lease            `json:"lease,omitempty"`  // who locked it, if that has not expired
	Exports    map[string]string `json:"exports,omitempty"`
	Size       int64             `json:"size"`       // bytes; -1 if the module cannot tell
	Changed    time.Time         `json:"changed"`    // when the phase began
	Generation uint64            `json:"generation"` // the newest in the store; 0: none
}

// Keeper carries out operations on the components of one machine. Operations on
// one component wait for each other. All of them are idempotent.
type Keeper interface {
	Lifecycle
	Historian
	Mover
	// Status returns one component.
	Status(ctx context.Context, r Ref) (Status, error)
	// List returns all components, sorted by container and name.
	List(ctx context.Context) ([]Status, error)
}

// Lifecycle is what a keeper does to bring components into being and to an end.
type Lifecycle interface {
	// Activate brings a component to life. Where a component of that name is active with
	// other properties or files, it is deactivated first and activated anew with its state. A stage that is
	// there is discarded.
	Activate(ctx context.Context, c Component) (Status, error)
	// Deactivate takes it out of service and keeps its state. ErrNotFound if there never was one.
	Deactivate(ctx context.Context, r Ref) error
	// CollectGarbage deletes the state of an inactive component whose newest snapshot verifies and
	// holds its last state (one is taken if need be); ErrActive otherwise. Session components need no snapshot.
	CollectGarbage(ctx context.Context, r Ref) error
	// Fork makes into a writable copy of an active component and activates it; Status.Forked says how.
	Fork(ctx context.Context, from Ref, into Component) (Status, error)
}

// Historian is what a keeper does with a component's past.
type Historian interface {
	// Snapshot takes a snapshot into the machine's store. ErrNotAble for a stateless component.
	Snapshot(ctx context.Context, r Ref, reason string) (Generation, error)
	// Restore replaces a component's state by a snapshot in the store (empty: the newest generation's) after
	// verifying it, keeping the state before as a generation with reason "pre-restore" where that can be read.
	Restore(ctx context.Context, r Ref, id SnapshotID) error
}

// Mover is what a keeper does so that a component can change machine.
type Mover interface {
	// Track begins to follow a component's changes, so that the next Snapshots cost what changed; a
	// no-op for modules that cannot. Ends by Untrack, Deactivate, or by itself after a minute without Snapshot.
	Track(ctx context.Context, r Ref) error
	// Untrack ends it.
	Untrack(ctx context.Context, r Ref) error
	// Stage brings the component's stage on this machine to a snapshot that its store has, writing only what
	// differs from what was staged before, and verifies what it wrote. The component is not active here.
	Stage(ctx context.Context, c Component, id SnapshotID) error
	// Commit makes the stage, which must be at the snapshot id, the component's state.
	// The component is inactive afterwards; Activate starts it. Repeating it is safe.
	Commit(ctx context.Context, r Ref, id SnapshotID) error
	// Unstage discards a stage; nothing happens if there is none.
	Unstage(ctx context.Context, r Ref) error
}
