package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orrery/fabric/chain"
)

// Txn is a transaction of keys that one chain has: if all conditions hold, all its writes are done, in the order in which they
// were given, and nobody sees some of them without the others.
type Txn struct {
	bucket *Bucket
	ifs    []chain.Condition
	writes []chain.Write
}

// Txn begins a transaction; nothing happens before Commit.
func (b *Bucket) Txn() *Txn { return &Txn{bucket: b} }

// If adds a condition: the key's version is the one given (0: there is no such key).
func (t *Txn) If(key []byte, version uint64) *Txn {
	t.ifs = append(t.ifs, chain.Condition{Key: key, Version: version})
	return t
}

// Put adds a write.
func (t *Txn) Put(key, value []byte, lasting ...Lasting) *Txn {
	w := chain.Write{Op: chain.OpPut, Key: key, Value: value}
	if len(lasting) > 0 {
		w.TTL = time.Duration(lasting[len(lasting)-1])
	}
	t.writes = append(t.writes, w)
	return t
}

// Delete adds a deletion.
func (t *Txn) Delete(key []byte) *Txn {
	t.writes = append(t.writes, chain.Write{Op: chain.OpDelete, Key: key})
	return t
}

// Increment adds an increment; Result.Number is the last one's.
func (t *Txn) Increment(key []byte, delta int64) *Txn {
	t.writes = append(t.writes, chain.Write{Op: chain.OpIncrement, Key: key, Delta: delta})
	return t
}

// Append adds an append.
func (t *Txn) Append(key, value []byte) *Txn {
	t.writes = append(t.writes, chain.Write{Op: chain.OpAppend, Key: key, Value: value})
	return t
}

// Commit does the transaction. fabric.ErrConflict: a condition did not hold, and nothing happened; Result.Index says which, Result.Version its key's version now.
// chain.ErrOutOfRange: its keys are of several chains.
func (t *Txn) Commit(ctx context.Context) (chain.Result, error) {
	key := t.first()
	if key == nil {
		return chain.Result{}, fmt.Errorf("cannot commit in bucket %s: the transaction is empty", t.bucket.name)
	}
	q := chain.Request{Ask: chain.AskDo, Command: chain.Command{If: t.ifs, Do: t.writes}}
	r, err := t.bucket.do(ctx, key, &q)
	if err != nil {
		err = fmt.Errorf("cannot commit in bucket %s: %w", t.bucket.name, err)
	}
	return r, err
}

// first is the first key of the transaction; nil: it has none.
func (t *Txn) first() []byte {
	switch {
	case len(t.ifs) > 0:
		return t.ifs[0].Key
	case len(t.writes) > 0:
		return t.writes[0].Key
	}
	return nil
}

// Batch does many writes, in one command for each chain that has some of the keys, or several where they are many. Each command is done
// whole or not at all; the batch as a whole is not. With an error some of it may have happened.
func (b *Bucket) Batch(ctx context.Context, writes []chain.Write) error {
	r := b.client.routes.Load()
	parts := map[*place][]chain.Write{}
	for _, w := range writes {
		p, _ := r.find(b.name, w.Key) // nil: its chain is being split, or the map is old; whoever writes the first of these keys waits
		parts[p] = append(parts[p], w)
	}
	var work sync.WaitGroup
	errs := make(chan error, len(parts))
	for _, part := range parts {
		work.Go(func() { errs <- b.batch(ctx, part) })
	}
	work.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// batch does the writes of one chain. If it was split meanwhile, they are done one by one.
func (b *Bucket) batch(ctx context.Context, writes []chain.Write) error {
	for len(writes) > 0 {
		n, size := 0, 0
		for n < len(writes) && n < chain.MaxWrites && (n == 0 || size+len(writes[n].Key)+len(writes[n].Value) <= chain.MaxValue/2) {
			size += len(writes[n].Key) + len(writes[n].Value)
			n++
		}
		t := Txn{bucket: b, writes: writes[:n]}
		_, err := t.Commit(ctx)
		if errors.Is(err, chain.ErrOutOfRange) && n > 1 {
			for _, w := range writes[:n] {
				if _, err = b.one(ctx, "write", nil, w); err != nil {
					break
				}
			}
		}
		if err != nil {
			return err
		}
		writes = writes[n:]
	}
	return nil
}
