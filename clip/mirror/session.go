package mirror

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	"orrery/clip/pair"
	"orrery/clip/replica"
)

const (
	aliveEvery = 20 * time.Second
	silence    = time.Minute // after which a connection is given up
	maxQueue   = 1000
)

// Reasons of a bye.
const (
	byeRemoved = "removed"
	byePaused  = "paused"
	byeLocked  = "locked"
	byeVersion = "version"
	byeAgain   = "again"
	byeRefused = "refused"
)

// byeError says that one side ended a session on purpose.
type byeError struct {
	reason string
	there  bool // the other side did
}

// Error implements error.
func (b *byeError) Error() string {
	if b.there {
		return "the other machine ended the connection: " + b.reason
	}
	return "the connection was ended: " + b.reason
}

// session is a connection with a machine.
type session struct {
	node    *Node
	conn    *tls.Conn
	key     ed25519.PublicKey
	own     replica.Device
	device  replica.Device // the other side
	dialled bool           // by this side
	wake    chan struct{}

	mu      sync.Mutex
	out     []frame // to be written before all else
	theirs  replica.Vector
	takes   bool // the other side receives
	sends   bool
	serving []*serving
	bye     string
	over    bool

	cursor  uint64        // of the writer: up to which change of the history it has told
	told    replica.Stamp // of the last copy that was said to be new
	fetcher fetcher       // of the reader
}

func (n *Node) newSession(conn *tls.Conn, own, key ed25519.PublicKey, dialled bool) *session {
	s := &session{node: n, conn: conn, key: key, own: pair.DeviceOf(own), device: pair.DeviceOf(key), dialled: dialled, wake: make(chan struct{}, 1)}
	s.fetcher = fetcher{session: s, fetches: map[uint32]*fetch{}, lacked: map[replica.Key]bool{}}
	return s
}

// preferred says whether the connection stays when there are two.
func (s *session) preferred() bool {
	return s.dialled == (bytes.Compare(s.own[:], s.device[:]) < 0)
}

// run speaks until one side ends it, and says why.
func (s *session) run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var work sync.WaitGroup
	fail := func(err error) {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		end(err)
	}
	work.Go(func() {
		err := s.write(ctx)
		fail(err)
		_ = s.conn.Close() // ends the reader
	})
	work.Go(func() {
		err := s.read(ctx)
		if errors.Is(err, errProtocol) && ctx.Err() == nil {
			end(err)
			s.stop(byeRefused) // the writer says so, and ends
			late := time.AfterFunc(2*time.Second, func() { _ = s.conn.NetConn().Close() })
			defer late.Stop()
			return
		}
		fail(err)
		_ = s.conn.NetConn().Close() // ends the writer
	})
	<-ctx.Done()
	s.poke()
	work.Wait()
	s.fetcher.end()
	return context.Cause(ctx)
}

// stop ends the session once the other side was told why.
func (s *session) stop(reason string) {
	s.mu.Lock()
	if s.bye == "" {
		s.bye = reason
	}
	s.mu.Unlock()
	s.poke()
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send queues a frame.
func (s *session) send(f frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) >= maxQueue {
		return malformed("it asks for more than it reads")
	}
	s.out = append(s.out, f)
	s.poke()
	return nil
}

// writer writes frames, each within a time.
type writer struct {
	*bufio.Writer
	conn net.Conn
}

func (w *writer) frame(f frame) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(silence)); err != nil {
		return err
	}
	return f.writeTo(w)
}

// write writes until the session ends.
func (s *session) write(ctx context.Context) error {
	w := &writer{bufio.NewWriterSize(s.conn, 2*maxChunk), s.conn}
	heard, err := s.node.History.Seen()
	if err != nil {
		return err
	}
	h, err := hello{Version: version, Name: s.node.Name, Port: s.node.port(), Send: s.node.Rules.Send, Receive: s.node.Rules.Receive, heard: heard}.frame()
	if err != nil {
		return err
	}
	if err := w.frame(h); err != nil {
		return err
	}
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		more, err := s.step(w)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		if err := w.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			s.mu.Lock()
			bye := s.bye
			s.mu.Unlock()
			if bye == "" {
				return context.Cause(ctx)
			}
		case <-s.wake:
		case <-alive.C:
			if err := w.frame(frame{kind: typeAlive}); err != nil {
				return err
			}
		}
	}
}

// step writes what is to be written first, and says whether there may be more.
func (s *session) step(w *writer) (more bool, err error) {
	s.mu.Lock()
	out, bye, over := s.out, s.bye, s.over
	s.out = nil
	s.mu.Unlock()
	for _, f := range out {
		if err := w.frame(f); err != nil {
			return false, err
		}
	}
	if bye != "" {
		err := errors.Join(w.frame(frame{typeBye, []byte(bye)}), w.Flush())
		return false, errors.Join(&byeError{reason: bye}, err)
	}
	if over {
		return false, net.ErrClosed
	}
	told, err := s.tell(w)
	if err != nil {
		return false, err
	}
	served, err := s.serve(w)
	return told || served || len(out) > 0, err
}

