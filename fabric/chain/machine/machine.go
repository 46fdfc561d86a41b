// Package machine is what commands do to keys: a pure function from a command and the newest state to an entry of the log.
package machine

import "orrery/fabric/chain"

// View is a state of a chain's keys and of its memory of clients.
type View interface {
	// Get returns a key's value; ok is false if there is none. The value is not to be written into.
	Get(key []byte) (v chain.Value, ok bool, err error)
	// Recall returns the result of a client's request. known is false if it is not there; over is true if it is below what the client
	// said that it still waits for.
	Recall(client, request uint64) (r chain.Result, known, over bool, err error)
	// Expired returns keys, limit at the most, whose Expires is not 0 and not after time.
	Expired(time int64, limit int) ([][]byte, error)
}
