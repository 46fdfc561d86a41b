package state

import (
	"context"
	"io"
	"time"
)

// The optional abilities of a module. Each is found by assertion; a module that lacks one does not have its methods.

// Exporter is a module whose components publish values that others refer to.
type Exporter interface {
	// Exports returns values by name. A value that only an active component has
	// (a port) is missing while it is inactive.
	Exports(t Target) (map[string]string, error)
}

// The methods by which forks are made.
const (
	ForkCopy     = "copy"     // all bytes were copied, or loaded from a dump
	ForkReflink  = "reflink"  // shares storage with the source until one of the two is written
	ForkTemplate = "template" // the server copied the database's files
	ForkThin     = "thin"     // a second server on a copy-on-write layer over a base that is kept warm
	ForkLayered  = "layered"  // views over the source's rows, with tables of its own for what changed
	ForkRestore  = "restore"  // a snapshot was restored
	// ForkReplica is how a replica is made, which is no fork until it is promoted; see Replicator.
	ForkReplica = "replica"
)

// Forker is a module that makes writable copies of components.
type Forker interface {
	// Fork creates into's state as a consistent copy of from's, while from is in use, and reports how:
	// "reflink" (shares storage) or "copy".
	Fork(ctx context.Context, from, into Target) (method string, err error)
}

// MethodForker is a Forker that knows several ways.
type MethodForker interface {
	Forker
	// Methods are the ways that this module knows, best first.
	Methods() []string
	// ForkBy is Fork by one of Methods; an error says why that way cannot be gone here.
	ForkBy(ctx context.Context, from, into Target, method string) error
}

// Replicator is a stateful module that makes replicas: components of their own, whose clients can only read, and in which
// what is committed in their source appears within moments. What would change a replica's state is an ErrReplica.
type Replicator interface {
	Stateful
	// Replicate makes into, which does not exist, a replica of from while that is in use. It has all that was committed when it
	// was asked for, and follows from until Promote or CollectGarbage, and whenever it is active. Nothing is kept for it where from is.
	Replicate(ctx context.Context, from, into Target) error
	// Lag says how far an active replica is behind its source. That the source cannot be reached is no error of it.
	Lag(ctx context.Context, t Target) (Lag, error)
	// Promote ends the following: the replica becomes a component that has all that it has read, and is written by its clients from
	// now on. While it is linked to its source, it has all that was committed there when it was asked. method is that by which a fork
	// like it is made. Repeating it does nothing.
	Promote(ctx context.Context, t Target) (method string, err error)
}

// Lag is how far a replica is behind its source.
type Lag struct {
	// Linked says that it reads what is committed in its source.
	Linked bool `json:"linked"`
	// Problem is why it does not follow; empty if it does.
	Problem string `json:"problem,omitempty"`
	// Lost says that it will never follow again, because what it would have to read is gone: it is to be made anew.
	Lost bool `json:"lost,omitempty"`
	// Bytes are those of the source's log that it has not carried out, -1 if that is not known. The log is that of the source's
	// whole server.
	Bytes int64 `json:"bytes"`
	// Behind is 0 if it has everything, else how long ago the last change was committed that it has; -1 if that is not known.
	Behind time.Duration `json:"behind"`
}

// Neighbor is a module that can name a component's neighbours: forks, scratch copies, restores under another name.
// Of a module without it, a component of another name with the same properties has state of its own.
type Neighbor interface {
	// Beside returns c under another name, with properties that lead to state of its own where c's
	// properties name its state (a database, a folder, a port).
	Beside(c Component, name string) Component
}

// Finder is a module that can say whether state is there. Of a module with it, nothing is forked or restored into a new
// component whose state would take the place of something that nobody made a component of.
type Finder interface {
	// Exists says whether there is something where t's state is, or would be.
	Exists(ctx context.Context, t Target) (bool, error)
}

// Doctor is a module that can say whether a component is well.
type Doctor interface {
	// Health returns nil, or why the component does not serve.
	Health(ctx context.Context, t Target) error
}

// Sizer is a module that knows how large a component's state is.
type Sizer interface {
	// Size is in bytes of logical state, cheap to find, and approximate.
	Size(ctx context.Context, t Target) (int64, error)
}

// Integrity is a module that can look for damage in a component's own data structures (PRAGMA quick_check,
// amcheck, svnadmin verify, git fsck), which may read all of it.
type Integrity interface {
	// Integrity returns nil, or what is damaged; ErrCorrupt.
	Integrity(ctx context.Context, t Target) error
}

// Locker is a module whose components may refuse to be touched, and can hold still.
type Locker interface {
	// Lock asks an active component to hold still: nothing changes its state until Unlock, and its snapshot can be
	// taken meanwhile. An error that is
	// ErrVeto is the component's refusal. Locking twice is locking once.
	Lock(ctx context.Context, t Target) error
	// Unlock lets it go on. Unlocking what is not locked does nothing.
	Unlock(ctx context.Context, t Target) error
}

// Quiescer is a module that can keep components still while it runs, so that snapshots of several are of one moment.
type Quiescer interface {
	// Quiesce returns when clients cannot change the component's state any more: they wait, or are refused. Reading and
	// taking its snapshot go on. resume, which is to be called once, lets them go on, and so does the end of this process,
	// a little later at the most. A snapshot is of a moment before it writes its first byte, so that clients can go on then.
	// An error that is ErrVeto says that what clients had begun did not end in time.
	Quiesce(ctx context.Context, t Target) (resume func(context.Context) error, err error)
}

