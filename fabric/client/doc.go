// Package client reads and writes the keys that chains keep.
//
// A Client knows some nodes of a cluster and learns from them where the chains are; it hears of changes, and asks again when a node says that it does not
// have what it was asked for. A Bucket is a key space. Its keys are spread over chains by ranges, which callers notice in two places only: a Txn is of
// keys of one chain, and what is read of several chains is not as of one moment.
//
// Reads go to the nearest replica that serves, spread over those that are about as near, and are strong unless an option says otherwise. Writes
// go to the chain's head. A request whose node fails, or is replaced, is sent again, to another node or to the same, until the context ends: give every
// call a deadline. A write that is sent again is the same command, which chains do once. When the context ends after a write was sent, the error is a
// chain.ErrUnknown: it may or may not have happened.
//
// What is promised: a write that returned is on the disks of all replicas of its chain (in the memory of all, where the bucket's durability says so). A strong read sees
// every write that had returned when it began, whichever replica answers it; a bounded or eventual one may be old, but is never of what was not committed. A
// command is done whole or not at all, and once, however often it was sent. A watch leaves out no change of its range, and yields those of a key in order.
//
// Many goroutines share a Client, and their requests share its connections, one to each node. Values that are returned are the
// caller's; what is passed in is not kept after the call.
package client
