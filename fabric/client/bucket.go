package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// ReadOption says what a read needs; the zero value is Strong.
type ReadOption struct {
	consistency chain.Consistency
	bound       chain.Bound
}

var (
	// Strong reads see every write that was acknowledged before they began.
	Strong = ReadOption{}
	// Eventual reads see what the nearest replica knows, however long it may have been cut off.
	Eventual = ReadOption{consistency: chain.Eventual}
)

// Within lets a read miss what was written within the last d.
func Within(d time.Duration) ReadOption {
	return ReadOption{consistency: chain.Bounded, bound: chain.Bound{Age: d}}
}

// Behind lets a read miss the last n writes of the key.
func Behind(n uint64) ReadOption {
	return ReadOption{consistency: chain.Bounded, bound: chain.Bound{Versions: n}}
}

// last is the option that counts.
func last(options []ReadOption) ReadOption {
	if len(options) == 0 {
		return Strong
	}
	return options[len(options)-1]
}

// Bucket is a key space.
type Bucket struct {
	client *Client
	name   string
}

// Bucket returns a key space of the cluster. Whether there is one of that name is found out when it is used.
func (c *Client) Bucket(name string) *Bucket { return &Bucket{c, name} }

// Name is the bucket's name.
func (b *Bucket) Name() string { return b.name }

// Get returns a key's value, which is the caller's. fabric.ErrNotFound if there is none.
func (b *Bucket) Get(ctx context.Context, key []byte, options ...ReadOption) (chain.Value, error) {
	o := last(options)
	k := newCall()
	defer k.free()
	keys := [1][]byte{key}
	q := chain.Request{Ask: chain.AskGet, Keys: keys[:], Consistency: o.consistency, Bound: o.bound}
	if err := b.read(ctx, key, &q, k); err != nil {
		return chain.Value{}, b.failed("read", key, err)
	}
	if len(k.answer.Items) != 1 {
		return chain.Value{}, b.failed("read", key, chain.ErrCorrupt)
	}
	if k.answer.Items[0].Missing {
		return chain.Value{}, b.failed("read", key, fabric.ErrNotFound)
	}
	return k.answer.Items[0].Value, nil
}

// read asks a replica of the chain that has the key, and another one if that cannot answer, until ctx ends.
func (b *Bucket) read(ctx context.Context, key []byte, q *chain.Request, k *call) error {
	var avoid *node
	for attempt := 0; ; attempt++ {
		r := b.client.routes.Load()
		p, err := r.find(b.name, key)
		if err == nil && len(p.readers) == 0 {
			err = fmt.Errorf("the chain has no replica: %w", chain.ErrNotServing)
		}
		if err == nil {
			n := nearest(p.readers, avoid)
			q.Chain = p.config.ID
			if err = n.do(ctx, q, k); err == nil || len(q.Keys) > 1 && errors.Is(err, chain.ErrOutOfRange) { // they may be of several chains
				return err
			}
			avoid = n
		}
		if err := b.client.again(ctx, r, err, attempt, p != nil && attempt < len(p.readers)); err != nil {
			return err
		}
		k.reset()
	}
}

// reset makes a call ready to be sent again.
func (k *call) reset() {
	k.answer = chain.Answer{Items: k.answer.Items[:0]}
	k.err, k.begun = nil, time.Time{}
}

// again says whether a request that failed should be sent again, which is when it returns nil. It waits for a newer map, unless others are left to be asked.
func (c *Client) again(ctx context.Context, r *routes, err error, attempt int, others bool) error {
	switch {
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	case !isElsewhere(err) && !errors.Is(err, fabric.ErrNotFound):
		return err
	case c.isClosed():
		return fabric.ErrClosed
	case errors.Is(err, fabric.ErrNotFound):
		return c.confirm(ctx, r, err)
	case others && (errors.Is(err, chain.ErrNotServing) || isLost(err) || errors.Is(err, errDown)):
		return nil
	}
	c.refresh(ctx, r, attempt)
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}

// failed says which operation did not work.
func (b *Bucket) failed(what string, key []byte, err error) error {
	return fmt.Errorf("cannot %s %q in bucket %s: %w", what, shortened(key), b.name, err)
}

// shortened is a key for people.
func shortened(key []byte) []byte {
	if len(key) > 64 {
		return key[:64]
	}
	return key
}

// Lasting is how long a key lives if nobody writes it.
type Lasting time.Duration

