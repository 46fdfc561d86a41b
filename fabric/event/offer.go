package event

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/rpc"
)

// Procedures for people and their programs.
const (
	procSend   = "/orrery.event.v1.Events/Send"
	procTell   = "/orrery.event.v1.Events/Tell"
	procWatch  = "/orrery.event.v1.Events/Watch"
	procQuery  = "/orrery.event.v1.Events/Query"
	procStatus = "/orrery.event.v1.Events/Status"
)

// Errors are the sentinels of this package, for the registry of both sides.
func Errors() rpc.Errors {
	return rpc.Errors{
		{Name: "event.too_large", Err: ErrTooLarge},
		{Name: "event.bad_name", Err: ErrBadName},
		{Name: "event.busy", Err: ErrBusy},
		{Name: "event.nobody", Err: ErrNobody},
		{Name: "event.uncertain", Err: ErrUncertain},
		{Name: "event.other_log", Err: ErrOtherLog},
	}
}

// Offer registers the procedures of a node's service.
func Offer(m *rpc.Mux, s *Service) {
	rpc.Unary(m, procPull, fabric.RoleNode, s.servePull)
	rpc.Unary(m, procContent, fabric.RoleNode, s.serveContent)
	rpc.Unary(m, procDeliver, fabric.RoleNode, s.serveDeliver)
	rpc.Unary(m, procAsk, fabric.RoleNode, s.serveAsk)
	rpc.Unary(m, procSend, fabric.RoleDeveloper, s.serveSend)
	rpc.Unary(m, procTell, fabric.RoleDeveloper, s.serveTell)
	rpc.ServerStream(m, procWatch, fabric.RoleViewer, s.serveWatch)
	rpc.ServerStream(m, procQuery, fabric.RoleDeveloper, s.serveQuery)
	rpc.Unary(m, procStatus, fabric.RoleViewer, func(context.Context, *Empty) (*Status, error) {
		status := s.Status()
		return &status, nil
	})
	m.HandleStream(streamAnswer, fabric.RoleOperator, s.serveAnswerer)
}

// person is on whose behalf a request is; empty for a node.
func person(ctx context.Context) string {
	caller, ok := rpc.Caller(ctx)
	if !ok || caller.Role == fabric.RoleNode || !goodBy(caller.Name) {
		return ""
	}
	return caller.Name
}

// SendRequest asks a node to send an event.
type SendRequest struct {
	Name    string `json:"name"`
	Payload []byte `json:"payload,omitempty"`
}

func (s *Service) serveSend(ctx context.Context, q *SendRequest) (*Event, error) {
	e, err := s.Send(q.Name, q.Payload, person(ctx))
	e.Payload = nil // who asked has it
	return &e, err
}

// TellRequest asks a node to send a message to another one.
type TellRequest struct {
	To      string `json:"to"` // its id or name
	Name    string `json:"name"`
	Payload []byte `json:"payload,omitempty"`
}

// Empty is an answer without content.
type Empty struct{}

func (s *Service) serveTell(ctx context.Context, q *TellRequest) (*Empty, error) {
	for _, m := range s.config.Members() {
		if string(m.ID) == q.To || m.Name == q.To {
			return &Empty{}, s.Tell(ctx, m.ID, q.Name, q.Payload, person(ctx))
		}
	}
	return nil, fmt.Errorf("cannot send message %s to node %s: %w among the members", q.Name, q.To, fabric.ErrNotFound)
}

// WatchRequest asks to see events, and with Messages also messages to the node, which operators may.
type WatchRequest struct {
	Watch
	Messages bool `json:"messages,omitempty"`
}

// Step is one message of a watch. The first one only says where it begins.
type Step struct {
	Seen
	Message *Message `json:"message,omitempty"`
	Log     string   `json:"log,omitempty"`
}

func (s *Service) serveWatch(ctx context.Context, q *WatchRequest, send func(*Step) error) error {
	var inbox *Inbox
	if q.Messages {
		if caller, _ := rpc.Caller(ctx); !caller.Role.Allows(fabric.RoleOperator) {
			return fmt.Errorf("%w: messages to a node are for operators", fabric.ErrForbidden)
		}
		var err error
		if inbox, err = s.Receive(q.Names...); err != nil {
			return err
		}
		defer inbox.Close()
	}
	w, err := s.Begin(q.Watch)
	if err == nil {
		err = send(&Step{Log: w.Log, Seen: Seen{Position: w.After}})
	}
	switch {
	case err != nil:
		return err
	case inbox == nil:
		return s.sendSeen(ctx, w, send)
	}
	return s.sendBoth(ctx, w, inbox, send)
}

