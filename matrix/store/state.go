package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"orrery/matrix"
	"orrery/matrix/table"
)

// A room's states are kept as differences. State n of a line (each the one before with something changed) is kept as its difference to state n minus
// the lowest bit of n: to read a state takes as many differences as n has bits, and of the 100,000 states of a room each change is kept some
// seventeen times, in a few bytes.

// stateRow is a state of a room.
type stateRow struct {
	ID     int64  `col:"id,key"`
	Base   int64  `col:"base"`   // the state that it is a difference to; 0: the empty one
	Number int64  `col:"number"` // in its line
	Delta  []byte `col:"delta"`  // pairs of the number of a key and the order of an event, or 0 where the key has none any more
}

// stateKey gives a key of states a number.
type stateKey struct {
	ID       int64  `col:"id,key"`
	Type     string `col:"type"`
	StateKey string `col:"state_key"`
}

var (
	states    = table.Define[stateRow]("states")
	stateKeys = table.Define[stateKey]("state_keys", table.Index{Name: "key", Columns: []string{"type", "state_key"}, Unique: true})

	stateSchemas = []*table.Schema{states.Schema(), stateKeys.Schema()}
)

// State is the order, in its room, of the event that is in force at each key.
type State map[matrix.Key]int64

var errDamagedState = errors.New("a state is damaged")

// delta is a difference, by the numbers of keys.
type delta map[int64]int64

func (d delta) encode() []byte {
	var out []byte
	for _, key := range slices.Sorted(maps.Keys(d)) {
		out = binary.AppendVarint(binary.AppendVarint(out, key), d[key])
	}
	return out
}

func decodeDelta(b []byte) (delta, error) {
	d := delta{}
	for len(b) > 0 {
		key, n := binary.Varint(b)
		if n <= 0 {
			return nil, errDamagedState
		}
		order, m := binary.Varint(b[n:])
		if m <= 0 {
			return nil, errDamagedState
		}
		d[key], b = order, b[n+m:]
	}
	return d, nil
}

func readState(tx table.Tx, id int64) (stateRow, delta, error) {
	row, ok, err := states.Get(tx, id)
	if err != nil {
		return row, nil, err
	}
	if !ok {
		return row, nil, fmt.Errorf("%w: there is no state %d", errDamagedState, id)
	}
	d, err := decodeDelta(row.Delta)
	return row, d, err
}

// ReadState is a state; 0 is the empty one.
func ReadState(tx table.Tx, id int64) (State, error) {
	sum, err := difference(tx, id, func(stateRow) bool { return false })
	if err != nil {
		return nil, err
	}
	state := make(State, len(sum))
	for number, order := range sum {
		if order == 0 {
			continue
		}
		k, ok, err := stateKeys.Get(tx, number)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%w: there is no key %d", errDamagedState, number)
		}
		state[matrix.Key{Type: k.Type, StateKey: k.StateKey}] = order
	}
	return state, nil
}

// ReadStateKey is the order of the event at one key of a state; 0 if there is none.
func ReadStateKey(tx table.Tx, id int64, key matrix.Key) (int64, error) {
	k, ok, err := stateKeys.First(tx, table.Range{Index: "key", Prefix: []any{key.Type, key.StateKey}})
	if err != nil || !ok {
		return 0, err
	}
	for id != 0 {
		row, d, err := readState(tx, id)
		if err != nil {
			return 0, err
		}
		if order, ok := d[k.ID]; ok {
			return order, nil
		}
		id = row.Base
	}
	return 0, nil
}

// StateKeys are the numbers of keys without a state key, by their types.
type StateKeys map[string]int64

// FindStateKeys is those of some types, without those that no state has.
func FindStateKeys(tx table.Tx, types []string) (StateKeys, error) {
	found := StateKeys{}
	for _, kind := range types {
		k, ok, err := stateKeys.First(tx, table.Range{Index: "key", Prefix: []any{kind, ""}})
		if err != nil {
			return nil, err
		}
		if ok {
			found[kind] = k.ID
		}
	}
	return found, nil
}

