package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"orrery/fabric"
	"orrery/fabric/authority"
)

const procJoin = "/orrery.fabric.v1.Join/Admit"

// HandleJoin lets newcomers in who have a token. It is the one procedure that
// needs no certificate. peers are what a newcomer is told of the cluster.
func HandleJoin(m *Mux, registrar *authority.Registrar, peers func() []fabric.Beacon) {
	m.http.Handle(procJoin, unary(m, procJoin, func(ctx context.Context, q *authority.Request) (*authority.Admission, error) {
		answer, err := registrar.Admit(ctx, *q)
		if err != nil {
			return nil, err
		}
		m.logger.InfoContext(ctx, "admitted", "node", answer.Identity.ID, "name", answer.Identity.Name, "role", answer.Identity.Role)
		answer.Peers = peers()
		return &answer, nil
	}))
}

// Join redeems a candidate's token at the first of addresses where a node of the token's cluster answers. The secret is sent only after the far side has
// proven that it is one. It returns the newcomer's share of the cluster, kept in its folder, and the nodes that it may turn to.
func Join(ctx context.Context, candidate *authority.Candidate, addresses []string, known Errors) (*authority.Authority, []fabric.Beacon, error) {
	if len(addresses) == 0 {
		return nil, nil, errors.New("cannot join: no address of a node is known")
	}
	q, err := candidate.Request()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot join: %w", err)
	}
	var errs []error
	for _, address := range addresses {
		answer, asked, err := redeem(ctx, candidate.Token(), address, &q, known)
		if err == nil {
			a, err := candidate.Accept(*answer)
			return a, answer.Peers, err
		}
		errs = append(errs, fmt.Errorf("cannot join at %s: %w", address, err))
		if asked || ctx.Err() != nil {
			break
		}
	}
	return nil, nil, errors.Join(errs...)
}

// redeem asks one node; asked says that it was one and that its answer is the cluster's.
func redeem(ctx context.Context, t authority.Token, address string, q *authority.Request, known Errors) (answer *authority.Admission, asked bool, err error) {
	p := newPeer("node at "+address, "https", known, func(ctx context.Context, protocols ...string) (net.Conn, error) {
		return dialTLS(ctx, address, &tls.Config{
			NextProtos:       protocols,
			VerifyConnection: func(state tls.ConnectionState) error { return first(t, state.PeerCertificates) },
		}, nil)
	})
	defer p.Close()
	p.http.Timeout = 2 * handshakeTimeout
	answer, err = Call[authority.Request, authority.Admission](ctx, p, procJoin, q)
	var remote *remoteError
	asked = errors.As(err, &remote) && !errors.Is(err, fabric.ErrNoQuorum)
	return answer, asked, err
}

func first(t authority.Token, chain []*x509.Certificate) error {
	_, _, err := t.VerifyFirst(chain)
	return err
}
