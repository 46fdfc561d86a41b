package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Authority *authority.Authority
	// Lookup finds a node's host:port, anew for every connection. An error, such as
	// fabric.ErrNotFound, is the caller's.
	Lookup func(ctx context.Context, id fabric.NodeID) (string, error)
	Admit  Admit // asked about every node that answers
	Errors Errors
	Logger *slog.Logger // nil discards
}

// Client holds the connections to other nodes. Safe for concurrent use.
type Client struct {
	config ClientConfig

	mu     sync.Mutex
	peers  map[string]*Peer
	closed bool
	linked linked
}

// NewClient returns a client; it connects when it is used.
func NewClient(config ClientConfig) *Client {
	config.Logger = orDiscard(config.Logger)
	return &Client{config: config, peers: map[string]*Peer{}}
}

// Node returns the far side that is the node with that id, and nobody else.
func (c *Client) Node(id fabric.NodeID) *Peer {
	return c.peer("node "+string(id), func(ctx context.Context, protocols ...string) (net.Conn, error) {
		address, err := c.config.Lookup(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("address of node %s: %w", id, err)
		}
		return c.dial(ctx, address, id, protocols)
	})
}

// Address returns the far side that is whichever node of the cluster listens at host:port.
func (c *Client) Address(address string) *Peer {
	return c.peer("node at "+address, func(ctx context.Context, protocols ...string) (net.Conn, error) {
		return c.dial(ctx, address, "", protocols)
	})
}

func (c *Client) peer(name string, dial dialer) *Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.peers[name]
	if !ok {
		p = newPeer(name, "https", c.config.Errors, dial)
		if c.closed {
			p.Close()
		}
		c.peers[name] = p
	}
	return p
}

// Stream opens a stream to a node; see Peer.Stream.
func (c *Client) Stream(ctx context.Context, id fabric.NodeID, kind string, header any) (net.Conn, error) {
	return c.Node(id).Stream(ctx, kind, header)
}

// DialNode connects to the node with that id for a protocol of its own (see Mux.HandleConn). The connection is the caller's.
func (c *Client) DialNode(ctx context.Context, id fabric.NodeID, protocol string) (net.Conn, error) {
	address, err := c.config.Lookup(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("address of node %s: %w", id, err)
	}
	return c.dial(ctx, address, id, []string{protocol})
}

// DialNode connects to the node that listens at an address for a protocol of its own; an empty id means any node of the cluster.
func DialNode(ctx context.Context, holder *authority.Authority, address string, id fabric.NodeID, protocol string) (net.Conn, error) {
	return dialNode(ctx, holder, address, id, []string{protocol})
}

// DialUnix connects to the node on this machine that listens on a socket, for a protocol of its own.
func DialUnix(ctx context.Context, path, protocol string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write([]byte(protocol + "\n")); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close closes all connections; streams that are open break.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, p := range c.peers {
		p.Close()
	}
}

// Cut ends the connections to those who are out.
func (c *Client) Cut(out func(id fabric.NodeID) bool) { c.linked.cut(out) }

// dial connects to a node and proves that it is the one meant; an empty id means any node.
func (c *Client) dial(ctx context.Context, address string, id fabric.NodeID, protocols []string) (net.Conn, error) {
	own := &dialed{in: &c.linked}
	var found fabric.Identity
	config := nodeConfig(c.config.Authority, address, id, protocols, &found)
	t, err := dialTLS(ctx, address, config, func(raw net.Conn) net.Conn { own.Conn = raw; return own })
	if err != nil || c.config.Admit == nil {
		return t, err
	}
	c.linked.add(own, found.ID) // before it is judged: whoever is put out meanwhile is cut
	if err := c.config.Admit(ctx, found); err != nil {
		// In words only: that a node is out must not look like its own answer, which would be about this one.
		return nil, errors.Join(fmt.Errorf("node %s, %s, is not talked to: %s", found.ID, found.Name, err.Error()), t.Close())
	}
	return t, nil
}

func dialNode(ctx context.Context, holder *authority.Authority, address string, id fabric.NodeID, protocols []string) (net.Conn, error) {
	return dialTLS(ctx, address, nodeConfig(holder, address, id, protocols, new(fabric.Identity)), nil)
}

// nodeConfig is for a connection to a node; who it is is put into found.
func nodeConfig(holder *authority.Authority, address string, id fabric.NodeID, protocols []string, found *fabric.Identity) *tls.Config {
	return &tls.Config{
		NextProtos:                  protocols,
		DynamicRecordSizingDisabled: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own, err := holder.Certificate()
			return &own, err
		},
		VerifyConnection: func(state tls.ConnectionState) (err error) {
			*found, err = holder.Verify(state.PeerCertificates)
			switch {
			case err != nil:
				return err
			case found.Role != fabric.RoleNode:
				return fmt.Errorf("%s answered, which is no node but a %s", found.Name, found.Role)
			case id != "" && found.ID != id:
				return fmt.Errorf("node %s, %s, answered at %s in place of %s: %w", found.ID, found.Name, address, id, ErrOtherNode)
			}
			return nil
		},
	}
}

// ErrOtherNode says that another node of the cluster answers at a node's address.
var ErrOtherNode = errors.New("not the node that was called")

// dialTLS connects. Certificates name holders, not hosts, so config.VerifyConnection does all of the verification. wrap may put something around the
// bare connection.
func dialTLS(ctx context.Context, address string, config *tls.Config, wrap func(net.Conn) net.Conn) (net.Conn, error) {
	config.MinVersion = tls.VersionTLS13
	config.InsecureSkipVerify = true
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	d := net.Dialer{KeepAlive: 15 * time.Second}
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if wrap != nil {
		raw = wrap(raw)
	}
	t := tls.Client(raw, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return t, nil
}

// Unix returns the far side that is the node on this machine that listens on a socket. Close it after use.
func Unix(path string, known Errors) *Peer {
	return newPeer("node at "+path, "http", known, func(ctx context.Context, protocols ...string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil || protocols[0] != streamProtocol {
			return c, err
		}
		if _, err := c.Write([]byte(streamProtocol + "\n")); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	})
}