// tell writes what has changed since the last time and the other side has not heard of.
func (s *session) tell(w *writer) (bool, error) {
	s.mu.Lock()
	theirs, takes := s.theirs, s.takes
	s.mu.Unlock()
	if theirs == nil || !takes || !s.node.Rules.Send {
		return false, nil
	}
	heard, err := s.node.History.Seen() // before the changes are read: they may be more than that
	if err != nil {
		return false, err
	}
	keys, now, err := s.node.History.Changed(s.cursor)
	if err != nil || len(keys) == 0 {
		return false, err
	}
	t := telling{session: s, w: w, theirs: theirs, all: s.cursor == 0}
	for len(keys) > 0 {
		n := min(len(keys), 256)
		if err := t.some(keys[:n]); err != nil {
			return false, err
		}
		keys = keys[n:]
	}
	s.cursor = now
	return true, t.end(heard)
}

// telling is one tell.
type telling struct {
	*session
	w      *writer
	theirs replica.Vector
	all    bool // of the whole history
	batch  []byte
	fresh  replica.Change // what was copied right now
}

func (t *telling) some(keys []replica.Key) error {
	known, err := t.node.History.Entries(keys)
	if err != nil {
		return err
	}
	for _, c := range known {
		if !t.node.Rules.allows(&c.Entry) {
			continue
		}
		// Also of what was heard of by a connection that has ended: it may have ended before this was said.
		if last := c.Entry.Last(); c.Entry.Live() && last.By != t.device && last.After(t.told) && time.Since(time.UnixMilli(c.Entry.Used())).Abs() < t.node.Fresh {
			t.fresh, t.told = c, last
		}
		d, ok := c.Entry.Beyond(t.theirs)
		if !ok {
			if err := t.have(c); err != nil {
				return err
			}
			continue
		}
		if t.batch = appendChange(t.batch, replica.Change{Key: c.Key, Entry: d}); len(t.batch) >= maxChanges {
			if err := t.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// have says that contents are here that may have been asked for before.
func (t *telling) have(c replica.Change) error {
	if t.all || !c.Entry.Live() {
		return nil
	}
	if _, here := t.node.History.Find(c.Key); !here {
		return nil
	}
	return t.w.frame(frame{typeHave, c.Key[:]})
}

func (t *telling) flush() error {
	if len(t.batch) == 0 {
		return nil
	}
	err := t.w.frame(frame{typeChanges, t.batch})
	t.batch = nil
	return err
}

// end says what is complete now, and which item is to be put into the clipboard.
func (t *telling) end(heard replica.Vector) error {
	if err := t.flush(); err != nil {
		return err
	}
	t.mu.Lock()
	more := !t.theirs.CoversAll(heard)
	t.session.theirs = joined(t.session.theirs, heard)
	t.mu.Unlock()
	if more {
		if err := t.w.frame(frame{typeHeard, heard.Append(nil)}); err != nil {
			return err
		}
	}
	if t.fresh.Entry.Live() {
		return t.w.frame(frame{typeNew, t.fresh.Key[:]})
	}
	return nil
}

// joined is a new vector, because others may read the old one.
func joined(a, b replica.Vector) replica.Vector {
	c := maps.Clone(a)
	c.Join(b)
	return c
}

// read reads until the session ends.
func (s *session) read(ctx context.Context) error {
	r := bufio.NewReaderSize(s.conn, maxChunk)
	next := func() (frame, error) {
		if err := s.conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return frame{}, err
		}
		return readFrame(r)
	}
	f, err := next()
	if err != nil {
		return err
	}
	if err := s.met(ctx, f); err != nil {
		return err
	}
	for {
		if err := s.fetcher.more(); err != nil {
			return err
		}
		f, err := next()
		if err != nil {
			return err
		}
		if err := s.take(ctx, f); err != nil {
			return err
		}
	}
}

// met takes the other side's first frame in.
func (s *session) met(ctx context.Context, f frame) error {
	if f.kind == typeBye {
		return farewell(f.body)
	}
	if f.kind != typeHello {
		return malformed("it does not begin with a hello")
	}
	h, err := decodeHello(f.body)
	if err != nil {
		return err
	}
	if h.Version != version {
		s.stop(byeVersion)
		return fmt.Errorf("%s speaks version %d of the protocol, and this machine %d (update the older one)", h.Name, h.Version, version)
	}
	s.mu.Lock()
	s.theirs, s.takes, s.sends = h.heard, h.Receive, h.Send
	s.mu.Unlock()
	s.poke()
	s.node.met(ctx, s, h)
	return nil
}

func farewell(body []byte) error {
	reason := string(body[:min(len(body), maxReason)])
	switch reason {
	case byeRemoved, byePaused, byeLocked, byeVersion, byeAgain, byeRefused:
	default:
		reason = "for a reason that this machine does not know"
	}
	return &byeError{reason, true}
}

// take takes a frame in.
func (s *session) take(ctx context.Context, f frame) error {
	switch f.kind {
	case typeAlive:
		s.fetcher.again()
		return nil
	case typeBye:
		return farewell(f.body)
	case typeChanges, typeHeard:
		return s.hear(ctx, f)
	case typeNew, typeHave:
		k, err := decodeKey(f.body)
		if err == nil && s.receives() {
			s.fetcher.hint(ctx, k, f.kind == typeNew)
		}
		return err
	case typeWant:
		w, err := decodeWant(f.body)
		if err != nil {
			return err
		}
		return s.wanted(w)
	case typeCancel:
		number, _, err := decodeNumber(f.body)
		s.drop(number)
		return err
	case typeItem, typeChunk, typeLack:
		return s.fetcher.take(ctx, f)
	}
	return malformed(fmt.Sprintf("a frame of type %d", f.kind))
}

func (s *session) receives() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node.Rules.Receive && s.sends
}

// hear takes changes in.
func (s *session) hear(ctx context.Context, f frame) error {
	if !s.receives() {
		return malformed("it sends what it was told not to")
	}
	if f.kind == typeHeard {
		v, err := replica.DecodeVector(f.body)
		if err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
		s.mu.Lock()
		s.theirs = joined(s.theirs, v)
		s.mu.Unlock()
		return s.node.History.Heard(v)
	}
	changes, err := decodeChanges(f.body)
	if err != nil {
		return err
	}
	m, err := s.node.History.Merge(changes, s.node.wants)
	if err != nil {
		return fmt.Errorf("cannot keep what the other machine says: %w", err)
	}
	s.fetcher.changed()
	if m.Changed > 0 {
		s.node.Recorder.Marked()
	}
	if len(m.Gone) > 0 {
		if err := s.node.Recorder.Withdraw(m.Gone); err != nil {
			s.node.Logger.WarnContext(ctx, "an item that was deleted on another machine is still in the clipboard", "error", err)
		}
	}
	return nil
}

// wants says whether an item that another machine has is to be fetched. Whether it is within the limits is looked at then.
func (n *Node) wants(e *replica.Entry) bool {
	return n.Rules.allows(e)
}

// serving is an item that the other side wants.
type serving struct {
	want
	begun bool
	rest  [][]byte
}

func (s *session) wanted(w want) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.serving) >= maxWants {
		return malformed("it wants too much at once")
	}
	s.serving = append(s.serving, &serving{want: w})
	s.poke()
	return nil
}

