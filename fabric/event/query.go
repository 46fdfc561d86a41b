package event

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/rpc"
)

// How queries are carried out.
const (
	queryParallel = 32
	queryTimeout  = 10 * time.Second // where ctx has no end
	maxAnswers    = 32               // that one handler works on at once
)

// Question is a query as a node gets it.
type Question struct {
	Name    string        `json:"name"`
	Payload []byte        `json:"payload,omitempty"`
	From    fabric.NodeID `json:"from"` // by the certificate
	By      string        `json:"by,omitempty"`
}

// Answer is what one node said, or why it did not.
type Answer struct {
	From    fabric.NodeID
	Node    string // its name
	Payload []byte
	Took    time.Duration
	Err     error
}

// Handler answers queries of a name. ctx ends when nobody waits for the answer any more. An answer is at most MaxPayload.
type Handler func(ctx context.Context, q Question) ([]byte, error)

// handlers are those who answer on this node.
type handlers struct {
	mu     sync.Mutex
	byName map[string]*handler
}

type handler struct {
	answer Handler
	places chan struct{} // so that a slow one holds up nobody else's queries
}

func (h *handlers) init() {
	h.byName = map[string]*handler{}
	h.set("ping", func(_ context.Context, q Question) ([]byte, error) { return q.Payload, nil })
}

func (h *handlers) set(name string, answer Handler) {
	h.byName[name] = &handler{answer, make(chan struct{}, maxAnswers)}
}

// Handle has queries of a name answered on this node, until the returned function is called. fabric.ErrConflict where somebody does already.
func (s *Service) Handle(name string, answer Handler) (stop func(), err error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("cannot answer queries: %w", err)
	}
	h := &s.handlers
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byName[name] != nil {
		return nil, fmt.Errorf("cannot answer queries of %s: somebody does on this node already: %w", name, fabric.ErrConflict)
	}
	h.set(name, answer)
	return sync.OnceFunc(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.byName, name)
	}), nil
}

// here says whether a node may be there: one that is suspect may live.
func here(m fabric.Member) bool {
	return m.State == fabric.MemberAlive || m.State == fabric.MemberSuspect
}

// Query asks all nodes that are there and that want returns true for (nil: all), this one among them, at the same time. It yields one Answer for each, as they
// come; nodes that have not answered when ctx ends (or after 10 s, where it has no end) come last, with an error. by is as in Send.
func (s *Service) Query(ctx context.Context, name string, payload []byte, by string, want func(fabric.Member) bool) (iter.Seq[Answer], error) {
	if err := check(name, payload); err != nil {
		return nil, fmt.Errorf("cannot query: %w", err)
	}
	if !goodBy(by) {
		return nil, fmt.Errorf("cannot query %s: %q is no name of a person", name, by)
	}
	asked := []fabric.Member{{ID: s.self.ID, Name: s.self.Name, State: fabric.MemberAlive}}
	for _, m := range s.config.Members() {
		if m.ID == s.self.ID {
			asked[0] = m
		} else if here(m) {
			asked = append(asked, m)
		}
	}
	q := Question{Name: name, Payload: payload, From: s.self.ID, By: by}
	return func(yield func(Answer) bool) {
		ctx, cancel := queryContext(ctx)
		defer cancel()
		answers := make(chan Answer)
		var work sync.WaitGroup
		defer work.Wait()
		defer cancel()
		waiting := 0
		places := make(chan struct{}, queryParallel)
		for _, m := range asked {
			if want != nil && !want(m) {
				continue
			}
			waiting++
			work.Go(func() {
				a := s.askOne(ctx, places, m, q)
				answers <- a
			})
		}
		goOn := true
		for range waiting { // all are taken, so that none is left behind
			a := <-answers
			if goOn = goOn && yield(a); !goOn {
				cancel()
			}
		}
	}, nil
}

func queryContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, queryTimeout)
}

// askOne asks one node, when it is its turn.
func (s *Service) askOne(ctx context.Context, places chan struct{}, m fabric.Member, q Question) Answer {
	a := Answer{From: m.ID, Node: m.Name}
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-ctx.Done():
		a.Err = ctx.Err()
		return a
	}
	began := time.Now()
	if m.ID == s.self.ID {
		a.Payload, a.Err = s.answer(ctx, q)
	} else {
		var reply *Reply
		if reply, a.Err = rpc.Call[Question, Reply](ctx, s.config.Peer(m.ID), procAsk, &q); a.Err == nil {
			a.Payload = reply.Payload
		}
	}
	a.Took = time.Since(began)
	return a
}

// Reply is the answer of one node.
type Reply struct {
	Payload []byte `json:"payload,omitempty"`
}

func (s *Service) serveAsk(ctx context.Context, q *Question) (*Reply, error) {
	caller, ok := rpc.Caller(ctx)
	if !ok {
		return nil, fabric.ErrForbidden
	}
	q.From = caller.ID
	if !goodBy(q.By) {
		q.By = ""
	}
	payload, err := s.answer(ctx, *q)
	return &Reply{payload}, err
}

// answer answers a query on this node.
func (s *Service) answer(ctx context.Context, q Question) ([]byte, error) {
	s.handlers.mu.Lock()
	h := s.handlers.byName[q.Name]
	s.handlers.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("node %s has no answer to %q: %w", s.self.Name, q.Name, ErrNobody)
	}
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	default:
		return nil, fmt.Errorf("node %s: %w: it answers %d queries of %s already", s.self.Name, ErrBusy, maxAnswers, q.Name)
	}
	s.counters.queries.Add(1)
	payload, err := h.answer(ctx, q)
	if err == nil && len(payload) > MaxPayload {
		err = fmt.Errorf("answer of %d bytes is %w", len(payload), ErrTooLarge)
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return payload, err
}
