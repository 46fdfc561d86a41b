package machine

import (
	"encoding/binary"
	"fmt"

	"orrery/fabric/chain"
)

// Stamp is the place that an entry gets in the log.
type Stamp struct {
	Epoch    uint64
	Sequence uint64
	Time     int64 // milliseconds since 1970
}

// Check says why a command cannot be in a log at all.
func Check(c *chain.Command) error {
	if c.Client == 0 || c.Request == 0 {
		return fmt.Errorf("%w: a command without a client's and a request's number", chain.ErrBadValue)
	}
	if len(c.If) > chain.MaxWrites || len(c.Do) > chain.MaxWrites {
		return chain.ErrTooLarge
	}
	size := 0
	for _, f := range c.If {
		if len(f.Key) > chain.MaxKey {
			return chain.ErrTooLarge
		}
		size += len(f.Key)
	}
	for _, w := range c.Do {
		if len(w.Key) > chain.MaxKey || len(w.Value) > chain.MaxValue {
			return chain.ErrTooLarge
		}
		if w.Op < chain.OpPut || w.Op > chain.OpAppend {
			return chain.ErrBadValue
		}
		size += len(w.Key) + len(w.Value)
	}
	if size > chain.MaxCommand {
		return chain.ErrTooLarge
	}
	return nil
}

// Decide makes the entry of a command, against the newest state of a chain with the keys in a range.
func Decide(v View, scope chain.Range, c *chain.Command, at Stamp) (chain.Entry, error) {
	e := chain.Entry{Epoch: at.Epoch, Sequence: at.Sequence, Time: at.Time, Client: c.Client, Request: c.Request, Floor: c.Floor}
	d := decision{view: v, at: at, changed: map[string]int{}}
	result, err := d.run(scope, c)
	if err != nil {
		return chain.Entry{}, err
	}
	e.Result = result
	if result.Outcome == chain.Done {
		e.Changes = d.changes
	}
	return e, nil
}

// decision is a command being decided.
type decision struct {
	view    View
	at      Stamp
	changes []chain.Change
	changed map[string]int // key to its place in changes
	size    int            // bytes of changes' keys and values
}

func (d *decision) run(scope chain.Range, c *chain.Command) (chain.Result, error) {
	for i, f := range c.If {
		if !scope.Contains(f.Key) {
			return chain.Result{Outcome: chain.OutOfRange, Index: i}, nil
		}
		v, _, err := d.view.Get(f.Key)
		if err != nil {
			return chain.Result{}, err
		}
		if v.Version != f.Version {
			return chain.Result{Outcome: chain.Conflict, Index: i, Version: v.Version}, nil
		}
	}
	result := chain.Result{Version: d.at.Sequence}
	for i := range c.Do {
		w := &c.Do[i]
		if !scope.Contains(w.Key) {
			return chain.Result{Outcome: chain.OutOfRange, Index: i}, nil
		}
		outcome, number, err := d.write(w)
		if err != nil {
			return chain.Result{}, err
		}
		if outcome != chain.Done {
			return chain.Result{Outcome: outcome, Index: i}, nil
		}
		if d.size > chain.MaxCommand { // small appends to large values; a message has to hold the entry
			return chain.Result{Outcome: chain.TooLarge, Index: i}, nil
		}
		if w.Op == chain.OpIncrement {
			result.Number = number
		}
	}
	return result, nil
}

// get is a key's value after what the command did so far.
func (d *decision) get(key []byte) (chain.Value, bool, error) {
	if i, ok := d.changed[string(key)]; ok {
		c := d.changes[i]
		return chain.Value{Value: c.Value, Version: d.at.Sequence, Expires: c.Expires}, !c.Deleted, nil
	}
	return d.view.Get(key)
}

func (d *decision) set(c chain.Change) {
	d.size += len(c.Key) + len(c.Value)
	if i, ok := d.changed[string(c.Key)]; ok {
		d.size -= len(c.Key) + len(d.changes[i].Value)
		d.changes[i] = c
		return
	}
	d.changed[string(c.Key)] = len(d.changes)
	d.changes = append(d.changes, c)
}

func (d *decision) write(w *chain.Write) (chain.Outcome, int64, error) {
	switch w.Op {
	case chain.OpPut:
		c := chain.Change{Key: w.Key, Value: w.Value}
		if w.TTL > 0 {
			c.Expires = d.at.Time + w.TTL.Milliseconds()
		}
		d.set(c)
	case chain.OpDelete:
		d.set(chain.Change{Key: w.Key, Deleted: true})
	case chain.OpIncrement:
		v, ok, err := d.get(w.Key)
		if err != nil {
			return 0, 0, err
		}
		n := int64(0)
		if ok {
			if len(v.Value) != 8 {
				return chain.BadValue, 0, nil
			}
			n = int64(binary.BigEndian.Uint64(v.Value)) //nolint:gosec // two's complement
		}
		n += w.Delta
		d.set(chain.Change{Key: w.Key, Value: binary.BigEndian.AppendUint64(nil, uint64(n)), Expires: v.Expires}) //nolint:gosec // two's complement
		return chain.Done, n, nil
	case chain.OpAppend:
		v, _, err := d.get(w.Key)
		if err != nil {
			return 0, 0, err
		}
		if len(v.Value)+len(w.Value) > chain.MaxValue {
			return chain.TooLarge, 0, nil
		}
		value := append(append(make([]byte, 0, len(v.Value)+len(w.Value)), v.Value...), w.Value...)
		d.set(chain.Change{Key: w.Key, Value: value, Expires: v.Expires})
	}
	return chain.Done, 0, nil
}
