package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/wire"
)

const (
	// maxUnder is how many requests of one connection may wait for a replica; its others wait in the network.
	maxUnder = 4 << 10
	// maxWatches is how many watches one connection may have.
	maxWatches = 64
	// maxAnswer is about how many bytes of keys and values an answer has; one item always fits.
	maxAnswer = 4 << 20
	maxPage   = 4 << 10
)

// session is a connection that somebody made to this node.
type session struct {
	node *Node
	conn *conn.Conn
	who  fabric.Identity
	ctx  context.Context //nolint:containedctx // of the connection

	request chain.Request // that is being answered
	reading reading
	reads   uint64 // so many came
	answer  chain.Answer
	out     []byte
	holds   bool
	copy    *incoming // that comes over this connection

	under chan struct{} // a token for each request that waits for a replica
	later chan later    // reads that may be answered now
	work  sync.WaitGroup

	mu      sync.Mutex
	watches map[uint64]context.CancelFunc
}

// later is a read that had to wait.
type later struct {
	runner *runner
	read   *reading
	err    error
}

// Serve answers requests on a connection, or takes other replicas' messages, until it ends. It is an rpc.ConnHandler.
func (n *Node) Serve(ctx context.Context, who fabric.Identity, raw net.Conn) {
	if !n.enter() {
		_ = raw.Close()
		return
	}
	defer n.work.Done()
	ctx, cancel := context.WithCancel(ctx)
	s := &session{
		node: n, conn: conn.New(raw, conn.Config{Framing: wire.Framing}), who: who, ctx: ctx,
		under: make(chan struct{}, maxUnder), later: make(chan later, maxUnder), watches: map[uint64]context.CancelFunc{},
	}
	n.metrics.connections.Inc()
	stop := context.AfterFunc(ctx, func() { s.conn.End(fabric.ErrClosed) })
	forget := n.onClose(cancel)
	s.work.Go(s.answerLater)
	err := s.serve()
	n.config.Logger.DebugContext(ctx, "chain connection ended", "from", who.Name, "error", err)
	if s.copy != nil {
		s.copy.disk.Abandon()
	}
	cancel()
	stop()
	forget()
	_ = s.conn.Close()
	s.work.Wait()
	n.metrics.connections.Dec()
}

// serve reads frames.
func (s *session) serve() error {
	for {
		frame, err := s.conn.Read()
		if err != nil {
			s.refused(err)
			return err
		}
		if !s.holds {
			s.hold(true)
		}
		if err := s.frame(frame); err != nil {
			s.refused(err)
			s.conn.End(err)
			return err
		}
		if s.holds && !s.conn.More() {
			s.hold(false)
		}
	}
}

// refused counts what a connection ended by, if that is its fault.
func (s *session) refused(err error) {
	switch {
	case errors.Is(err, chain.ErrCorrupt):
		s.node.metrics.refused.WithLabelValues("corrupt").Inc()
		s.node.config.Logger.WarnContext(s.ctx, "chain connection sent what is no frame", "from", s.who.Name, "error", err)
	case errors.Is(err, io.ErrUnexpectedEOF): // also of a program that was killed
		s.node.metrics.refused.WithLabelValues("truncated").Inc()
	}
}

// hold holds answers back, or lets them go.
func (s *session) hold(on bool) {
	s.holds = on
	if on {
		s.conn.Hold()
	} else {
		s.conn.Release()
	}
}

// frame acts on one frame. An error ends the connection.
func (s *session) frame(frame []byte) error {
	kind, err := wire.KindOf(frame)
	if err != nil {
		return err
	}
	switch kind {
	case wire.KindRequest:
		if err := wire.DecodeRequest(frame, &s.request); err != nil {
			return err
		}
		return s.ask(frame)
	case wire.KindMessage, wire.KindCopy:
		if s.who.Role != fabric.RoleNode {
			s.node.metrics.refused.WithLabelValues("role").Inc()
			return fmt.Errorf("%w: only nodes are replicas, and %s is %s", fabric.ErrForbidden, s.who.Name, s.who.Role)
		}
		if kind == wire.KindCopy {
			return s.takeCopy(frame)
		}
		return s.message(frame)
	case wire.KindAnswer: // nobody is asked over this connection
	}
	return fmt.Errorf("%w: frame of kind %d", chain.ErrCorrupt, kind)
}

// message hands another replica's message to its receiver. A replica speaks for its own node only.
func (s *session) message(frame []byte) error {
	m, err := wire.DecodeMessage(append([]byte{}, frame...)) // entries are kept
	if err != nil {
		return err
	}
	if m.From.Node != s.who.ID || m.To.Node != s.node.config.Self.Node {
		s.node.metrics.refused.WithLabelValues("sender").Inc()
		return fmt.Errorf("%w: message from %s to %s on a connection from %s", chain.ErrCorrupt, m.From.Node, m.To.Node, s.who.ID)
	}
	if r := s.node.runner(m.Chain); r != nil {
		r.message(m)
	}
	return nil
}

