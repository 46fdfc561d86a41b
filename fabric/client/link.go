package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/wire"
)

// errLost says that a connection ended before the answer came: whether the request took effect is not known.
var errLost = errors.New("connection lost")

const (
	// A link on which nothing came for so long, although something is asked, is asked for a sign of life, and ended if that does not come either.
	silence = 700 * time.Millisecond
	// inline is up to which size a request that is alone is written by who asks.
	inline = 8 << 10
	// sampled is of how many requests one is timed.
	sampled = 16
)

// call is a request under way. Calls are used again.
type call struct {
	done   chan struct{} // holds one token when the answer is there
	answer chain.Answer
	err    error
	begun  time.Time                 // zero unless timed
	each   func(*chain.Answer) error // of a watch: what to do with each answer, whose bytes are its own; an error ends the call
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

func newCall() *call {
	k := calls.Get().(*call) //nolint:forcetypeassert // the pool holds nothing else
	k.answer = chain.Answer{Items: k.answer.Items[:0]}
	k.err, k.begun, k.each = nil, time.Time{}, nil
	return k
}

// free gives a call back. Its items' bytes are whoever's took them.
func (k *call) free() {
	clear(k.answer.Items)
	calls.Put(k)
}

// link is a connection to a node.
type link struct {
	conn     *conn.Conn
	node     *node
	received atomic.Int64 // frames

	mu    sync.Mutex
	calls map[uint64]*call
	next  uint64
	err   error

	work sync.WaitGroup
}

func newLink(c *conn.Conn, n *node) *link {
	l := &link{conn: c, node: n, calls: map[uint64]*call{}}
	l.work.Go(l.read)
	l.work.Go(l.watch)
	return l
}

func (l *link) close() {
	_ = l.conn.Close()
	l.work.Wait()
}

func (l *link) dead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err != nil
}

// begin sends a request; the answer comes to k.
func (l *link) begin(q *chain.Request, k *call) error {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return l.err
	}
	l.next++
	q.ID = l.next
	if q.ID%sampled == 0 {
		k.begun = time.Now()
	}
	l.calls[q.ID] = k
	alone := len(l.calls) == 1
	l.mu.Unlock()
	b := buffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	*b = wire.AppendRequest((*b)[:0], q)
	if alone = alone && len(*b) <= inline; alone { // nothing will gather, and the socket has room: written here, it needs no other goroutine
		l.conn.Hold()
	}
	err := l.conn.Write(*b)
	if alone {
		l.conn.Release()
	}
	if cap(*b) <= 64<<10 {
		buffers.Put(b)
	}
	if err != nil {
		if !l.forget(q.ID) { // somebody has it already, and is about to say so; the call may be used again only after that
			<-k.done
		}
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// forget drops a call and says whether its answer had not come, and will not.
func (l *link) forget(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, waits := l.calls[id]
	delete(l.calls, id)
	return waits
}

// do sends a request and waits for its answer, whose error it returns.
func (l *link) do(ctx context.Context, q *chain.Request, k *call) error {
	if err := l.begin(q, k); err != nil {
		return err
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		if l.forget(q.ID) {
			return ctx.Err()
		}
		<-k.done
	}
	if k.err != nil {
		return k.err
	}
	return k.answer.Err
}

// read takes answers until the connection ends.
func (l *link) read() {
	var err error
	var frame []byte
	for {
		if frame, err = l.conn.Read(); err != nil {
			break
		}
		l.received.Add(1)
		if err = l.take(frame); err != nil {
			break
		}
	}
	l.conn.End(err)
	l.mu.Lock()
	l.err = fmt.Errorf("%w: %w", errLost, err)
	left := l.calls
	l.calls = nil
	l.mu.Unlock()
	for _, k := range left {
		k.err = l.err
		k.done <- struct{}{}
	}
}

// take hands an answer to its call.
func (l *link) take(frame []byte) error {
	id, err := wire.AnswerID(frame)
	if err != nil {
		return err
	}
	l.mu.Lock()
	k := l.calls[id]
	if k != nil && k.each == nil {
		delete(l.calls, id)
	}
	l.mu.Unlock()
	if k == nil { // given up meanwhile
		return nil
	}
	if k.each != nil {
		return l.takeEach(id, k, frame)
	}
	if err = wire.DecodeAnswer(frame, &k.answer); err != nil {
		k.err = err
	}
	own(&k.answer)
	if !k.begun.IsZero() {
		l.node.measured(time.Since(k.begun))
	}
	k.done <- struct{}{}
	return err
}

func (l *link) takeEach(id uint64, k *call, frame []byte) error {
	var a chain.Answer
	err := wire.DecodeAnswer(frame, &a)
	if err == nil {
		own(&a)
		if a.Err == nil {
			k.err = k.each(&a)
		} else {
			k.err = a.Err
		}
	} else {
		k.err = err
	}
	if k.err != nil && l.forget(id) {
		k.done <- struct{}{}
	}
	return err
}

// own makes the bytes of an answer independent of the frame they came in.
func own(a *chain.Answer) {
	for i := range a.Items {
		item := &a.Items[i]
		item.Key, item.Value.Value = bytes.Clone(item.Key), bytes.Clone(item.Value.Value)
	}
	a.Map = bytes.Clone(a.Map)
}

// abandon ends the calls that wait, but for watches, which notice themselves.
func (l *link) abandon() {
	l.mu.Lock()
	var left []*call
	for id, k := range l.calls {
		if k.each == nil {
			left = append(left, k)
			delete(l.calls, id)
		}
	}
	l.mu.Unlock()
	for _, k := range left {
		k.err = fmt.Errorf("%w: the node was replaced", errLost)
		k.done <- struct{}{}
	}
}

// watch ends a link whose far side is silent although it is asked. (A machine that was cut off or stopped ends no connection.)
func (l *link) watch() {
	tick := time.NewTicker(silence)
	defer tick.Stop()
	before, asked := int64(-1), false
	for {
		select {
		case <-l.conn.Done():
			return
		case <-tick.C:
		}
		now := l.received.Load()
		l.mu.Lock()
		waits := len(l.calls) > 0
		l.mu.Unlock()
		switch {
		case now != before || !waits:
			before, asked = now, false
		case asked:
			l.conn.End(fmt.Errorf("node %s does not answer", l.node.id))
			return
		default:
			asked = true
			// Its answer counts as received, whoever takes it.
			_ = l.begin(&chain.Request{Ask: chain.AskPing}, &call{done: make(chan struct{}, 1)})
		}
	}
}

// isLost says whether an error means that the answer did not come.
func isLost(err error) bool { return errors.Is(err, errLost) }

// isElsewhere says whether another node, or the same one later, may do what this one did not. None of these had an effect but ErrUnknown.
func isElsewhere(err error) bool {
	for _, e := range []error{chain.ErrNotServing, chain.ErrBusy, chain.ErrOutOfRange, chain.ErrEpoch, chain.ErrUnknown, fabric.ErrClosed, errLost, errDown} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
