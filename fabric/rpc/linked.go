package rpc

import (
	"context"
	"net"
	"sync"

	"orrery/fabric"
)

// Admit says whether the holder of a certificate of the cluster still belongs to it; it may take some seconds. nil: every holder does.
type Admit func(ctx context.Context, holder fabric.Identity) error

// linked are the connections whose far side is known.
type linked struct {
	mu    sync.Mutex
	conns map[net.Conn]fabric.NodeID
}

func (l *linked) add(c net.Conn, id fabric.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[net.Conn]fabric.NodeID{}
	}
	l.conns[c] = id
}

func (l *linked) remove(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// cut closes the connections to those who are out.
func (l *linked) cut(out func(id fabric.NodeID) bool) {
	l.mu.Lock()
	var all []net.Conn
	for c, id := range l.conns {
		if out(id) {
			all = append(all, c)
		}
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close() // its user hears of it
	}
}

// dialed is a connection of a client, which is open until it is closed.
type dialed struct {
	net.Conn
	in *linked
}

// Close closes the connection.
func (d *dialed) Close() error {
	d.in.remove(d)
	return d.Conn.Close()
}
