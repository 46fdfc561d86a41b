package event

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
)

// What receiving holds.
const (
	inboxSize      = 256
	inboxBytes     = 4 * MaxPayload
	rememberTaken  = 10 * time.Minute
	rememberEach   = 4096            // numbers of one sender; an older one is refused
	maxLives       = 4096            // of senders
	maxSending     = 5 * time.Minute // less than rememberTaken, so that nothing is taken twice
	retryPause     = 100 * time.Millisecond
	deliverTimeout = 10 * time.Second
)

// Message is a message to one node.
type Message struct {
	Time    uint64        `json:"time"` // Lamport's
	From    fabric.NodeID `json:"from"` // by the certificate of the connection that it came on
	By      string        `json:"by,omitempty"`
	Name    string        `json:"name"`
	Payload []byte        `json:"payload,omitempty"`
}

// Delivery carries a message to a node.
type Delivery struct {
	Message
	Sender uint64 `json:"sender"` // of the sender's lives
	Number uint64 `json:"number"` // of the message to this receiver, in that life
	To     uint64 `json:"to"`     // of the receiver's lives, 0 where it is not known
}

// Receipt is the answer to a Delivery.
type Receipt struct {
	Life  uint64 `json:"life"`  // of the receiver
	Taken bool   `json:"taken"` // false: nothing was done, for the delivery was for another life
}

// outbox is what sending needs to know of each receiver.
type outbox struct {
	mu        sync.Mutex
	receivers map[fabric.NodeID]receiver
}

type receiver struct {
	life   uint64 // as far as it is known
	number uint64 // of the last message
}

// next numbers a message.
func (o *outbox) next(to fabric.NodeID) receiver {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.receivers == nil {
		o.receivers = map[fabric.NodeID]receiver{}
	}
	r := o.receivers[to]
	r.number++
	o.receivers[to] = r
	return r
}

func (o *outbox) learn(to fabric.NodeID, life uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.receivers[to] = receiver{life, o.receivers[to].number}
}

// source is one life of a sender.
type source struct {
	from fabric.NodeID
	life uint64
}

// window is which of a source's messages were taken.
type window struct {
	newest uint64
	taken  map[uint64]bool // none older than newest by more than rememberEach, or a little more
	last   time.Time
}

func (w *window) note(number uint64, now time.Time) {
	w.taken[number], w.last = true, now
	if w.newest = max(w.newest, number); len(w.taken) > 2*rememberEach {
		maps.DeleteFunc(w.taken, func(n uint64, _ bool) bool { return w.forgotten(n) })
	}
}

func (w *window) forgotten(number uint64) bool {
	return number < w.newest && w.newest-number >= rememberEach
}

// inboxes are those who receive on this node.
type inboxes struct {
	mu      sync.Mutex
	all     []*Inbox
	sources map[source]*window
}

// Inbox receives the messages to this node that have one of its names. Close it after use.
type Inbox struct {
	names []string
	of    *inboxes

	mu      sync.Mutex
	waiting []Message
	bytes   int
	more    chan struct{}
}

// Receive opens an inbox; names are as in Watch. Every inbox that matches gets a message. While one of them is full no message of its names is
// taken, and its sender is told so.
func (s *Service) Receive(names ...string) (*Inbox, error) {
	if err := checkWanted(names); err != nil {
		return nil, fmt.Errorf("cannot receive messages: %w", err)
	}
	i := &Inbox{names: slices.Clone(names), of: &s.inboxes, more: make(chan struct{}, 1)}
	s.inboxes.mu.Lock()
	defer s.inboxes.mu.Unlock()
	s.inboxes.all = append(s.inboxes.all, i)
	return i, nil
}

// Next waits for a message.
func (i *Inbox) Next(ctx context.Context) (Message, error) {
	for {
		i.mu.Lock()
		if len(i.waiting) > 0 {
			m := i.waiting[0]
			i.waiting = slices.Delete(i.waiting, 0, 1)
			i.bytes -= len(m.Payload)
			i.mu.Unlock()
			return m, nil
		}
		i.mu.Unlock()
		select {
		case <-i.more:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// Close ends receiving. What waits is lost.
func (i *Inbox) Close() {
	i.of.mu.Lock()
	defer i.of.mu.Unlock()
	i.of.all = slices.DeleteFunc(i.of.all, func(o *Inbox) bool { return o == i })
}

func (i *Inbox) full(m Message) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.waiting) >= inboxSize || i.bytes+len(m.Payload) > inboxBytes
}

func (i *Inbox) put(m Message) {
	i.mu.Lock()
	i.waiting = append(i.waiting, m)
	i.bytes += len(m.Payload)
	i.mu.Unlock()
	select {
	case i.more <- struct{}{}:
	default:
	}
}

// take gives a message to all who receive it, once, or to none.
func (b *inboxes) take(from source, number uint64, m Message, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.sources[from]
	if seen == nil {
		seen = &window{taken: map[uint64]bool{}}
	}
	switch {
	case seen.taken[number]:
		return nil
	case seen.forgotten(number):
		return fmt.Errorf("message %s comes so late that it %w", m.Name, ErrUncertain)
	case b.sources[from] == nil && len(b.sources) >= maxLives:
		return fmt.Errorf("cannot take message %s: %w (of %d senders)", m.Name, ErrBusy, maxLives)
	}
	to, err := b.receivers(m)
	if err != nil {
		return fmt.Errorf("cannot take message %s: %w", m.Name, err)
	}
	for _, i := range to {
		i.put(m)
	}
	b.sources[from] = seen
	seen.note(number, now)
	return nil
}

// receivers are the inboxes for a message. The caller holds the lock.
func (b *inboxes) receivers(m Message) (to []*Inbox, err error) {
	for _, i := range b.all {
		if !matches(i.names, m.Name) {
			continue
		}
		if i.full(m) {
			return nil, ErrBusy
		}
		to = append(to, i)
	}
	if len(to) == 0 {
		return nil, ErrNobody
	}
	return to, nil
}

// sweep forgets what nobody sends again.
func (b *inboxes) sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.sources, func(_ source, w *window) bool { return now.Sub(w.last) > rememberTaken })
}

