package agent

import (
	"context"
	"errors"
	"iter"

	"orrery/fabric"
	"orrery/fabric/rpc"
)

const procWatchMembers = "/orrery.fabric.v1.Fabric/WatchMembers"

func (n *Node) serveMembers(m *rpc.Mux) {
	rpc.ServerStream(m, procWatchMembers, fabric.RoleViewer, func(ctx context.Context, _ *Empty, send func(*List[fabric.Member]) error) error {
		for changed := n.base.Membership().Changes(ctx); ; {
			if err := send(&List[fabric.Member]{n.Members()}); err != nil {
				return err
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// WatchMembers yields the nodes as the node sees them, and again after each change. It ends with an error only, the last thing it yields.
func (c *Client) WatchMembers(ctx context.Context) iter.Seq2[[]fabric.Member, error] {
	return func(yield func([]fabric.Member, error) bool) {
		for all, err := range rpc.CallStream[Empty, List[fabric.Member]](ctx, c.to.peer, procWatchMembers, &Empty{}) {
			if ctx.Err() != nil {
				break
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(all.Items, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		yield(nil, errors.New("the node has stopped"))
	}
}
