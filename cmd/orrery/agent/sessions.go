package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net"

	"orrery/fabric"
	"orrery/fabric/rpc"
	"orrery/session"
	"orrery/session/overlay"
)

// Nodes lists the nodes that the membership does not believe dead.
func (n *Node) Nodes() []fabric.NodeID {
	var ids []fabric.NodeID
	for _, m := range n.Members() {
		if m.State.Present() {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// Await waits for a node's router.
func (n *Node) Await(ctx context.Context, node fabric.NodeID, service string, revision uint64) error {
	if node == n.identity.ID {
		return n.router.Await(ctx, service, revision)
	}
	return tell(ctx, n.peer(node), procAwait, &AwaitRequest{Service: service, Revision: revision})
}

// Stream opens a stream to an instance on another node.
func (n *Node) Stream(ctx context.Context, node fabric.NodeID, to session.Instance) (net.Conn, error) {
	return n.client.Stream(ctx, node, streamInstance, to)
}

// serveInstance connects another node's router to an instance of this node.
func (n *Node) serveInstance(ctx context.Context, _ fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error {
	instance, err := decodeHeader[session.Instance](header)
	if err != nil {
		return err
	}
	conn, err := accept()
	if err != nil {
		return err
	}
	return n.dialer.ServeStream(ctx, conn, instance)
}

// serveTunnel takes a developer's tunnel that belongs to a session.
func (n *Node) serveTunnel(ctx context.Context, caller fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error {
	h, err := decodeHeader[TunnelHeader](header)
	if err != nil {
		return err
	}
	s, err := n.overlay.Tunnel(ctx, h.ID, overlay.Caller{Name: caller.Name, Role: caller.Role})
	if err != nil {
		return err
	}
	conn, err := accept()
	if err != nil {
		return err
	}
	return n.tunnels.Accept(ctx, conn, h.ID, s.Name)
}

// whoCalls is the session overlay's view of the caller.
func whoCalls(ctx context.Context) overlay.Caller {
	caller, ok := rpc.Caller(ctx)
	if !ok {
		return overlay.Caller{} // nobody, who may do nothing
	}
	return overlay.Caller{Name: caller.Name, Role: caller.Role}
}

// createSession makes a session, or joins it if the caller's own session of that name exists.
func (n *Node) createSession(ctx context.Context, q *overlay.Request) (session.Session, error) {
	who := whoCalls(ctx)
	q.Owner = who.Name
	s, err := n.overlay.Create(ctx, *q)
	if errors.Is(err, session.ErrExists) && len(q.Tunnels) > 0 {
		return n.overlay.Join(ctx, *q, who)
	}
	return s, err
}

// decodeHeader reads the header of a stream.
func decodeHeader[T any](header json.RawMessage) (T, error) {
	var h T
	err := json.Unmarshal(header, &h)
	return h, err
}
