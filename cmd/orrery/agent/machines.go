package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

var (
	_ deploy.Machines  = (*Node)(nil)
	_ session.Keepers  = (*Node)(nil)
	_ session.Services = (*Node)(nil)
)

// Members lists the nodes that the cluster knows.
func (n *Node) Members() []fabric.Member { return n.base.Members() }

// peer is another node as the target of procedures.
func (n *Node) peer(id fabric.NodeID) target { return target{peer: n.client.Node(id)} }

// Keeper reaches a node's keeper.
func (n *Node) Keeper(id fabric.NodeID) (state.Keeper, error) {
	if id == n.identity.ID {
		return n.local.keeper, nil
	}
	if _, err := n.member(id); err != nil {
		return nil, err
	}
	return remoteKeeper{n.peer(id)}, nil
}

func (n *Node) member(id fabric.NodeID) (fabric.Member, error) {
	for _, m := range n.Members() {
		if m.ID == id {
			return m, nil
		}
	}
	return fabric.Member{}, fmt.Errorf("node %s: %w", id, deploy.ErrNotFound)
}

// named finds a node by its name.
func (n *Node) named(name string) (fabric.NodeID, error) {
	for _, m := range n.Members() {
		if m.Name == name {
			return m.ID, nil
		}
	}
	return "", fmt.Errorf("node %s: %w (see orrery members)", name, fabric.ErrNotFound)
}

// Describe returns a module's description on a node.
func (n *Node) Describe(ctx context.Context, id fabric.NodeID, module string) (state.Description, error) {
	if id == n.identity.ID {
		return n.describe(module)
	}
	return ask[state.Description](ctx, n.peer(id), procDescribe, &Text{module})
}

func (n *Node) describe(module string) (state.Description, error) {
	for _, d := range n.local.describe() {
		if d.Name == module {
			return d, nil
		}
	}
	return state.Description{}, fmt.Errorf("module %s: %w (see orrery module list)", module, state.ErrNotFound)
}

// Provide brings artifacts that this node has to another one.
func (n *Node) Provide(ctx context.Context, id fabric.NodeID, sums []string) error {
	if id == n.identity.ID {
		for _, sum := range sums {
			if _, err := n.local.artifacts.Path(sum); err != nil {
				return err
			}
		}
		return nil
	}
	missing, err := ask[List[string]](ctx, n.peer(id), procHas, &List[string]{sums})
	if err != nil {
		return err
	}
	for _, sum := range missing.Items {
		path, err := n.local.artifacts.Path(sum)
		if err != nil {
			return err
		}
		if err := sendArtifact(ctx, n.peer(id), sum, path); err != nil {
			return err
		}
	}
	return nil
}