// Clients is a module that knows who is using a component.
type Clients interface {
	// Clients is how many clients an active component has that a restore would cut off or that hold it up, without the
	// module's own.
	Clients(ctx context.Context, t Target) (int, error)
}

// Command is a program for a person, or for a script, to run.
type Command struct {
	Path string   `json:"path"`
	Args []string `json:"args"`          // without the program's own name
	Env  []string `json:"env"`           // NAME=VALUE, in addition to the caller's; may hold secrets
	Dir  string   `json:"dir,omitempty"` // empty: the caller's
	// User is the account that it runs as, where that is not the caller; only root can do that.
	User string `json:"user,omitempty"`
}

// Sheller is a module whose components have a command line of their own (psql, redis-cli, a shell in a folder).
type Sheller interface {
	// Shell returns the program to work on an active component with. With a command that is not empty, the program
	// carries out that command, in the program's own language, and ends with its status. No secret is in Path or Args.
	Shell(ctx context.Context, t Target, command string) (Command, error)
}

// Versioner is a module that knows the version of what hosts its components.
type Versioner interface {
	// Version is the server's name and version, such as "PostgreSQL 15.18". It is kept beside each generation.
	Version(ctx context.Context, t Target) (string, error)
}

// Migration is a numbered change of a component's schema.
type Migration struct {
	Number  int       `json:"number"` // from 1
	Name    string    `json:"name"`   // of its file, such as 0003-add-index.sql
	SHA256  string    `json:"sha256"` // of its file, in hex
	Applied time.Time `json:"applied,omitzero"`
}

// Migrator is a stateful module whose components have a schema that changes in numbered steps.
type Migrator interface {
	Stateful
	// Migrated returns the migrations that were carried out on an active component, by number. They are a part of its state.
	Migrated(ctx context.Context, t Target) ([]Migration, error)
	// Migrate carries out one migration and records it, both or neither where the engine can do that with what
	// the script does. Where it cannot, an error may leave a part; the keeper then restores the snapshot from before.
	Migrate(ctx context.Context, t Target, m Migration, script []byte) error
}

// Item is one record in a snapshot: a row of a table, a key, a file.
type Item struct {
	Part string // what it belongs to: a table, a key space, a branch; empty for the files of a folder
	Key  []byte // what it is called within Part (a path, a key, a primary key); nil for a row that has no name
	// Within says that Key is a part of Content, as a primary key is of its row: the same content is then the same
	// item, whatever the other side calls it.
	Within bool
	// Content is its bytes, or a digest of them; nil for a Part that exists without items. Valid during the call only.
	Content []byte
}

// Itemizer is a stateful module that can say what its snapshots consist of.
type Itemizer interface {
	// Items reads a snapshot and calls visit for each item, in any order; an error of visit ends it.
	Items(ctx context.Context, snapshot io.Reader, visit func(Item) error) error
}

// PartRestorer is a stateful module that can bring back one part of a component.
type PartRestorer interface {
	// RestorePart replaces one part (a table, a path: Item.Part, or Item.Key where there are no parts) of an active component
	// by what a snapshot has of it, and leaves the rest. ErrNotFound if the snapshot has no such part.
	// An error leaves the state before.
	RestorePart(ctx context.Context, t Target, snapshot io.Reader, part string) error
}

// Portable is a stateful module whose snapshots have a form that the service's own tools read. Of a module
// without it, that form is the snapshot itself.
type Portable interface {
	// Extension is the usual ending of such a file's name, such as ".sql" or ".tar".
	Extension() string
	// Export writes a snapshot in that form.
	Export(ctx context.Context, snapshot io.Reader, w io.Writer) error
	// Import reads that form and writes the snapshot that Export would give it from.
	Import(ctx context.Context, plain io.Reader, w io.Writer) error
}

// Abilities names the optional abilities of a module, sorted.
func Abilities(m Module) []string {
	var all []string
	able := func(name string, is func() bool) {
		if is() {
			all = append(all, name)
		}
	}
	able("clients", func() bool { _, ok := m.(Clients); return ok })
	able("fork", func() bool { _, ok := m.(Forker); return ok })
	able("health", func() bool { _, ok := m.(Doctor); return ok })
	able("integrity", func() bool { _, ok := m.(Integrity); return ok })
	able("items", func() bool { _, ok := m.(Itemizer); return ok })
	able("lock", func() bool { _, ok := m.(Locker); return ok })
	able("migrate", func() bool { _, ok := m.(Migrator); return ok })
	able("portable", func() bool { _, ok := m.(Portable); return ok })
	able("quiesce", func() bool { _, ok := m.(Quiescer); return ok })
	able("replicate", func() bool { _, ok := m.(Replicator); return ok })
	able("restore-part", func() bool { _, ok := m.(PartRestorer); return ok })
	able("shell", func() bool { _, ok := m.(Sheller); return ok })
	able("size", func() bool { _, ok := m.(Sizer); return ok })
	able("track", func() bool { _, ok := m.(Trackable); return ok })
	able("version", func() bool { _, ok := m.(Versioner); return ok })
	return all
}
