package embed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/placement"
	"orrery/fabric/table"
	"orrery/internal/clock"
)

// leavingKey is where the table has the node that is leaving. There is one at a time: of two that have the last copies of something, the second has to see that the first one is gone.
const leavingKey = "fabric/leaving"

const (
	turnPause = 50 * time.Millisecond
	// sharedTime is how long a node that leaves waits for another to have the shared keys: one that has just come gets them by itself.
	sharedTime = 10 * time.Second
)

// Leave takes this node out of the cluster for good, and closes it. First move its replicas away (Chains().Drain): it is refused while nobody else serves keys of which this node has a replica. Nodes leave one
// after the other. After it the directory can be removed; a fresh one can Join again.
func (n *Node) Leave(ctx context.Context) error {
	left, err := n.Depart(ctx)
	if left {
		err = errors.Join(err, n.Close())
	}
	return err
}

// Depart is Leave for what the node itself runs, such as a procedure: it does not wait until the node has stopped. left says whether it belongs to the cluster no more, also where something else failed.
func (n *Node) Depart(ctx context.Context) (left bool, err error) {
	if err := n.Ready(ctx); err != nil { // a node that is just arriving would claim its name again
		return false, fmt.Errorf("node %s cannot leave: %w", n.identity.Name, err)
	}
	revision, err := n.replaced(ctx)
	if err != nil {
		return false, fmt.Errorf("node %s cannot leave: %w", n.identity.Name, err)
	}
	// Its turn ends when it does not belong to the table any more; until then it can be begun again.
	err = n.Drain(ctx, n.identity.ID) // no place is kept for it
	if err == nil {
		err = n.registrar.ReleaseName(ctx, n.identity.Name, n.identity.ID)
	}
	if err == nil {
		err = n.table.Remove(ctx, n.identity.ID)
	}
	if err != nil {
		return false, errors.Join(err, n.pass(ctx, revision))
	}
	defer n.Stop()
	return true, errors.Join(n.members.Load().Leave(ctx), authority.Remove(n.config.identity()))
}

// replaced waits for this node's turn to leave, and says which chain needs its replica. Otherwise it is its turn, until it is gone.
func (n *Node) replaced(ctx context.Context) (revision uint64, err error) {
	for deadline := time.Now().Add(sharedTime); ; {
		if revision, err = n.turn(ctx); err != nil {
			return 0, err
		}
		var bucket string
		if bucket, err = n.onlyHere(ctx); err == nil {
			return revision, nil
		}
		err = errors.Join(err, n.pass(ctx, revision))
		if bucket != placement.SharedBucket || time.Now().After(deadline) || !clock.Wait(ctx, turnPause) {
			return 0, err
		}
	}
}

// turn waits until no other node is leaving.
func (n *Node) turn(ctx context.Context) (revision uint64, err error) {
	for {
		e, err := n.table.Get(ctx, leavingKey)
		if err != nil && !errors.Is(err, fabric.ErrNotFound) {
			return 0, err
		}
		other := fabric.NodeID(e.Value)
		belongs, err := n.belonging(ctx)
		switch {
		case err != nil:
			return 0, err
		case e.Revision > 0 && other == n.identity.ID:
			return e.Revision, nil
		case e.Revision == 0 || !belongs[other]:
			revision, err := n.table.CompareAndSwap(ctx, leavingKey, e.Revision, []byte(n.identity.ID))
			if !errors.Is(err, fabric.ErrConflict) {
				return revision, err
			}
		}
		if !clock.Wait(ctx, turnPause) {
			return 0, fmt.Errorf("node %s is leaving, or has stopped while it was (then start it): %w", other, ctx.Err())
		}
	}
}

// pass gives the turn up.
func (n *Node) pass(ctx context.Context, revision uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := n.table.Delete(ctx, leavingKey, revision)
	if errors.Is(err, fabric.ErrNotFound) || errors.Is(err, fabric.ErrConflict) {
		return nil
	}
	return err
}

// stay ends what this node began before it was started again: it does not leave.
func (n *Node) stay(ctx context.Context) error {
	e, err := n.table.Get(ctx, leavingKey)
	if errors.Is(err, fabric.ErrNotFound) || err == nil && fabric.NodeID(e.Value) != n.identity.ID {
		return nil
	}
	if err != nil {
		return err
	}
	return n.pass(ctx, e.Revision)
}

// belonging are the nodes that belong to the table, as of now.
func (n *Node) belonging(ctx context.Context) (map[fabric.NodeID]bool, error) {
	members, err := n.table.List(ctx, table.MemberPrefix)
	if err != nil {
		return nil, err
	}
	all := map[fabric.NodeID]bool{}
	for _, e := range members {
		all[fabric.NodeID(strings.TrimPrefix(e.Key, table.MemberPrefix))] = true
	}
	return all, nil
}

// onlyHere says which chain has a replica here, and none that serves on another node that stays.
func (n *Node) onlyHere(ctx context.Context) (bucket string, err error) {
	belongs, err := n.belonging(ctx)
	switch {
	case err != nil:
		return "", err
	case len(belongs) == 1 && belongs[n.identity.ID]:
		return "", errors.New("it is the cluster's last node")
	}
	o, err := n.Overview(ctx)
	if err != nil {
		return "", err
	}
	return o.OnlyOn(n.identity.ID, func(id fabric.NodeID) bool { return belongs[id] })
}

// Overview is how all buckets, chains and nodes are. While the cluster has no keeper, as just after one was lost, it waits for one until ctx ends.
func (n *Node) Overview(ctx context.Context) (o *placement.Overview, err error) {
	err = n.kept(ctx, func() (err error) {
		o, err = n.chains.Overview(ctx)
		return err
	})
	return o, err
}

// Drain has the keeper fill other nodes' replicas, in place of a node's, at once: nobody waits for the place of a node that is drained.
func (n *Node) Drain(ctx context.Context, id fabric.NodeID) error {
	return n.kept(ctx, func() error { return n.chains.Drain(ctx, id, true) })
}

// kept asks the keeper of the chains for something, and again where there is none just now, or it is doing something else.
func (n *Node) kept(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if again := errors.Is(err, chain.ErrBusy) || errors.Is(err, keeper.ErrNotKeeper); !again || !clock.Wait(ctx, turnPause) {
			return err
		}
	}
}
