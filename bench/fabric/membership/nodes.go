package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
	"orrery/fabric/membership"
)

const (
	clusterID = "0123456789abcdef"
	gossipKey = "0123456789abcdef0123456789abcdef"
)

// losing says of each of so many percent of datagrams that it is lost.
func losing(percent int) func() bool {
	if percent == 0 {
		return func() bool { return false }
	}
	return func() bool { return rand.IntN(100) < percent }
}

// orrery is a node's membership.
type orrery struct{ *membership.Membership }

func startOrrery(s *sight, i int) (node, error) {
	dead := map[fabric.NodeID]bool{}
	m, err := membership.Start(context.Background(), membership.Config{
		Identity: fabric.Identity{Cluster: clusterID, ID: fabric.NodeID(fmt.Sprintf("%016x", i)), Name: fmt.Sprintf("node-%d", i), Role: fabric.RoleNode},
		Version:  "1.0.0", Zone: "rack-1", RPC: fmt.Sprintf("127.0.0.1:%d", 10000+i), Bind: "127.0.0.1:0", Keys: [][]byte{[]byte(gossipKey)}, Lose: s.loss,
		Changed: func(all []fabric.Member) {
			there := 0
			for _, m := range all {
				if m.State.Present() {
					there++
					delete(dead, m.ID)
				} else if !dead[m.ID] {
					dead[m.ID] = true
					s.died(string(m.ID))
				}
			}
			s.there(there)
		},
	})
	return orrery{m}, err
}

func (o orrery) name() string    { return string(o.Self().ID) }
func (o orrery) traffic() uint64 { return o.Traffic().Sent }
func (o orrery) close() error    { return o.Close() }

func (o orrery) join(first node) {
	f, ok := first.(orrery)
	if !ok {
		return
	}
	o.Found(fabric.Beacon{Cluster: clusterID, ID: f.Self().ID, Gossip: f.Gossip()})
}

// plain is a node of memberlist as it comes.
type plain struct {
	*memberlist.Memberlist
	net *meter
}

func startMemberlist(s *sight, i int) (node, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}, Logger: slog.NewLogLogger(slog.DiscardHandler, 0)})
	if err != nil {
		return nil, err
	}
	c := memberlist.DefaultLANConfig()
	c.Name, c.BindAddr, c.BindPort, c.AdvertisePort = fmt.Sprintf("%016x", i), "127.0.0.1", 0, 0
	c.SecretKey, c.Label, c.LogOutput = []byte(gossipKey), clusterID, io.Discard
	m := &meter{NetTransport: inner, lose: s.loss}
	c.Transport, c.Delegate, c.Events = m, says(fmt.Sprintf(`{"n":"node-%d","r":"node","a":"127.0.0.1:%d","v":"1.0.0","z":"rack-1"}`, i, 10000+i)), &listener{sight: s}
	l, err := memberlist.Create(c)
	return plain{l, m}, err
}

func (p plain) name() string    { return p.LocalNode().Name }
func (p plain) traffic() uint64 { return p.net.sent.Load() }
func (p plain) close() error    { return p.Shutdown() }

// join tries until the first node answers, as programs do.
func (p plain) join(first node) {
	f, ok := first.(plain)
	if !ok {
		return
	}
	for range 20 {
		if _, err := p.Join([]string{f.LocalNode().Address()}); err == nil {
			return
		}
	}
}

// listener hears of joins and deaths; memberlist tells one at a time.
type listener struct {
	*sight
	n int
}

func (l *listener) NotifyJoin(*memberlist.Node)   { l.n++; l.there(l.n) }
func (l *listener) NotifyUpdate(*memberlist.Node) {}

func (l *listener) NotifyLeave(n *memberlist.Node) {
	l.n--
	l.died(n.Name)
	l.there(l.n)
}

// says is what a node says of itself.
type says string

func (s says) NodeMeta(int) []byte           { return []byte(s) }
func (says) NotifyMsg([]byte)                {}
func (says) GetBroadcasts(int, int) [][]byte { return nil }
func (says) LocalState(bool) []byte          { return nil }
func (says) MergeRemoteState([]byte, bool)   {}

// meter is memberlist's transport, with its bytes counted.
type meter struct {
	*memberlist.NetTransport
	lose func() bool
	sent atomic.Uint64
}

func (m *meter) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	m.sent.Add(uint64(len(b)))
	if m.lose() {
		return time.Now(), nil
	}
	return m.NetTransport.WriteToAddress(b, to)
}

func (m *meter) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := m.NetTransport.DialAddressTimeout(to, timeout)
	if err != nil {
		return nil, err
	}
	return &metered{c, m}, nil
}

// metered is a stream of which the bytes both ways are counted, for the far side's are not.
type metered struct {
	net.Conn
	m *meter
}

func (c *metered) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.sent.Add(uint64(n)) //nolint:gosec // not negative
	return n, err
}

func (c *metered) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.sent.Add(uint64(n)) //nolint:gosec // not negative
	return n, err
}
