// Package peer has only tests: the rules of rooms are compared with those of another implementation, and a bridge that is made of another's library speaks to
// the homeserver.
package peer
