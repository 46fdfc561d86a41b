package agent

import (
	"encoding/json"
	"time"

	"orrery/dashboard"
	"orrery/deploy"
	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

// The procedures of a node. Each carries the JSON of the request and answer types
// below over connect; docs/formats/procedures.md lists them with their roles.
const (
	procMembers = "/orrery.fabric.v1.Fabric/Members"
	procBeacon  = "/orrery.fabric.v1.Fabric/Beacon"
	procToken   = "/orrery.fabric.v1.Fabric/Token"
	procLeave   = "/orrery.fabric.v1.Fabric/Leave"
	procEnroll  = "/orrery.fabric.v1.Table/Add"
	procForward = "/orrery.fabric.v1.Fabric/Forward"
	procAble    = "/orrery.fabric.v1.Table/Able"
	procMove    = "/orrery.fabric.v1.Table/Migrate"

	procEvict     = "/orrery.fabric.v1.Roll/Evict"
	procEvictions = "/orrery.fabric.v1.Roll/Evictions"
	procPeople    = "/orrery.fabric.v1.Roll/People"
	procRevoke    = "/orrery.fabric.v1.Roll/Revoke"
	procRotate    = "/orrery.fabric.v1.Gossip/Rotate"
	procKeys      = "/orrery.fabric.v1.Gossip/Keys"
	procTurn      = "/orrery.fabric.v1.Gossip/Turn"

	procActivate    = "/orrery.state.v1.Keeper/Activate"
	procDeactivate  = "/orrery.state.v1.Keeper/Deactivate"
	procSnapshot    = "/orrery.state.v1.Keeper/Snapshot"
	procRestore     = "/orrery.state.v1.Keeper/Restore"
	procCollect     = "/orrery.state.v1.Keeper/CollectGarbage"
	procFork        = "/orrery.state.v1.Keeper/Fork"
	procStatus      = "/orrery.state.v1.Keeper/Status"
	procList        = "/orrery.state.v1.Keeper/List"
	procTrack       = "/orrery.state.v1.Keeper/Track"
	procUntrack     = "/orrery.state.v1.Keeper/Untrack"
	procStage       = "/orrery.state.v1.Keeper/Stage"
	procCommit      = "/orrery.state.v1.Keeper/Commit"
	procUnstage     = "/orrery.state.v1.Keeper/Unstage"
	procDescribe    = "/orrery.state.v1.Modules/Describe"
	procModules     = "/orrery.state.v1.Modules/List"
	procGenerations = "/orrery.state.v1.Store/Generations"
	procGet         = "/orrery.state.v1.Store/Get"
	procVerify      = "/orrery.state.v1.Store/Verify"
	procAudit       = "/orrery.state.v1.Store/Audit"
	procRepair      = "/orrery.state.v1.Store/Repair"
	procPrune       = "/orrery.state.v1.Store/Prune"
	procRelabel     = "/orrery.state.v1.Store/Relabel"
	procForget      = "/orrery.state.v1.Store/Forget"
	procUsage       = "/orrery.state.v1.Store/Usage"
	procObjects     = "/orrery.state.v1.Store/Objects"
	procPull        = "/orrery.state.v1.Store/Pull"
	procHealth      = "/orrery.state.v1.Custodian/Health"
	procIntegrity   = "/orrery.state.v1.Custodian/Integrity"
	procTestRestore = "/orrery.state.v1.Custodian/TestRestore"
	procLock        = "/orrery.state.v1.Custodian/Lock"
	procUnlock      = "/orrery.state.v1.Custodian/Unlock"
	procTake        = "/orrery.state.v1.Custodian/TakeSnapshots"
	procRestoreAs   = "/orrery.state.v1.Custodian/RestoreAs"
	procUndo        = "/orrery.state.v1.Custodian/Undo"
	procForkAs      = "/orrery.state.v1.Custodian/ForkAs"
	procResetFork   = "/orrery.state.v1.Custodian/ResetFork"
	procDeleteFork  = "/orrery.state.v1.Custodian/DeleteFork"
	procReplicate   = "/orrery.state.v1.Custodian/Replicate"
	procLag         = "/orrery.state.v1.Custodian/Lag"
	procPromote     = "/orrery.state.v1.Custodian/Promote"
	procShell       = "/orrery.state.v1.Custodian/Shell"
	procMigrate     = "/orrery.state.v1.Custodian/Migrate"
	procDiff        = "/orrery.state.v1.Custodian/Diff"
	procDiffFork    = "/orrery.state.v1.Custodian/DiffFork"
	procSweep       = "/orrery.state.v1.Custodian/Sweep"
	procReport      = "/orrery.state.v1.Keeper/Report"
	procHas         = "/orrery.state.v1.Artifacts/Has"

	procPlan         = "/orrery.deploy.v1.Deploy/Plan"
	procApply        = "/orrery.deploy.v1.Deploy/Apply"
	procDeployStatus = "/orrery.deploy.v1.Deploy/Status"
	procBackup       = "/orrery.deploy.v1.Deploy/Backup"
	procBackups      = "/orrery.deploy.v1.Deploy/Backups"
	procBringBack    = "/orrery.deploy.v1.Deploy/Restore"
	procRemove       = "/orrery.deploy.v1.Deploy/Remove"
	procPublic       = "/orrery.deploy.v1.Deploy/PublicAddress"
	procAddress      = "/orrery.deploy.v1.Deploy/CheckAddress"

	procAwait         = "/orrery.session.v1.Router/Await"
	procSessionCreate = "/orrery.session.v1.Sessions/Create"
	procSessionDelete = "/orrery.session.v1.Sessions/Delete"
	procSessionList   = "/orrery.session.v1.Sessions/List"
	procSessionPlaced = "/orrery.session.v1.Sessions/Placed"

	procLink = "/orrery.dashboard.v1.Dashboard/Link"
	procView = "/orrery.dashboard.v1.Dashboard/View"
)

// Kinds of streams between nodes, and from a developer's machine.
const (
	streamExport   = "export"   // snapshot objects: ExportHeader, then the objects
	streamTake     = "take"     // TakeHeader; the content of a snapshot comes back, in frames, and how it ended
	streamGive     = "give"     // GiveHeader, then content for a snapshot, in frames; how it ended comes back
	streamArtifact = "artifact" // ArtifactHeader, then the file; the answer is "ok" or why not
	streamInstance = "instance" // session.Instance, then the bytes of one connection
	streamTunnel   = "tunnel"   // TunnelHeader, then the tunnel's multiplexed streams
)

// Empty is a request or an answer without content.
type Empty struct{}

// Forwarded is a procedure of the state column for another node, or its answer.
type Forwarded struct {
	On        string          `json:"on,omitempty"` // the node's name
	Procedure string          `json:"procedure,omitempty"`
	Content   json.RawMessage `json:"content"`
}

// RefRequest names a component.
type RefRequest struct {
	Ref    state.Ref        `json:"ref"`
	ID     state.SnapshotID `json:"id,omitempty"`
	Reason string           `json:"reason,omitempty"`
	// By is who asks, where leases matter; Lasting and Force are of leases.
	By      string        `json:"by,omitempty"`
	Lasting time.Duration `json:"lasting,omitempty"`
	Force   bool          `json:"force,omitempty"`
	DryRun  bool          `json:"dryRun,omitempty"`
	Command string        `json:"command,omitempty"` // of a shell
}

// AskedRestore is a restore, and who asks for it.
type AskedRestore struct {
	state.RestoreRequest
	By string `json:"by,omitempty"`
}

// PruneRequest says which generations stay, or by number which go.
type PruneRequest struct {
	Ref     state.Ref       `json:"ref"`
	Keep    state.Retention `json:"keep"`
	Numbers []uint64        `json:"numbers,omitempty"`
	DryRun  bool            `json:"dryRun,omitempty"`
}

// AuditRequest says which snapshots to look at (null: all), and whether to read them.
type AuditRequest struct {
	IDs      []state.SnapshotID `json:"ids"`
	ReadData bool               `json:"readData,omitempty"`
}

// RepairRequest says how a store is repaired.
type RepairRequest struct {
	DropLost bool `json:"dropLost,omitempty"`
	DryRun   bool `json:"dryRun,omitempty"`
}

// RelabelRequest changes the label of a generation.
type RelabelRequest struct {
	Ref    state.Ref     `json:"ref"`
	Number uint64        `json:"number"`
	Change state.Relabel `json:"change"`
}

// ComponentRequest carries a component.
type ComponentRequest struct {
	Component state.Component  `json:"component"`
	From      state.Ref        `json:"from"` // of a fork
	By        string           `json:"by,omitempty"`
	ID        state.SnapshotID `json:"id,omitempty"`
}

// List is an answer of several things.
type List[T any] struct {
	Items []T `json:"items"`
}

// TokenRequest asks for a join token.
type TokenRequest struct {
	Role fabric.Role   `json:"role"`
	TTL  time.Duration `json:"ttl"`
}

// Text is a single string.
type Text struct {
	Value string `json:"value"`
}

// PullRequest asks a node to fetch a snapshot from another one.
type PullRequest struct {
	Ref  state.Ref        `json:"ref"`
	ID   state.SnapshotID `json:"id"`
	From fabric.NodeID    `json:"from"`
}

// Bytes is an amount.
type Bytes struct {
	Bytes int64 `json:"bytes"`
}

// ManifestRequest carries a manifest.
type ManifestRequest struct {
	Manifest deploy.Manifest `json:"manifest"`
}

// PlanAnswer is a plan, and what stands in its way.
type PlanAnswer struct {
	Plan     deploy.Plan     `json:"plan"`
	Problems deploy.Problems `json:"problems,omitempty"`
}

// Progress is one message of a long operation: an event, or at the end what came out.
type Progress struct {
	Event    *deploy.Event   `json:"event,omitempty"`
	Outcome  *deploy.Outcome `json:"outcome,omitempty"`
	Backup   *deploy.Backup  `json:"backup,omitempty"`
	Problems deploy.Problems `json:"problems,omitempty"`
}

// NameRequest names a manifest, and where that matters one of its backups and services.
type NameRequest struct {
	Name     string   `json:"name"`
	Backup   string   `json:"backup,omitempty"`
	Services []string `json:"services,omitempty"`
}

// ServiceStatus is one deployed service.
type ServiceStatus struct {
	Manifest   string         `json:"manifest"`
	Service    string         `json:"service"`
	Node       string         `json:"node"`
	NodeID     fabric.NodeID  `json:"nodeID"`
	Epoch      uint64         `json:"epoch"`
	Public     string         `json:"public,omitempty"` // http://host:port
	DependsOn  []string       `json:"dependsOn,omitempty"`
	Held       bool           `json:"held,omitempty"`
	Components []state.Status `json:"components"`
	Err        string         `json:"err,omitempty"` // why the node could not be asked
}

// AddressRequest asks whether a node could listen at an address for a service.
type AddressRequest struct {
	Address string `json:"address"`
	Service string `json:"service"`
}

// AwaitRequest asks a router to have applied a revision of the table and to have drained a service.
type AwaitRequest struct {
	Service  string `json:"service"`
	Revision uint64 `json:"revision"`
}

// ExportHeader asks for snapshot objects.
type ExportHeader struct {
	ID state.SnapshotID `json:"id"` // whose objects; the names of those wanted follow as JSON on the stream
}

// TakeHeader asks for the content of a snapshot.
type TakeHeader struct {
	state.ExportRequest
	On string `json:"on,omitempty"` // the node that has it; empty: whoever is asked
}

// GiveHeader announces the content of a snapshot.
type GiveHeader struct {
	state.ImportRequest
	On string `json:"on,omitempty"` // the node that should have it; empty: whoever is asked
}

// Ending is how the transfer of a snapshot's content ended.
type Ending struct {
	Error      string           `json:"error,omitempty"`
	Names      []string         `json:"names,omitempty"` // of the sentinel errors that it wraps
	Generation state.Generation `json:"generation,omitzero"`
}

// ArtifactHeader announces a file.
type ArtifactHeader struct {
	SHA256 string `json:"sha256"`
	On     string `json:"on,omitempty"` // the node that should have it; empty: whoever is asked
}

// TunnelHeader opens a developer's tunnel to a session.
type TunnelHeader struct {
	ID string `json:"id"`
}

// View is what the dashboard shows.
type View = dashboard.View

// Sessions is the answer to a session list.
type Sessions = List[session.Session]
