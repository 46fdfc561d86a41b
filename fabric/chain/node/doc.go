// Package node is the running part of chains: the replicas of one node, on one disk, and the connections of their protocol and of clients.
//
// A Node runs the replicas that its disk has, and makes those that configs name (SetMap). Each replica has one goroutine, which hands what comes in to the pure
// protocol (chain/replica) and does what that asks for, and another one that makes entries durable meanwhile. Reads of clean keys are answered by the connection's
// goroutine. Leases come from outside (Lease); without one a replica answers no strong reads. A replica whose disk fails says so (Reports) and answers nothing
// any more. The Node owns its goroutines and connections; Close waits for them.
package node
