// Package rpc is how nodes, and people's programs, talk to a node.
//
// A Mux holds procedures and kinds of streams, each with the role that it
// needs. A Server offers a Mux on one TCP port (TLS 1.3, certificates of the cluster's CA on
// both sides) and on a Unix socket (mode 0600; who may open it is an operator). A Peer is one far side, reached
// by node id, address or socket; Call and CallStream run its procedures, Peer.Stream opens a stream of bytes.
//
// On the TCP port ALPN chooses: h2 or http/1.1 is connect's protocol with JSON of plain Go structs
// (docs/decisions/0001-json-over-connect.md); orrery-stream/1 is a yamux session; a connection of
// another name that was registered (Mux.HandleConn) belongs to that handler. On the Unix socket a connection that begins with
// a line of one of these names is of that protocol and anything else HTTP/1.1. In a session the opener's first stream is for control (see multiplex), and each other one begins with a frame (4 bytes of length, big endian,
// then JSON of at most 64 KiB) from the opener, {"kind", "header"}, and one from the far side, {"error", "names"} or {}.
//
// Guarantees: a Peer for a node id talks to that node of this cluster and to nobody else. A procedure or stream
// runs only for a caller whose certificate has the role. An error that wraps a sentinel of the Errors registry on one side wraps it on the other.
// The package owns its sockets, connections and goroutines; Server.Run and Close wait for them.
package rpc