// ask answers a request, or sees to it that it is answered.
func (s *session) ask(frame []byte) error {
	q := &s.request
	switch q.Ask {
	case chain.AskGet, chain.AskScan:
		s.read(q)
	case chain.AskDo:
		s.do(frame)
	case chain.AskWatch:
		s.watch(q)
	case chain.AskCancel:
		s.cancel(q.ID)
	case chain.AskMap:
		s.askMap(q)
	case chain.AskPing:
		s.reply(&chain.Answer{ID: q.ID})
	default:
		s.node.metrics.refused.WithLabelValues("corrupt").Inc()
		s.refuse(q.ID, fmt.Errorf("%w: request of kind %d is of a later version of this program", chain.ErrCorrupt, q.Ask))
	}
	return nil
}

// reply sends an answer, for the goroutine that reads.
func (s *session) reply(a *chain.Answer) {
	s.out = wire.AppendAnswer(s.out[:0], a)
	_ = s.conn.Write(s.out) // the error is the connection's, which ends with it
	if cap(s.out) > 1<<20 {
		s.out = nil
	}
}

// refuse answers with an error.
func (s *session) refuse(id uint64, err error) {
	s.reply(&chain.Answer{ID: id, Err: cause(err), Text: err.Error()})
}

// cause is the error that the wire has a number for.
func cause(err error) error {
	for _, e := range wire.Errors() {
		if errors.Is(err, e) {
			return e
		}
	}
	return chain.ErrNotServing
}

// wait takes a place for a request that a replica has to see; answers that are held back go first.
func (s *session) wait() bool {
	select {
	case s.under <- struct{}{}:
		return true
	default:
	}
	if s.holds {
		s.hold(false)
	}
	select {
	case s.under <- struct{}{}:
		return true
	case <-s.conn.Done():
		return false
	}
}

// do hands a command to its chain.
func (s *session) do(frame []byte) {
	id := s.request.ID
	if !s.who.Role.Allows(fabric.RoleOperator) {
		s.node.metrics.refused.WithLabelValues("role").Inc()
		s.refuse(id, fmt.Errorf("%w: writing needs role %s, and %s has role %s", fabric.ErrForbidden, fabric.RoleOperator, s.who.Name, s.who.Role))
		return
	}
	r := s.node.runner(s.request.Chain)
	if r == nil {
		s.refuse(id, fmt.Errorf("chain %d: %w", s.request.Chain, chain.ErrNotServing))
		return
	}
	if s.who.Role != fabric.RoleNode && r.bucket() == placement.SharedBucket {
		s.node.metrics.refused.WithLabelValues("role").Inc()
		s.refuse(id, fmt.Errorf("%w: bucket %s is the nodes' own, and %s has role %s", fabric.ErrForbidden, placement.SharedBucket, s.who.Name, s.who.Role))
		return
	}
	if !s.wait() {
		return
	}
	var q chain.Request
	if err := wire.DecodeRequest(append([]byte{}, frame...), &q); err != nil { // its bytes become the log's
		<-s.under
		s.conn.End(err)
		return
	}
	if err := r.do(&writing{session: s, id: id, command: q.Command, begun: s.node.Now()}); err != nil {
		<-s.under
		s.refuse(id, err)
	}
}

// done answers a command; the replica's goroutine calls it. The number of such answers is bounded by under.
func (s *session) done(id uint64, result chain.Result, err error) {
	a := chain.Answer{ID: id, Result: result}
	if err != nil {
		a.Err, a.Text = cause(err), err.Error()
	}
	s.conn.Push(wire.AppendAnswer(nil, &a))
	<-s.under
}

// askMap answers with the map, at once, once it is newer, or once it is the latest.
func (s *session) askMap(q *chain.Request) {
	id, from := q.ID, q.From
	switch q.Limit {
	case chain.MapNow:
		m, _ := s.node.mapAfter(0)
		s.reply(&chain.Answer{ID: id, Map: m})
		return
	case chain.MapLatest:
		s.askLatest(id)
		return
	}
	ctx, ok := s.begin(id)
	if !ok {
		return
	}
	s.work.Go(func() {
		defer s.cancel(id)
		patience := time.NewTimer(mapPatience)
		defer patience.Stop()
		for {
			m, changed := s.node.mapAfter(from)
			if m != nil {
				_ = s.conn.Write(wire.AppendAnswer(nil, &chain.Answer{ID: id, Map: m}))
				return
			}
			select {
			case <-changed:
			case <-patience.C: // who asks should ask others too: this node may be cut off from the chain table
				_ = s.conn.Write(wire.AppendAnswer(nil, &chain.Answer{ID: id}))
				return
			case <-ctx.Done():
				return
			}
		}
	})
}

// mapPatience is how long a request for a newer map waits for one.
const mapPatience = time.Second

// begin notes a request that lasts until it is cancelled.
func (s *session) begin(id uint64) (context.Context, bool) {
	s.mu.Lock()
	if len(s.watches) < maxWatches && s.watches[id] == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		s.watches[id] = cancel
		s.mu.Unlock()
		return ctx, true
	}
	s.mu.Unlock()
	s.refuse(id, fmt.Errorf("%w: a connection has %d watches at the most", chain.ErrBusy, maxWatches))
	return nil, false
}

// cancel ends a request that lasts.
func (s *session) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stop := s.watches[id]; stop != nil {
		stop()
		delete(s.watches, id)
	}
}