// Put writes a key and returns its version. With a Lasting the key is deleted after that time.
func (b *Bucket) Put(ctx context.Context, key, value []byte, lasting ...Lasting) (uint64, error) {
	w := chain.Write{Op: chain.OpPut, Key: key, Value: value}
	if len(lasting) > 0 {
		w.TTL = time.Duration(lasting[len(lasting)-1])
	}
	r, err := b.one(ctx, "write", nil, w)
	return r.Version, err
}

// Delete removes a key; removing nothing is no error.
func (b *Bucket) Delete(ctx context.Context, key []byte) error {
	_, err := b.one(ctx, "delete", nil, chain.Write{Op: chain.OpDelete, Key: key})
	return err
}

// CompareAndSwap writes a key if its version is still the one given (0: there is no such key) and returns the new one. fabric.ErrConflict
// otherwise; the version that it has instead is returned with that error.
func (b *Bucket) CompareAndSwap(ctx context.Context, key []byte, version uint64, value []byte) (uint64, error) {
	r, err := b.one(ctx, "write", []chain.Condition{{Key: key, Version: version}}, chain.Write{Op: chain.OpPut, Key: key, Value: value})
	return r.Version, err
}

// Increment adds to a number, which begins at 0, and returns it. The value is 8 bytes, big endian, two's complement; chain.ErrBadValue if the key has another.
func (b *Bucket) Increment(ctx context.Context, key []byte, delta int64) (int64, error) {
	r, err := b.one(ctx, "increment", nil, chain.Write{Op: chain.OpIncrement, Key: key, Delta: delta})
	return r.Number, err
}

// Append puts bytes behind a key's value and returns its version.
func (b *Bucket) Append(ctx context.Context, key, value []byte) (uint64, error) {
	r, err := b.one(ctx, "append to", nil, chain.Write{Op: chain.OpAppend, Key: key, Value: value})
	return r.Version, err
}

// one does one write.
func (b *Bucket) one(ctx context.Context, what string, conditions []chain.Condition, w chain.Write) (chain.Result, error) {
	q := chain.Request{Ask: chain.AskDo, Command: chain.Command{If: conditions, Do: []chain.Write{w}}}
	r, err := b.do(ctx, w.Key, &q)
	if err != nil {
		err = b.failed(what, w.Key, err)
	}
	return r, err
}

// do sends a command to the head of the chain that has the key, the same command again where the outcome is not known, until it is or ctx ends.
func (b *Bucket) do(ctx context.Context, key []byte, q *chain.Request) (chain.Result, error) {
	k := newCall()
	defer k.free()
	var s *session
	defer func() { s.end(q.Command.Request) }()
	sent := false
	for attempt := 0; ; attempt++ {
		r := b.client.routes.Load()
		p, err := r.find(b.name, key)
		if err == nil && p.head == nil {
			err = fmt.Errorf("the chain has no replica: %w", chain.ErrNotServing)
		}
		if err == nil {
			if s == nil {
				if err := r.together(b.name, &q.Command); err != nil {
					return chain.Result{}, err
				}
				s = p.session
				q.Command.Client = s.client
				q.Command.Request, q.Command.Floor = s.begin()
			}
			q.Chain = p.config.ID
			err = p.head.do(ctx, q, k)
			switch {
			case err != nil:
				sent = sent || isLost(err) || errors.Is(err, chain.ErrUnknown) || ctx.Err() != nil
			case k.answer.Result.Outcome != chain.OutOfRange:
				return k.answer.Result, outcome(k.answer.Result)
			default:
				// It is decided that this request did nothing. The chain that has the key gets another one: it may have inherited this decision.
				s.end(q.Command.Request)
				s, sent, err = nil, false, chain.ErrOutOfRange
			}
		}
		if err := b.client.again(ctx, r, err, attempt, false); err != nil {
			if sent {
				err = fmt.Errorf("%w: %w", chain.ErrUnknown, err)
			}
			return chain.Result{}, err
		}
		k.reset()
	}
}

// outcome is a result's error.
func outcome(r chain.Result) error {
	switch r.Outcome {
	case chain.Done:
		return nil
	case chain.Conflict:
		return fmt.Errorf("condition %d: %w: its version is %d", r.Index, chain.ErrConflict, r.Version)
	case chain.BadValue:
		return fmt.Errorf("write %d: %w", r.Index, chain.ErrBadValue)
	case chain.TooLarge:
		return fmt.Errorf("write %d: %w", r.Index, chain.ErrTooLarge)
	case chain.Superseded:
		return chain.ErrSuperseded
	case chain.OutOfRange:
		return chain.ErrOutOfRange
	}
	return fmt.Errorf("outcome %d is of a later version of this program: %w", r.Outcome, chain.ErrUnknown)
}
