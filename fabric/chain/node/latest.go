package node

import (
	"context"

	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
)

// askLatest answers with the map once it has all that the chain table had when it was asked for, or says that nobody can tell.
func (s *session) askLatest(id uint64) {
	ctx, ok := s.begin(id)
	if !ok {
		return
	}
	s.work.Go(func() {
		defer s.cancel(id)
		a := chain.Answer{ID: id}
		if err := s.node.catchUp(ctx); err != nil {
			a.Err, a.Text = cause(err), err.Error()
		} else {
			a.Map, _ = s.node.mapAfter(0)
		}
		_ = s.conn.Write(wire.AppendAnswer(nil, &a)) // the error is the connection's, which ends with it
	})
}

func (n *Node) catchUp(ctx context.Context) error {
	if n.config.CatchUp == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, mapPatience)
	defer cancel()
	return n.config.CatchUp(ctx)
}
