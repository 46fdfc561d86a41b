package event

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/event/journal"
	"orrery/fabric/rpc"
)

// Config is what a Service needs.
type Config struct {
	Authority *authority.Authority // of the node: it signs
	Directory string               // of the log; is made
	// Peer reaches another node.
	Peer func(fabric.NodeID) *rpc.Peer
	// Members are the nodes as the membership sees them; none while there is no membership yet.
	Members func() []fabric.Member
	// Broadcast spreads a small payload under a name, as membership.Broadcast does. What comes of it at another node is given to its Heard.
	Broadcast func(name string, payload []byte) error

	Keep       time.Duration // how long events are kept; 0: an hour
	MaxBytes   int64         // how much of them; 0: 64 MiB
	MaxRecords int           // how many; 0: 16384
	Settle     time.Duration // how long an event waits for others with a smaller time; 0: 200 ms
	Patience   time.Duration // how long events wait for one that is missing before them; 0: 5 s
	Interval   time.Duration // between looks at what others have; 0: 5 s
	Logger     *slog.Logger  // nil discards
}

func (c *Config) complete() {
	set(&c.Keep, time.Hour)
	set(&c.MaxBytes, 64<<20)
	set(&c.MaxRecords, 16<<10)
	set(&c.Settle, 200*time.Millisecond)
	set(&c.Patience, 5*time.Second)
	set(&c.Interval, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func set[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// Service is one node's part in events, messages and queries. Safe for concurrent use.
type Service struct {
	config   Config
	self     fabric.Identity
	instance uint64 // of this run; tells messages of a node's lives apart
	signer   *signer
	verifier verifier
	log      *journal.Journal
	kick     chan struct{}      // wakes the loop of Run
	missing  chan fabric.NodeID // of whom something is missing
	work     sync.WaitGroup
	counters counters

	mu       sync.Mutex // held while the log is written, which is not synced
	sequence *sequencer
	clock    uint64
	last     mark // of what this node sent
	life     uint64
	appended chan struct{} // closed, and made anew, when the log has more
	stale    *envelope     // the newest own event, if gossip has not carried it
	tokens   int           // own events that gossip may carry now
	refilled time.Time
	failing  bool // the log cannot be written
	closed   bool

	gives    gives
	inboxes  inboxes
	outbox   outbox
	handlers handlers
}

// record kinds: the first byte of a head in the log.
const (
	recordEvent  = 'e' // the sender's id, 8 bytes, so that the proof need not be repeated; the age in nanoseconds, 8 bytes; the envelope. The body is the payload that is not inside
	recordMissed = 'm' // missedRecord, in JSON
)

type missedRecord struct {
	From  fabric.NodeID `json:"from"`
	Count uint64        `json:"count"`
	To    mark          `json:"to"`
}

// logState is the owner's part of a segment of the log.
type logState struct {
	Clock uint64                   `json:"clock"`
	Marks map[fabric.NodeID]mark   `json:"marks"`
	Times map[fabric.NodeID]uint64 `json:"times"`
}

// Open opens the log in config.Directory. Offer the service on the node's mux, and run it.
func Open(config Config) (*Service, error) {
	config.complete()
	s := &Service{
		config: config, self: config.Authority.Identity(), verifier: verifier{cluster: config.Authority.Identity().Cluster}, instance: rand.Uint64() | 1,
		kick: make(chan struct{}, 1), missing: make(chan fabric.NodeID, 16), appended: make(chan struct{}),
		sequence: newSequencer(config.Settle, config.Patience), tokens: gossipBurst,
	}
	s.inboxes.sources = map[source]*window{}
	s.handlers.init()
	certificate, err := config.Authority.Certificate()
	if err != nil {
		return nil, err
	}
	if s.signer, err = newSigner(s.self.Cluster, certificate.PrivateKey); err != nil {
		return nil, err
	}
	s.log, err = journal.Open(journal.Config{
		Directory: config.Directory, MaxBytes: config.MaxBytes, MaxRecords: config.MaxRecords, Keep: config.Keep, State: s.state, Logger: config.Logger,
	}, s.restore, s.reread)
	if err != nil {
		return nil, fmt.Errorf("cannot open the events: %w (if nothing else helps remove %s: the other nodes have the events)", err, config.Directory)
	}
	s.log.Expire(time.Now())
	if own := s.sequence.streams[s.self.ID]; own != nil {
		s.last = own.done
	}
	s.life = max(s.last.Life+1, uint64(time.Now().UnixMilli())) //nolint:gosec // not before 1970
	return s, nil
}

// state is what a segment of the log begins with. The caller, who appends, holds the lock.
func (s *Service) state() []byte {
	all := logState{Clock: s.clock, Marks: s.sequence.marks(), Times: map[fabric.NodeID]uint64{}}
	for from := range all.Marks {
		all.Times[from] = s.sequence.streams[from].time
	}
	encoded, err := json.Marshal(all)
	if err != nil {
		panic(err) // numbers and strings
	}
	return encoded
}

// restore takes in what the oldest segment begins with.
func (s *Service) restore(encoded []byte) error {
	var all logState
	if err := json.Unmarshal(encoded, &all); err != nil {
		return err
	}
	s.clock = all.Clock
	for from, at := range all.Marks {
		s.sequence.appended(id{from, at}, all.Times[from], time.Now())
	}
	return nil
}

// reread takes in a record of the log at the start.
func (s *Service) reread(r journal.Record) {
	if len(r.Head) == 0 {
		return
	}
	switch r.Head[0] {
	case recordEvent:
		if e, err := s.envelopeOf(r); err == nil {
			s.clock = max(s.clock, e.time)
			s.sequence.appended(e.id, e.time, time.Now())
		}
	case recordMissed:
		var m missedRecord
		if json.Unmarshal(r.Head[1:], &m) == nil {
			s.sequence.appended(id{m.From, m.To}, 0, time.Now())
		}
	}
}

// envelopeOf decodes an event of the own log.
func (s *Service) envelopeOf(r journal.Record) (*envelope, error) {
	if len(r.Head) < 1+8+8 || r.Head[0] != recordEvent {
		return nil, errEnvelope
	}
	e, _, _, _, err := parse(r.Head[17:])
	if err != nil {
		return nil, err
	}
	e.From = fabric.NodeID(hex.EncodeToString(r.Head[1:9]))
	e.age = time.Duration(binary.BigEndian.Uint64(r.Head[9:])) //nolint:gosec // as it was written
	return e, nil
}

// write puts an event into the log. The caller holds the lock.
func (s *Service) write(e *envelope, content []byte, now time.Time) (position uint64, err error) {
	from, err := hex.DecodeString(string(e.From))
	if err != nil || len(from) != 8 {
		return 0, fmt.Errorf("%q is no id of a node", e.From)
	}
	head := binary.BigEndian.AppendUint64(append([]byte{recordEvent}, from...), uint64(e.age)) //nolint:gosec // not negative
	r, err := s.log.Append(now, append(head, e.encoded...), content)
	return r.Position, err
}

// Send sends an event to all nodes, this one among them. When it returns the event is in this node's log, and spreads from there. by is the
// person on whose behalf, or empty.
func (s *Service) Send(name string, payload []byte, by string) (Event, error) {
	if err := check(name, payload); err != nil {
		return Event{}, fmt.Errorf("cannot send event: %w", err)
	}
	if !goodBy(by) {
		return Event{}, fmt.Errorf("cannot send event %s: %q is no name of a person", name, by)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Event{}, fmt.Errorf("cannot send event %s: %w", name, fabric.ErrClosed)
	}
	e := &envelope{id: id{s.self.ID, mark{s.life, 1}}, prior: s.last, time: s.clock + 1, sent: now, name: name, by: by}
	if s.last.Life == s.life {
		e.At.Seq = s.last.Seq + 1
	}
	if err := s.signer.seal(e, payload); err != nil {
		return Event{}, fmt.Errorf("cannot send event %s: %w", name, err)
	}
	var content []byte
	if e.size > 0 {
		content = payload
	}
	position, err := s.write(e, content, now)
	if err != nil {
		return Event{}, fmt.Errorf("cannot send event %s: %w", name, err)
	}
	s.clock, s.last, s.stale = e.time, e.At, e // what was stale is found missing before e
	s.sequence.appended(e.id, e.time, now)
	s.news()
	s.wake()
	s.counters.sent.Add(1)
	return Event{Time: e.time, From: e.From, By: by, Name: name, Payload: payload, Sent: now, Position: position, Arrived: now}, nil
}

// news wakes those who watch the log. The caller holds the lock.
func (s *Service) news() {
	close(s.appended)
	s.appended = make(chan struct{})
}

func (s *Service) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Run spreads and receives events until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); s.work.Wait() }()
	s.work.Go(func() { s.pull(ctx) })
	tick := time.NewTicker(max(time.Millisecond, min(s.config.Settle/4, gossipPause/2)))
	defer tick.Stop()
	for {
		s.gossip(time.Now())
		waits := s.step(ctx)
		if waits {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.kick:
		}
	}
}

