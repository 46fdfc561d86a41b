// Package term has values of Erlang: as Go values, in the external format that Erlang's nodes speak, and as canonical text,
// which Erlang's own parser reads.
//
// Text is a line of ASCII. The same value has one text: strings are written as such where all of it is printable, binaries
// byte by byte, keys of maps in order. Processes, references, ports and functions are of a running system and are refused.
// Decoding is bounded by what is decoded: nothing is allocated that a length in the input merely claims.
package term

import (
	"errors"
	"math/big"
)

// Term is one of Atom, int64, *big.Int (where int64 is too small), float64, Binary, List, Tuple and Map.
type Term any

type (
	// Atom is a name.
	Atom string
	// Binary is bytes.
	Binary string
	// List is a proper list. Erlang's strings are lists of numbers.
	List []Term
	// Tuple is a fixed number of terms.
	Tuple []Term
	// Map is keys and values, in the order of the keys' text.
	Map []Pair
	// Pair is an entry of a map.
	Pair struct{ Key, Value Term }
)

// ErrTerm says that bytes or text are not of a term that this package knows.
var ErrTerm = errors.New("not a term")

// depthLimit is how deep terms may be in each other.
const depthLimit = 512

// integer makes an int64 of a number where that is large enough.
func integer(n *big.Int) Term {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}