func (s *session) drop(number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, v := range s.serving {
		if v.number == number {
			s.serving = append(s.serving[:i:i], s.serving[i+1:]...)
			return
		}
	}
}

// serve writes a piece of one of the items that the other side wants, in turn.
func (s *session) serve(w *writer) (bool, error) {
	s.mu.Lock()
	if len(s.serving) == 0 {
		s.mu.Unlock()
		return false, nil
	}
	v := s.serving[0]
	s.serving = append(s.serving[1:len(s.serving):len(s.serving)], v)
	s.mu.Unlock()
	if !v.begun {
		return true, s.begin(w, v)
	}
	for len(v.rest) > 0 && len(v.rest[0]) == 0 {
		v.rest = v.rest[1:]
	}
	if len(v.rest) == 0 {
		s.drop(v.number)
		s.node.Recorder.Worked()
		return true, nil
	}
	piece := v.rest[0][:min(len(v.rest[0]), maxChunk)]
	v.rest[0] = v.rest[0][len(piece):]
	s.node.count(s.device, func(c *Counts) { c.BytesSent += int64(len(piece)) })
	return true, w.frame(numbered(typeChunk, v.number, piece...))
}

// begin writes the head of an item, or that it is not here.
func (s *session) begin(w *writer, v *serving) error {
	v.begun = true
	item, entry, err := s.node.load(v.key, v.kept)
	if err != nil || v.offset > item.Size {
		s.drop(v.number)
		never := byte(1)
		if errors.Is(err, errNotYet) {
			never = 0
		}
		return w.frame(numbered(typeLack, v.number, never))
	}
	h := head{App: item.App, Created: item.Created.UnixMilli(), number: v.number, offset: v.offset, entry: entry}
	skip := v.offset
	for _, c := range item.Contents {
		h.Contents = append(h.Contents, sized{c.Type, int64(len(c.Data))})
		n := min(skip, int64(len(c.Data)))
		v.rest, skip = append(v.rest, c.Data[n:]), skip-n
	}
	f, err := h.frame()
	if err != nil {
		return err
	}
	s.node.count(s.device, func(c *Counts) { c.Sent++ })
	return w.frame(f)
}
