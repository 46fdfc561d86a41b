// Package dashboard is a page about a running cluster: its nodes, the services
// and where they run, components with their snapshots, sessions, and the last
// events. It is drawn on the server, needs no build step and loads nothing from
// elsewhere; a browser with JavaScript sees changes as they happen.
//
// A View is what the page shows. A Source makes views and says when the next one
// differs; whoever assembles the program implements it. New returns the
// handler that shows them to whoever came by a one-time link (see Handler.NewLink).
package dashboard

import (
	"context"
	"time"
)

// Source makes views. Safe for concurrent use.
type Source interface {
	// View returns what is now; the caller only reads it, and nobody may write to it afterwards. An error is
	// shown in place of the page's content.
	View(ctx context.Context) (View, error)
	// Changes yields a value after something changed, until ctx ends. Values may be merged; the channel is
	// buffered or its sender does not block.
	Changes(ctx context.Context) <-chan struct{}
}

// View is what the page shows.
type View struct {
	Cluster    Cluster     `json:"cluster"`
	Nodes      []Node      `json:"nodes"`
	Services   []Service   `json:"services"`
	Components []Component `json:"components"`
	Sessions   []Session   `json:"sessions"`
	// Deployment is nil while no apply is under way.
	Deployment *Deployment `json:"deployment,omitempty"`
	Events     []Event     `json:"events"` // newest first
}

// Cluster is what all nodes belong to.
type Cluster struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	// Warning is what everyone should know, such as a lost quorum; empty if all is well.
	Warning string `json:"warning,omitempty"`
}

// Node is a machine of the cluster.
type Node struct {
	Name    string `json:"name"` // services and sessions refer to nodes by name
	ID      string `json:"id"`
	Address string `json:"address"`
	State   string `json:"state"` // as fabric.MemberState: alive, suspect, dead, left
	Version string `json:"version,omitempty"`
	Via     string `json:"via,omitempty"`    // how it was discovered
	Memory  int64  `json:"memory,omitempty"` // resident bytes of the node's process; 0: not known
	// Started is when the node's process began; zero: not known.
	Started time.Time `json:"started,omitzero"`
	Self    bool      `json:"self,omitempty"` // the node that shows the page
}

// Service is something deployed.
type Service struct {
	Name      string   `json:"name"`
	Manifest  string   `json:"manifest,omitempty"`
	Node      string   `json:"node"`
	Endpoint  string   `json:"endpoint,omitempty"` // host:port
	Phase     string   `json:"phase"`              // as state.Phase: active, inactive, staged, failed
	Detail    string   `json:"detail,omitempty"`   // why it failed
	DependsOn []string `json:"dependsOn,omitempty"`
	Public    string   `json:"public,omitempty"` // host:port at which people reach it
	Held      bool     `json:"held,omitempty"`   // requests wait
	// MovingTo is the node that the service is on its way to; empty if it stays.
	MovingTo string `json:"movingTo,omitempty"`
	Epoch    uint64 `json:"epoch"`
}

// Component is a unit of state on one node.
type Component struct {
	Ref     string `json:"ref"` // CONTAINER/COMPONENT
	Module  string `json:"module"`
	Node    string `json:"node"`
	Service string `json:"service,omitempty"`
	Session string `json:"session,omitempty"` // the session whose fork it is
	Phase   string `json:"phase"`
	Detail  string `json:"detail,omitempty"`
	Size    int64  `json:"size"` // bytes; -1: not known
	// Snapshots in the node's store, the newest one's time, the bytes they stand for and the bytes they take.
	Snapshots int       `json:"snapshots"`
	Newest    time.Time `json:"newest,omitzero"`
	Logical   int64     `json:"logical"`
	Stored    int64     `json:"stored"`
}

// Session is a named overlay on the running system.
type Session struct {
	Name      string     `json:"name"`
	Owner     string     `json:"owner"`
	Overrides []Override `json:"overrides"`
	Created   time.Time  `json:"created,omitzero"`
	Expires   time.Time  `json:"expires,omitzero"` // zero: when its lease ends
	Ready     bool       `json:"ready"`
	Ending    bool       `json:"ending,omitempty"`
}

// Override is one service of a session.
type Override struct {
	Service  string `json:"service"`
	Kind     string `json:"kind"` // as session.Kind: tunnel, exec, fork
	Node     string `json:"node"` // that runs it, or that the tunnel ends at
	Instance string `json:"instance,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"` // of forked state
	Method   string `json:"method,omitempty"`
}

// Deployment is an apply under way.
type Deployment struct {
	Manifest string    `json:"manifest"`
	Step     int       `json:"step"` // from 1
	Steps    int       `json:"steps"`
	Action   string    `json:"action"` // "move notes from two to three: pre-copy notes-db"
	Since    time.Time `json:"since,omitzero"`
}

// Event is something that happened.
type Event struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // member, deploy, state, session, error
	Text string    `json:"text"`
}
