package embed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/discovery"
	"orrery/fabric/rpc"
)

// findTime is how long a cluster is looked for on the network.
const findTime = 15 * time.Second

// Redeem redeems a candidate's token at one of some addresses or, where none is given, at a node of the cluster that is found on the network. It returns who the candidate is now, where other nodes are, and
// how the node that did it was found.
func Redeem(ctx context.Context, candidate *authority.Candidate, addresses []string, way discovery.Config, known rpc.Errors) (*authority.Authority, []fabric.Beacon, string, error) {
	if len(addresses) > 0 {
		a, peers, err := rpc.Join(ctx, candidate, addresses, known)
		return a, peers, "the given address", err
	}
	find, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	cluster := candidate.Token().Cluster()
	var tried []string
	var refused error
	for {
		b, err := discovery.Find(find, way, cluster, tried...)
		if err != nil {
			return nil, nil, "", errors.Join(refused, fmt.Errorf("no node of cluster %s answered on the network within %s: %w", cluster, findTime, err))
		}
		a, peers, err := rpc.Join(ctx, candidate, []string{b.RPC}, known)
		if err == nil || final(err) {
			return a, peers, b.Via, err
		}
		refused, tried = err, append(tried, b.RPC) // it may be somebody else, for beacons prove nothing
	}
}

// final says whether an error is the cluster's own answer, after which asking another node is of no use.
func final(err error) bool {
	for _, answer := range []error{fabric.ErrTokenExpired, fabric.ErrTokenUsed, fabric.ErrTokenUnknown, authority.ErrNameTaken, authority.ErrBadName, authority.ErrExists} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}
