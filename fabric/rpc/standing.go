package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"orrery/fabric"
	"orrery/fabric/authority"
)

const procStanding = "/orrery.fabric.v1.Roll/Standing"

// standing is what a node says of the holder of a certificate.
type standing struct {
	Belongs bool   `json:"belongs"`
	Evicted bool   `json:"evicted,omitempty"`
	Why     string `json:"why,omitempty"`
}

// AskStanding asks nodes about the holder of a certificate, all at once; the first that knows decides. It is for authority.RollConfig.Ask.
func AskStanding(ctx context.Context, c *Client, nodes []fabric.NodeID, holder fabric.Identity) error {
	answers := make(chan *standing, len(nodes))
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, id := range nodes {
		asking.Go(func() {
			s, err := Call[fabric.Identity, standing](ctx, c.Node(id), procStanding, &holder)
			if err != nil {
				answers <- nil
				return
			}
			answers <- s
		})
	}
	for range nodes {
		select {
		case s := <-answers:
			if s != nil {
				return s.err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("no other node could be asked: %w", fabric.ErrNotFound)
}

func (s standing) err() error {
	switch {
	case s.Belongs:
		return nil
	case s.Evicted:
		return fmt.Errorf("%s (%w)", s.Why, fabric.ErrEvicted)
	}
	return fmt.Errorf("%s (%w)", s.Why, fabric.ErrForbidden)
}

// HandleStanding answers AskStanding.
func HandleStanding(m *Mux, roll *authority.Roll) {
	Unary(m, procStanding, fabric.RoleNode, func(ctx context.Context, holder *fabric.Identity) (*standing, error) {
		err := roll.LookUp(ctx, *holder)
		switch {
		case err == nil:
			return &standing{Belongs: true}, nil
		case errors.Is(err, fabric.ErrEvicted), errors.Is(err, fabric.ErrForbidden):
			return &standing{Evicted: errors.Is(err, fabric.ErrEvicted), Why: err.Error()}, nil
		}
		return nil, err
	})
}
