// Package deploy is the contract for moving a system from what runs to what
// should run, with its data.
//
// A Manifest names services, nodes and which service runs where. A Plan is the
// ordered steps from the placements in the table to the manifest. An apply carries a plan
// out; each step is in a journal in the table before it is done, is safe to repeat and has
// an inverse, so that whoever comes next can finish or undo what was interrupted.
//
// The parts are below it: manifest (CUE, YAML and JSON), plan (the difference, pure) and
// engine (carries plans out, moves data, backs up and restores).
package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/state"
)

var (
	// ErrBusy says that another apply, backup or restore of the same manifest is under way.
	ErrBusy = errors.New("another deployment operation is under way")
	// ErrUndone says that an apply failed and everything is as it was before it.
	ErrUndone = errors.New("undone")
	// ErrStuck says that an apply failed and its undoing too; the journal says what is left to do.
	ErrStuck = errors.New("neither finished nor undone")
	// ErrNotFound says that a manifest, service or backup of that name does not exist.
	ErrNotFound = errors.New("not found")
)

// Manifest says what should run where.
type Manifest struct {
	Name         string            `json:"name"`
	Nodes        []string          `json:"nodes"`        // names of nodes, as in fabric.Member.Name
	Services     []Service         `json:"services"`     // sorted by name
	Distribution map[string]string `json:"distribution"` // service name -> node name
	// Artifacts are the local files of the manifest's components by their SHA-256
	// in hex. Only the reader of the manifest has them: absolute paths on its machine.
	Artifacts map[string]string `json:"-"`
}

// Service is something deployed: components that live together on one node,
// and the services they call.
type Service struct {
	Name string `json:"name"`
	// Components are activated in this order and deactivated in the opposite one.
	// Properties may refer to ${self.port}, ${file.NAME}, ${component.NAME.EXPORT} of an earlier
	// component of the same service, and ${service.NAME.url} of a service in DependsOn.
	Components []state.Component `json:"components"`
	DependsOn  []string          `json:"dependsOn,omitempty"`
	// Endpoint names the component that answers requests; it exports "address". Empty for a service without.
	Endpoint string  `json:"endpoint,omitempty"`
	Public   *Public `json:"public,omitempty"`
}

// Public is an address at which people reach a service through the router.
type Public struct {
	Node    string `json:"node"`    // the name of the node that listens
	Address string `json:"address"` // host:port; port 0: chosen once and kept
}

// Problem is one thing wrong with a manifest.
type Problem struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"` // in the manifest: services.notes.components[1].module
	Message string `json:"message"`        // what is wrong
	Advice  string `json:"advice,omitempty"`
}

// String is FILE:LINE:COLUMN: MESSAGE (ADVICE).
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Column)
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Advice != "" {
		fmt.Fprintf(&b, " (%s)", p.Advice)
	}
	return b.String()
}

// Problems are all things wrong with a manifest, found at once.
type Problems []Problem

// Error is one problem a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Err is nil where there are no problems.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Placement is where a service of a manifest lives. It is the table's record of ownership: a node starts
// only components that a placement gives it.
type Placement struct {
	Manifest string        `json:"manifest"`
	Service  Service       `json:"service"`
	Node     fabric.NodeID `json:"node"`
	NodeName string        `json:"nodeName"`
	// Epoch grows with each change of Node; a node that knows a smaller one has lost the service.
	Epoch uint64 `json:"epoch"`
}

// Keys of the table that deploy owns.
const (
	PlacementPrefix = "deploy/placement/" // + manifest + "/" + service: Placement
	JournalPrefix   = "deploy/journal/"   // + manifest: the running or last apply
	ManifestPrefix  = "deploy/manifest/"  // + manifest: Manifest as last applied
	BackupPrefix    = "deploy/backup/"    // + manifest + "/" + backup id: Backup
)

// StepKind is what a step of a plan does.
type StepKind string

// The kinds of steps.
const (
	StepActivate   StepKind = "activate"   // a service that runs nowhere
	StepDeactivate StepKind = "deactivate" // a service that should run nowhere
	StepUpgrade    StepKind = "upgrade"    // a service that changed and stays where it is
	StepMove       StepKind = "move"       // a service that changes node, with its state
)

