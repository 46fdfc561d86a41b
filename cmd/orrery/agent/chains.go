package agent

import (
	"context"
	"path/filepath"

	"orrery/fabric/authority"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/client"
)

// Chains is the keeper of the chain table, wherever it is.
func (c *Client) Chains() keeper.Remote { return keeper.Remote{Peer: c.to.peer} }

// Keys opens a client of the replicated store, as who dir is, which reaches all nodes.
func (c *Client) Keys(ctx context.Context, dir string) (*client.Client, error) {
	members, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	holder, err := authority.Open(filepath.Join(dir, "identity"))
	if err != nil {
		return nil, err
	}
	config := client.Config{Authority: holder}
	for _, m := range members {
		if m.State.Present() {
			config.Nodes = append(config.Nodes, m.Address)
		}
	}
	return client.Open(ctx, config)
}