// sendArtifact streams a file to a node and waits until it is kept there.
func sendArtifact(ctx context.Context, to target, sum, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	conn, err := to.peer.Stream(ctx, streamArtifact, ArtifactHeader{SHA256: sum, On: to.on})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.Copy(conn, file); err != nil {
		return fmt.Errorf("cannot send artifact %s: %w", path, err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return fmt.Errorf("cannot send artifact %s: %w", path, err)
		}
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 4096))
	if err != nil {
		return fmt.Errorf("cannot send artifact %s: %w", path, err)
	}
	if string(answer) != "ok" {
		return fmt.Errorf("cannot send artifact %s: %s", path, orElse(string(answer), "the connection ended"))
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// receiveArtifact keeps a file that somebody sends.
func (n *Node) receiveArtifact(ctx context.Context, _ fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error {
	var h ArtifactHeader
	if err := json.Unmarshal(header, &h); err != nil {
		return err
	}
	conn, err := accept()
	if err != nil {
		return err
	}
	err = n.local.artifacts.put(h.SHA256, conn)
	if err == nil && h.On != "" && h.On != n.identity.Name {
		var id fabric.NodeID
		if id, err = n.named(h.On); err == nil {
			err = n.Provide(ctx, id, []string{h.SHA256})
		}
	}
	answer := "ok"
	if err != nil {
		answer = err.Error()
	}
	_, err = io.WriteString(conn, answer)
	return err
}

// Transfer brings a snapshot from one node's store into another's.
func (n *Node) Transfer(ctx context.Context, r state.Ref, id state.SnapshotID, from, to fabric.NodeID) (int64, error) {
	request := &PullRequest{Ref: r, ID: id, From: from}
	if to == n.identity.ID {
		return n.pull(ctx, request)
	}
	moved, err := ask[Bytes](ctx, n.peer(to), procPull, request)
	return moved.Bytes, err
}

// pull fetches what this node's store lacks of a snapshot from another node.
func (n *Node) pull(ctx context.Context, q *PullRequest) (int64, error) {
	if q.From == n.identity.ID { // the snapshot is here, for another component or as an older generation
		_, err := n.local.store.Adopt(ctx, q.Ref, "received", q.ID)
		return 0, err
	}
	names, err := ask[List[string]](ctx, n.peer(q.From), procObjects, &RefRequest{ID: q.ID})
	if err != nil {
		return 0, fmt.Errorf("cannot fetch snapshot %.12s: %w", q.ID, err)
	}
	missing, err := n.local.store.Missing(ctx, names.Items)
	if err != nil {
		return 0, err
	}
	var moved int64
	if len(missing) > 0 {
		if moved, err = n.fetch(ctx, q, missing); err != nil {
			return moved, fmt.Errorf("cannot fetch snapshot %.12s: %w", q.ID, err)
		}
	}
	_, err = n.local.store.Adopt(ctx, q.Ref, "received", q.ID)
	return moved, err
}

// fetch streams objects from another node into this one's store.
func (n *Node) fetch(ctx context.Context, q *PullRequest, names []string) (int64, error) {
	conn, err := n.client.Stream(ctx, q.From, streamExport, ExportHeader{q.ID})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(names); err != nil {
		return 0, err
	}
	counted := &countingReader{Reader: conn}
	err = n.local.store.Import(ctx, counted)
	return counted.n.Load(), err
}

type countingReader struct {
	io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// maxNames bounds the list of objects that a node asks for, in bytes of JSON.
const maxNames = 64 << 20

// serveExport sends objects to a node that lacks them.
func (n *Node) serveExport(ctx context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
	conn, err := accept()
	if err != nil {
		return err
	}
	var names []string
	if err := json.NewDecoder(io.LimitReader(conn, maxNames)).Decode(&names); err != nil {
		return err
	}
	if names, err = n.local.store.Needed(ctx, names); err != nil {
		return err
	}
	return n.local.store.Export(ctx, names, conn)
}

// CheckAddress says whether a node could listen at an address for a service.
func (n *Node) CheckAddress(ctx context.Context, id fabric.NodeID, address, service string) error {
	if id == n.identity.ID {
		return n.checkAddress(ctx, address, service)
	}
	return tell(ctx, n.peer(id), procAddress, &AddressRequest{Address: address, Service: service})
}

func (n *Node) checkAddress(ctx context.Context, address, service string) error {
	if owner, ok := n.router.Listening(address); ok {
		if owner == service {
			return nil
		}
		return fmt.Errorf("%s is taken by service %s: %w", address, owner, state.ErrInUse)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("%s cannot be listened at: %w: %w", address, state.ErrInUse, err)
	}
	return listener.Close()
}

// forward carries a procedure of the state column to another node for an operator of this one.
func (n *Node) forward(ctx context.Context, q *Forwarded) (*Forwarded, error) {
	if !strings.HasPrefix(q.Procedure, "/orrery.state.v1.") {
		return nil, fmt.Errorf("procedure %s cannot be forwarded: %w", q.Procedure, fabric.ErrForbidden)
	}
	id, err := n.named(q.On)
	if err != nil {
		return nil, err
	}
	answer, err := ask[json.RawMessage](ctx, n.peer(id), q.Procedure, &q.Content)
	return &Forwarded{Content: answer}, err
}
