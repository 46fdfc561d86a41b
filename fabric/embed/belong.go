package embed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/membership"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
)

// openRoll makes the part that knows whose certificates count.
func (n *Node) openRoll() (err error) {
	n.roll, err = authority.OpenRoll(n.life, authority.RollConfig{
		Self: n.identity.ID, Table: n.table, Logger: n.config.Logger, Changed: n.expel,
		Belongs:    func(id fabric.NodeID) bool { return n.table.Status().Has(id) },
		Introduced: func(id fabric.NodeID) bool { _, ok := n.seen.Get(id); return ok },
		Ready:      func() bool { return n.table.Status().Leader != "" },
		Ask: func(ctx context.Context, holder fabric.Identity) error {
			return rpc.AskStanding(ctx, n.client, n.known(), holder)
		},
	})
	if err == nil {
		close(n.rolled)
	}
	return err
}

// admit is asked about all who connect, or are connected to, from before there is a roll.
func (n *Node) admit(ctx context.Context, holder fabric.Identity) error {
	select {
	case <-n.rolled:
		return n.roll.Admit(ctx, holder)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expel drops all who were put out, or ends this node if it is one of them.
func (n *Node) expel() {
	if err := n.roll.Out(n.identity.ID); err != nil {
		n.end(err)
	}
	n.Expel()
}

// Expel drops all connections with those who were put out, and what is known of them, as far as this node knows of it.
func (n *Node) Expel() {
	out := func(id fabric.NodeID) bool { return n.roll.Out(id) != nil }
	n.server.Cut(out)
	n.client.Cut(out)
	n.members.Load().Expel()
	n.seen.Drop(out)
}

// known are the nodes that can be asked about things: those of which this one is sure, but for itself.
func (n *Node) known() []fabric.NodeID {
	beacons := n.seen.All()
	if members := n.members.Load(); members != nil {
		beacons = append(beacons, members.Beacons()...)
	}
	var all []fabric.NodeID
	for _, b := range beacons {
		node := fabric.Identity{ID: b.ID, Name: b.Name, Role: fabric.RoleNode}
		if sure, err := n.roll.Known(node); sure && err == nil && b.ID != n.identity.ID && !slices.Contains(all, b.ID) {
			all = append(all, b.ID)
		}
	}
	return all
}

// lookup finds a node's address: by the membership, or before that by what is known from the last run.
func (n *Node) lookup(ctx context.Context, id fabric.NodeID) (string, error) {
	if members := n.members.Load(); members != nil {
		if address, err := members.Lookup(ctx, id); err == nil {
			return address, nil
		}
	}
	if address, ok := n.seen.Get(id); ok {
		return address, nil
	}
	return "", fmt.Errorf("node %s: %w", id, fabric.ErrNotFound)
}

// ring are the gossip keys on the disk and in use.
type ring struct {
	kept *authority.Authority
	*membership.Membership
}

// Set keeps keys, and uses them.
func (r ring) Set(keys [][]byte) error {
	if err := r.kept.SetGossipKeys(keys); err != nil {
		return err
	}
	return r.SetKeys(keys)
}

// openRotation makes the part that changes the gossip's key.
func (n *Node) openRotation(members *membership.Membership) {
	n.rotator = rotation.New(rotation.Config{
		Self: n.identity.ID, Table: n.table, Ring: ring{n.authority, members}, Nodes: n.Nodes, Alive: n.alive, Logger: n.config.Logger,
		Ask: func(ctx context.Context, id fabric.NodeID) (rotation.Answer, error) {
			a, err := rpc.Call[empty, rotation.Answer](ctx, n.Peer(id), procKeys, &empty{})
			if err != nil {
				return rotation.Answer{}, err
			}
			return *a, nil
		},
		Turn: func(ctx context.Context, id fabric.NodeID, r rotation.Record) error {
			_, err := rpc.Call[rotation.Record, empty](ctx, n.Peer(id), procTurn, &r)
			return err
		},
	})
}

// Nodes are all nodes of the cluster, there or not.
func (n *Node) Nodes(ctx context.Context) ([]fabric.Identity, error) {
	names, err := n.table.List(ctx, authority.NamePrefix)
	if err != nil {
		return nil, err
	}
	var all []fabric.Identity
	for _, e := range names {
		if id := fabric.NodeID(e.Value); n.roll.Out(id) == nil {
			all = append(all, fabric.Identity{Cluster: n.identity.Cluster, ID: id, Name: strings.TrimPrefix(e.Key, authority.NamePrefix), Role: fabric.RoleNode})
		}
	}
	return all, nil
}

// inquire asks for news that a node that is alone would not hear.
func (n *Node) inquire(ctx context.Context) error {
	return n.rotator.Inquire(ctx, func() bool { return len(n.present()) <= 1 || n.table.Status().Leader == "" }, n.known)
}

// enroll makes this node part of the table: it asks the nodes that it knows until one of them adds it.
func (n *Node) enroll(ctx context.Context) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := n.enrollOnce(attempt)
		cancel()
		if err == nil {
			close(n.enrolled)
			return nil
		}
		n.config.Logger.DebugContext(ctx, "not part of the table yet", "error", err)
		if !clock.Wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

func (n *Node) enrollOnce(ctx context.Context) error {
	if !n.table.Status().Has(n.identity.ID) {
		err := errors.New("no other node was found yet")
		for _, id := range n.present() {
			if id == n.identity.ID {
				continue
			}
			if err = n.ask(ctx, n.Peer(id)); err == nil {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	if err := n.registrar.ClaimName(ctx, n.identity.Name, n.identity.ID); err != nil {
		return err
	}
	return n.stay(ctx)
}

// ask asks another node to take this one into the table.
func (n *Node) ask(ctx context.Context, to *rpc.Peer) error {
	if enroll := n.config.Enroll; enroll != nil {
		return enroll(ctx, to, n.Address())
	}
	_, err := rpc.Call[text, empty](ctx, to, procEnroll, &text{n.Address()})
	return err
}

// remember keeps the addresses of the nodes.
func (n *Node) remember(ctx context.Context) error {
	for {
		n.seen.Keep(n.members.Load().Beacons())
		if !clock.Wait(ctx, 2*time.Second) {
			return ctx.Err()
		}
	}
}

// Evict puts a node out for good that is lost or not to be trusted: its certificate is refused, its replicas are made anew elsewhere, and it has no vote. by and why are for people. If
// it is interrupted, call it again, on any node but that one.
func (n *Node) Evict(ctx context.Context, id fabric.NodeID, by, why string) error {
	if id == n.identity.ID {
		return errors.New("a node cannot put itself out: Leave is for that")
	}
	e, revision, err := n.registrar.Eviction(ctx, id)
	if err != nil {
		return err
	}
	if revision == 0 {
		e = authority.Eviction{ID: id, Role: fabric.RoleNode, By: by, Why: why, Begun: time.Now().UTC()}
		all, err := n.Nodes(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(known fabric.Identity) bool { return known.ID == id })
		if i < 0 {
			return fmt.Errorf("node %s: %w", id, fabric.ErrNotFound)
		}
		e.Name = all[i].Name
	}
	if !e.Done.IsZero() {
		return nil
	}
	if err := n.putOut(ctx, e, revision); err != nil {
		return fmt.Errorf("node %s is not put out entirely: %w", e.Name, err)
	}
	return nil
}

// putOut does the steps of Evict, each of which may be repeated.
func (n *Node) putOut(ctx context.Context, e authority.Eviction, revision uint64) error {
	if err := n.Drain(ctx, e.ID); err != nil {
		return err
	}
	if e.Out.IsZero() {
		last, err := n.rotator.Latest(ctx)
		if err != nil {
			return err
		}
		e.Out, e.Gossip = time.Now().UTC(), last.Serial
		if revision, err = n.registrar.Evict(ctx, e, revision); err != nil {
			return err
		}
	}
	if err := n.table.Remove(ctx, e.ID); err != nil {
		return err
	}
	if err := n.registrar.ReleaseName(ctx, e.Name, e.ID); err != nil {
		return err
	}
	for {
		last, err := n.rotator.Latest(ctx)
		if err != nil {
			return err
		}
		if last.Serial > e.Gossip && last.Phase == rotation.Done {
			break
		}
		if _, err := n.rotator.Rotate(ctx, e.By, func(rotation.Step) {}); err != nil {
			return err
		}
	}
	e.Done = time.Now().UTC()
	_, err := n.registrar.Evict(ctx, e, revision)
	return err
}
