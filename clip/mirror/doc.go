// Package mirror keeps the histories of a person's paired machines the same.
//
// A Node runs in the recorder. Nothing listens, and nothing is announced, until there is a paired machine; connections of others are refused in the TLS handshake. A
// session is one connection with one machine: each side tells the other what that has not heard of (clip/replica), at once when something changes, and fetches the contents of items that it lacks,
// what was copied last first. What was fetched is on disk before the next is asked for, so that an interruption costs at most one item, and of that what was received is kept
// while the Node runs.
//
// What goes over, and what is taken, is bounded by Rules, by the recorder's own, and by the limits of the history. Memory is bounded by the size of an item. What a machine sends that is not as
// docs/formats/clip-sync.md says ends the session.
package mirror