// Read is the orders of the events at these keys of a state, by their types, and how many events the state has.
func (k StateKeys) Read(tx table.Tx, id int64) (orders map[string]int64, events int, err error) {
	sum, err := difference(tx, id, func(stateRow) bool { return false })
	for _, order := range sum {
		if order != 0 {
			events++
		}
	}
	orders = map[string]int64{}
	for kind, number := range k {
		if order := sum[number]; order != 0 {
			orders[kind] = order
		}
	}
	return orders, events, err
}

// difference sums the differences of a state and of those that it is based on, until one where a function says so, which is not part of the sum.
func difference(tx table.Tx, id int64, until func(stateRow) bool) (delta, error) {
	sum := delta{}
	for id != 0 {
		row, d, err := readState(tx, id)
		if err != nil {
			return nil, err
		}
		if until(row) {
			break
		}
		for key, order := range d {
			if _, newer := sum[key]; !newer {
				sum[key] = order
			}
		}
		id = row.Base
	}
	return sum, nil
}

// Changed are the keys at which two states differ, with the orders of the second one's events; 0 where it has none. It reads only what the two do not share.
func Changed(tx table.Tx, from, to int64) (State, error) {
	sums, ids := [2]delta{{}, {}}, [2]int64{from, to}
	for ids[0] != ids[1] {
		i := 0
		if ids[1] > ids[0] { // the later one: what a state is based on is older than it
			i = 1
		}
		row, d, err := readState(tx, ids[i])
		if err != nil {
			return nil, err
		}
		for key, order := range d {
			if _, newer := sums[i][key]; !newer {
				sums[i][key] = order
			}
		}
		ids[i] = row.Base
	}
	keys := maps.Clone(sums[0])
	maps.Copy(keys, sums[1])
	changed := State{}
	for number := range keys {
		k, ok, err := stateKeys.Get(tx, number)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("%w: there is no key %d", errDamagedState, number)
		}
		key := matrix.Key{Type: k.Type, StateKey: k.StateKey}
		var orders [2]int64
		for i, sum := range sums {
			var known bool
			if orders[i], known = sum[number]; !known {
				if orders[i], err = ReadStateKey(tx, ids[i], key); err != nil {
					return nil, err
				}
			}
		}
		if orders[0] != orders[1] {
			changed[key] = orders[1]
		}
	}
	return changed, nil
}

// WriteState writes the state that comes after another one (0: the empty one) by some changes, an order of 0 taking a key away, and is its number.
func WriteState(tx table.Tx, parent int64, changes State) (int64, error) {
	number := int64(1)
	if parent != 0 {
		row, _, err := readState(tx, parent)
		if err != nil {
			return 0, err
		}
		number = row.Number + 1
	}
	target := number - number&-number // the number of the state that this one is based on
	base := int64(0)
	sum, err := difference(tx, parent, func(row stateRow) bool {
		if row.Number == target {
			base = row.ID
		}
		return row.Number <= target
	})
	if err != nil {
		return 0, err
	}
	for key, order := range changes {
		k, err := keyNumber(tx, key)
		if err != nil {
			return 0, err
		}
		sum[k] = order
	}
	id, err := next(tx, metaID, 1)
	if err != nil {
		return 0, err
	}
	return id, states.Put(tx, stateRow{ID: id, Base: base, Number: number, Delta: sum.encode()})
}

// keyNumber is the number of a key of states; a new one gets the next.
func keyNumber(tx table.Tx, key matrix.Key) (int64, error) {
	k, ok, err := stateKeys.First(tx, table.Range{Index: "key", Prefix: []any{key.Type, key.StateKey}})
	if err != nil || ok {
		return k.ID, err
	}
	id, err := next(tx, metaID, 1)
	if err != nil {
		return 0, err
	}
	return id, stateKeys.Put(tx, stateKey{id, key.Type, key.StateKey})
}
