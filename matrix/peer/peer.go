// Package peer has only tests, which compare the rules of rooms with those of another implementation.
package peer