// Close closes the log. Run has returned before.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.news()
	return s.log.Close()
}

// step puts into the log what is due, and has missing content fetched. It says whether something waits for time to pass.
func (s *Service) step(ctx context.Context) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	turns := s.sequence.next(now)
	for _, t := range turns {
		err := s.record(t, now)
		if err != nil {
			s.counters.failed.Add(1)
			if !s.failing {
				s.config.Logger.ErrorContext(ctx, "events not written to the log: they wait", "error", err)
			}
		}
		if s.failing = err != nil; s.failing {
			break
		}
	}
	if len(turns) > 0 {
		s.news()
	}
	for _, h := range s.sequence.wanted(maxFetches - int(s.gives.fetching.Load())) {
		s.gives.fetching.Add(1)
		s.work.Go(func() { s.fetch(ctx, h) })
	}
	for _, from := range s.sequence.holes() {
		select {
		case s.missing <- from:
		default:
		}
	}
	return s.sequence.waiting > 0 || s.stale != nil
}

// record puts one turn into the log. The caller holds the lock.
func (s *Service) record(t turn, now time.Time) error {
	var err error
	switch {
	case t.event != nil:
		_, err = s.write(t.event.envelope, t.event.content, now)
	case t.missed > 0:
		var encoded []byte
		if encoded, err = json.Marshal(missedRecord{t.from, t.missed, t.to}); err == nil {
			_, err = s.log.Append(now, append([]byte{recordMissed}, encoded...), nil)
		}
	}
	if err != nil {
		return err
	}
	if t.missed > 0 {
		s.counters.missed.Add(t.missed)
		s.config.Logger.Warn("events are missed: nobody has them", "sender", t.from, "count", t.missed)
	}
	if t.event != nil {
		s.clock = max(s.clock, t.event.time)
		s.counters.received.Add(1)
	}
	s.sequence.done(t, now)
	return nil
}

// others are the other nodes that are there. One that is suspect may live.
func (s *Service) others() []fabric.NodeID {
	var all []fabric.NodeID
	for _, m := range s.config.Members() {
		if here(m) && m.ID != s.self.ID {
			all = append(all, m.ID)
		}
	}
	return all
}

var errNoPeer = errors.New("no other node is there")