// Tell sends a message to one node, exactly once: it returns nil when all who receive it there have it in their inboxes. Otherwise it was not taken, except
// after ErrUncertain and the end of ctx (and five minutes are the most that it tries). It retries while the node cannot be reached; ErrBusy
// and ErrNobody are the node's answers. Of messages that one goroutine sends to a node the order is kept.
func (s *Service) Tell(ctx context.Context, to fabric.NodeID, name string, payload []byte, by string) error {
	err := check(name, payload)
	if err == nil && !goodBy(by) {
		err = fmt.Errorf("%q is no name of a person", by)
	}
	if err == nil {
		s.mu.Lock()
		s.clock++
		m := Message{Time: s.clock, From: s.self.ID, By: by, Name: name, Payload: payload}
		s.mu.Unlock()
		next := s.outbox.next(to)
		err = s.deliver(ctx, to, Delivery{Message: m, Sender: s.instance, Number: next.number, To: next.life})
	}
	if err != nil {
		return fmt.Errorf("cannot send message %s to node %s: %w", name, to, err)
	}
	return nil
}

// deliver tries until the receiver has answered.
func (s *Service) deliver(ctx context.Context, to fabric.NodeID, d Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, maxSending)
	defer cancel()
	var tried bool // whether the life d.To may have taken it
	for {
		receipt, err := s.tryDeliver(ctx, to, d)
		switch {
		case err == nil && receipt.Taken:
			return nil
		case err == nil && tried:
			return fmt.Errorf("it was restarted: the message %w", ErrUncertain)
		case err == nil:
			if receipt.Life == 0 || receipt.Life == d.To {
				return errors.New("its answer makes no sense")
			}
			s.outbox.learn(to, receipt.Life)
			d.To = receipt.Life
			continue
		case answered(err):
			return err
		}
		tried = tried || d.To != 0
		if !clock.Wait(ctx, retryPause) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// answered says whether an error is the receiver's answer, after which nothing is tried again.
func answered(err error) bool {
	for _, answer := range []error{ErrBusy, ErrNobody, ErrUncertain, ErrTooLarge, ErrBadName, fabric.ErrForbidden, fabric.ErrOtherCluster} {
		if errors.Is(err, answer) {
			return true
		}
	}
	return false
}

func (s *Service) tryDeliver(ctx context.Context, to fabric.NodeID, d Delivery) (*Receipt, error) {
	if to == s.self.ID {
		d.To = s.instance
		return s.receive(s.self.ID, &d)
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	return rpc.Call[Delivery, Receipt](ctx, s.config.Peer(to), procDeliver, &d)
}

func (s *Service) serveDeliver(ctx context.Context, d *Delivery) (*Receipt, error) {
	caller, ok := rpc.Caller(ctx)
	if !ok {
		return nil, fabric.ErrForbidden
	}
	return s.receive(caller.ID, d)
}

// receive takes a message that a node sent.
func (s *Service) receive(from fabric.NodeID, d *Delivery) (*Receipt, error) {
	if d.To != s.instance {
		return &Receipt{Life: s.instance}, nil
	}
	if err := check(d.Name, d.Payload); err != nil {
		return nil, fmt.Errorf("cannot take message: %w", err)
	}
	m := d.Message
	m.From = from
	if !goodBy(m.By) {
		m.By = ""
	}
	s.mu.Lock()
	if m.Time <= s.clock+maxJump {
		s.clock = max(s.clock, m.Time)
	}
	s.mu.Unlock()
	if err := s.inboxes.take(source{from, d.Sender}, d.Number, m, time.Now()); err != nil {
		return nil, err
	}
	s.counters.messages.Add(1)
	return &Receipt{Life: s.instance, Taken: true}, nil
}