func (s *Service) sendSeen(ctx context.Context, w Watch, send func(*Step) error) error {
	for seen, err := range s.Watch(ctx, w) {
		if err == nil {
			err = send(&Step{Seen: seen})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sendBoth sends events and messages, one at a time.
func (s *Service) sendBoth(ctx context.Context, w Watch, inbox *Inbox, send func(*Step) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	turn := make(chan struct{}, 1)
	one := func(step *Step) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		return send(step)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := inbox.Next(ctx)
			if err == nil {
				err = one(&Step{Message: &m})
			}
			if err != nil {
				cancel(err)
				return
			}
		}
	}()
	err := s.sendSeen(ctx, w, one)
	cancel(err)
	<-ended
	return err
}

// QueryRequest asks a node to query all, or those that fit in each respect.
type QueryRequest struct {
	Name    string        `json:"name"`
	Payload []byte        `json:"payload,omitempty"`
	Nodes   []string      `json:"nodes,omitempty"` // ids or names; empty: all
	Zone    string        `json:"zone,omitempty"`
	Role    string        `json:"role,omitempty"` // one of the node's (fabric.Member)
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Answered is the answer of one node, or why there is none.
type Answered struct {
	From    fabric.NodeID `json:"from"`
	Node    string        `json:"node"`
	Payload []byte        `json:"payload,omitempty"`
	Took    time.Duration `json:"took"`
	Error   string        `json:"error,omitempty"`
}

func (q *QueryRequest) wants(m fabric.Member) bool {
	named := len(q.Nodes) == 0 || slices.Contains(q.Nodes, m.Name) || slices.Contains(q.Nodes, string(m.ID))
	return named && (q.Zone == "" || q.Zone == m.Zone) && (q.Role == "" || slices.Contains(m.Roles, q.Role))
}

func (s *Service) serveQuery(ctx context.Context, q *QueryRequest, send func(*Answered) error) error {
	if q.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.Timeout)
		defer cancel()
	}
	missing, err := s.missingNodes(q.Nodes)
	if err != nil {
		return err
	}
	answers, err := s.Query(ctx, q.Name, q.Payload, person(ctx), q.wants)
	if err != nil {
		return err
	}
	for a := range answers {
		out := &Answered{From: a.From, Node: a.Node, Payload: a.Payload, Took: a.Took}
		if a.Err != nil {
			out.Error = a.Err.Error()
		}
		if errors.Is(a.Err, context.DeadlineExceeded) {
			out.Error = "no answer in time"
		}
		if err := send(out); err != nil {
			return err
		}
	}
	for _, m := range missing {
		if err := send(&Answered{From: m.ID, Node: m.Name, Error: "the node is " + string(m.State)}); err != nil {
			return err
		}
	}
	return nil
}

// missingNodes are those that were named and are not there.
func (s *Service) missingNodes(names []string) (missing []fabric.Member, err error) {
	members := s.config.Members()
	for _, name := range names {
		i := slices.IndexFunc(members, func(m fabric.Member) bool { return m.Name == name || string(m.ID) == name })
		if i < 0 {
			return nil, fmt.Errorf("node %s: %w among the members", name, fabric.ErrNotFound)
		}
		if !here(members[i]) && members[i].ID != s.self.ID {
			missing = append(missing, members[i])
		}
	}
	return missing, nil
}

// Remote is the service of a node, for people and their programs.
type Remote struct{ Peer *rpc.Peer }

// Send sends an event to all nodes.
func (r Remote) Send(ctx context.Context, name string, payload []byte) (Event, error) {
	if err := check(name, payload); err != nil { // before it is sent somewhere
		return Event{}, fmt.Errorf("cannot send event: %w", err)
	}
	e, err := rpc.Call[SendRequest, Event](ctx, r.Peer, procSend, &SendRequest{name, payload})
	if err != nil {
		return Event{}, err
	}
	e.Payload = payload
	return *e, nil
}

// Tell sends a message to one node, by its id or name.
func (r Remote) Tell(ctx context.Context, to, name string, payload []byte) error {
	if err := check(name, payload); err != nil {
		return fmt.Errorf("cannot send message: %w", err)
	}
	_, err := rpc.Call[TellRequest, Empty](ctx, r.Peer, procTell, &TellRequest{to, name, payload})
	return err
}

// Watch yields what is seen; the first Step says where it begins. An error is the last thing that it yields.
func (r Remote) Watch(ctx context.Context, q WatchRequest) iter.Seq2[*Step, error] {
	return rpc.CallStream[WatchRequest, Step](ctx, r.Peer, procWatch, &q)
}

// Query yields the answer of each node that is asked, those without an answer last.
func (r Remote) Query(ctx context.Context, q QueryRequest) iter.Seq2[*Answered, error] {
	return rpc.CallStream[QueryRequest, Answered](ctx, r.Peer, procQuery, &q)
}

// Status is what the node has and did.
func (r Remote) Status(ctx context.Context) (Status, error) {
	status, err := rpc.Call[Empty, Status](ctx, r.Peer, procStatus, &Empty{})
	if err != nil {
		return Status{}, err
	}
	return *status, nil
}
