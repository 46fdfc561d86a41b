// Package replica says how histories of several machines become one, whatever changed where, and in which order they hear of it. It is pure.
//
// An item is known by its Key, the hash of its contents, so that the same copy is the same item everywhere. What may change of it is an Entry: registers,
// each with the Stamp of its last change. The greater stamp wins, register by register; entries are joined by Merge, which is commutative, associative and idempotent, so
// that machines that heard the same changes have the same entries. A deletion is a register, too: it takes with it all that was said of the item before it, and what was away
// then does not bring it back. A copy afterwards, or a pin, does.
//
// A State is what one machine knows: the entries, and a Vector that says up to which change of each machine it has heard all. What lies beyond
// another's vector is what that one lacks. Entries can be forgotten (their items were over the limits): the vector still covers them, so they do not come again.
package replica

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Device is a machine: the beginning of the hash of its public key.
type Device [8]byte

// String is in hex.
func (d Device) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes it in hex.
func (d Device) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads it.
func (d *Device) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(d[:], text[:min(len(text), 2*len(d))]); err != nil || n != len(d) || len(text) != 2*n {
		return fmt.Errorf("%q names no machine", text)
	}
	return nil
}

// Key is the hash of an item's contents.
type Key [16]byte

// String is in hex.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// Time is a hybrid logical clock's: milliseconds since 1970 in the upper 48 bits, a counter below. It is greater than every time that was heard of before, and near
// the machine's clock where no other machine's is ahead of it.
type Time uint64

const counterBits = 16

// TimeOf is the first time of a moment.
func TimeOf(t time.Time) Time { return Time(max(0, t.UnixMilli())) << counterBits } //nolint:gosec // not negative

// Moment is when it was, by the clock of who gave it.
func (t Time) Moment() time.Time { return time.UnixMilli(int64(t >> counterBits)) } //nolint:gosec // 48 bits

// latest is in the year 2200: what is beyond was never a clock's.
const latest = Time(7_258_118_400_000) << counterBits

// Stamp says when, and by whom, a register was changed. No two changes have the same.
type Stamp struct {
	At Time
	By Device
}

// Compare orders stamps.
func (s Stamp) Compare(o Stamp) int {
	return cmp.Or(cmp.Compare(s.At, o.At), bytes.Compare(s.By[:], o.By[:]))
}

// After says whether it is the later of two.
func (s Stamp) After(o Stamp) bool { return s.Compare(o) > 0 }

// Vector says of each machine up to when all of its changes were heard.
type Vector map[Device]Time

// Covers says whether a change was heard.
func (v Vector) Covers(s Stamp) bool { return s.At <= v[s.By] }

// CoversAll says whether it covers all that another does.
func (v Vector) CoversAll(o Vector) bool {
	for d, t := range o {
		if v[d] < t {
			return false
		}
	}
	return true
}

// Join makes it cover what another does.
func (v Vector) Join(o Vector) {
	for d, t := range o {
		v[d] = max(v[d], t)
	}
}

// Limits of what is taken from others.
const (
	MaxDevices = 256 // in a Vector
	maxUses    = 64  // machines that used an item
	maxTags    = 128 // that an item has or had
)

// ErrMalformed says that bytes are no entry or vector.
var ErrMalformed = errors.New("malformed")

// Change is what a machine says of an item.
type Change struct {
	Key   Key
	Entry Entry
}

// State is what a machine knows. It is not safe for concurrent use.
type State struct {
	own     Device
	last    Time // the greatest time heard of
	seen    Vector
	entries map[Key]string // encoded, which is a fraction of the size
	bytes   int64          // of entries
	recent  []Key          // the last changes, a ring
	changes uint64         // how many there were
}

// ring is how many changes are remembered for Since.
const ring = 1024

// NewState makes the state of a machine that knows nothing.
func NewState(own Device) *State {
	return &State{own: own, seen: Vector{}, entries: map[Key]string{}, recent: make([]Key, ring)}
}

// Own is the machine.
func (s *State) Own() Device { return s.own }

// Become goes on as another machine, whose key was made anew.
func (s *State) Become(own Device) { s.own = own }

// Seen is up to when it has heard all; a copy.
func (s *State) Seen() Vector { return maps.Clone(s.seen) }

// Size is how many entries there are, and about how many bytes they need in memory.
func (s *State) Size() (entries int, bytes int64) {
	return len(s.entries), s.bytes + 64*int64(len(s.entries))
}

// Next is the stamp of a change that this machine makes now. It is taken once an entry with it is Put.
func (s *State) Next(now time.Time) Stamp { return Stamp{max(s.last+1, TimeOf(now)), s.own} }

// Get is an entry; all of its memory is the caller's.
func (s *State) Get(k Key) (Entry, bool) {
	text, ok := s.entries[k]
	if !ok {
		return Entry{}, false
	}
	e, err := Decode([]byte(text))
	return e, err == nil // it was encoded here
}

// Put replaces an entry.
func (s *State) Put(k Key, e *Entry) {
	e.stamps(func(st Stamp) {
		s.last = max(s.last, st.At)
		if st.By == s.own {
			s.seen[s.own] = max(s.seen[s.own], st.At)
		}
	})
	text := string(e.Append(nil))
	s.bytes += int64(len(text) - len(s.entries[k]))
	s.entries[k] = text
	s.changed(k)
}

// Forget drops an entry, of which the vector still says that it was heard.
func (s *State) Forget(k Key) {
	s.bytes -= int64(len(s.entries[k]))
	delete(s.entries, k)
}

// Heard notes that all changes up to a vector were put.
func (s *State) Heard(v Vector) {
	s.seen.Join(v)
	for _, t := range v {
		s.last = max(s.last, t)
	}
}

// Keys are those of all entries, in no order.
func (s *State) Keys() []Key {
	return slices.AppendSeq(make([]Key, 0, len(s.entries)), maps.Keys(s.entries))
}

// All calls each with all entries, in no order.
func (s *State) All(each func(Key, *Entry)) {
	for k := range s.entries {
		if e, ok := s.Get(k); ok {
			each(k, &e)
		}
	}
}

func (s *State) changed(k Key) {
	s.recent[s.changes%ring] = k
	s.changes++
}

// Changes counts what was put so far.
func (s *State) Changes() uint64 { return s.changes }

// Since are the keys that were put since a count, each once; ok is false if that is too long ago to know.
func (s *State) Since(count uint64) (keys []Key, ok bool) {
	if count > s.changes || s.changes-count > ring {
		return nil, false
	}
	known := map[Key]bool{}
	for i := count; i < s.changes; i++ {
		if k := s.recent[i%ring]; !known[k] {
			known[k] = true
			keys = append(keys, k)
		}
	}
	return keys, true
}

// Old are the deletions that need not be remembered any more: those before a moment, and the oldest beyond the number most.
func (s *State) Old(before time.Time, most int) []Key {
	type death struct {
		key Key
		at  Stamp
	}
	var all []death
	s.All(func(k Key, e *Entry) {
		if !e.Live() {
			all = append(all, death{k, e.Gone})
		}
	})
	slices.SortFunc(all, func(a, b death) int { return b.at.Compare(a.at) })
	var old []Key
	for i, d := range all {
		if i >= most || d.at.At < TimeOf(before) {
			old = append(old, d.key)
		}
	}
	return old
}