// Step is one service's way from what runs to what should.
type Step struct {
	Kind     StepKind `json:"kind"`
	Service  string   `json:"service"`
	From     string   `json:"from,omitempty"`     // node name
	To       string   `json:"to,omitempty"`       // node name
	Stateful []string `json:"stateful,omitempty"` // names of the components whose state moves along
	Bytes    int64    `json:"bytes,omitempty"`    // of state to move, as far as known
	Why      string   `json:"why"`                // for people: what differs
}

// Plan is the ordered steps from what runs to what should: dependents are taken
// out of service before what they depend on, and brought into it after.
type Plan struct {
	Manifest string `json:"manifest"`
	Steps    []Step `json:"steps"`
}

// Event is a piece of progress of an apply, backup or restore.
type Event struct {
	Time    time.Time     `json:"time"`
	Service string        `json:"service,omitempty"`
	Action  string        `json:"action"` // a short verb phrase: "pre-copy notes-db to three"
	Done    bool          `json:"done"`   // false: begins; true: ended, after Took
	Took    time.Duration `json:"took,omitempty"`
	Bytes   int64         `json:"bytes,omitempty"`
	Err     string        `json:"err,omitempty"`
}

// Outcome is how an apply ended.
type Outcome struct {
	Plan   Plan                     `json:"plan"`
	Pauses map[string]time.Duration `json:"pauses,omitempty"` // by moved service: how long its requests were held
	Moved  int64                    `json:"moved,omitempty"`  // bytes sent between nodes
}

// Backup is a set of snapshots of all stateful components of a manifest.
type Backup struct {
	ID        string     `json:"id"` // sorts by time
	Manifest  string     `json:"manifest"`
	Time      time.Time  `json:"time"`
	Snapshots []BackedUp `json:"snapshots"`
}

// BackedUp is one component's part of a backup.
type BackedUp struct {
	Service  string           `json:"service"`
	Ref      state.Ref        `json:"ref"`
	Snapshot state.SnapshotID `json:"snapshot"`
	Nodes    []fabric.NodeID  `json:"nodes"`  // whose stores have it
	Size     int64            `json:"size"`   // bytes of logical state
	Stored   int64            `json:"stored"` // bytes that it added to the first node's store
}

// Machines is what the engine needs of the cluster's nodes.
type Machines interface {
	// Members lists the nodes that the cluster knows.
	Members() []fabric.Member
	// Keeper reaches a node's keeper. ErrNotFound for a node that is not a member.
	Keeper(node fabric.NodeID) (state.Keeper, error)
	// Describe returns a module's description on a node; state.ErrNotFound if the node lacks it.
	Describe(ctx context.Context, node fabric.NodeID, module string) (state.Description, error)
	// Provide brings artifacts (SHA-256 in hex) that this node has to another one.
	Provide(ctx context.Context, node fabric.NodeID, artifacts []string) error
	// Transfer brings a snapshot from one node's store into another's and adds a generation
	// there; only what is missing travels. It returns the bytes sent.
	Transfer(ctx context.Context, r state.Ref, id state.SnapshotID, from, to fabric.NodeID) (int64, error)
	// CheckAddress says whether a node could listen there; state.ErrInUse if something else
	// does. The node's own router listening there for service is fine.
	CheckAddress(ctx context.Context, node fabric.NodeID, address, service string) error
}

// Endpoint is where a service's instance answers.
type Endpoint struct {
	Node    fabric.NodeID `json:"node"`
	Address string        `json:"address"` // host:port on that node
}

// Traffic is what the engine asks of all routers of the cluster.
type Traffic interface {
	// Hold keeps back new requests to a service's production instance. It returns when no router
	// sends any and those in flight are answered (or were given up after a bound).
	Hold(ctx context.Context, service string) error
	// Switch sends requests, also held ones, to an instance; public may be nil.
	Switch(ctx context.Context, service string, to Endpoint, public *PublicOn) error
	// Remove forgets the service.
	Remove(ctx context.Context, service string) error
}

// PublicOn is a Public whose node is resolved.
type PublicOn struct {
	Node    fabric.NodeID `json:"node"`
	Address string        `json:"address"`
}
