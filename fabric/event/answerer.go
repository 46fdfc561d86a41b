package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"orrery/fabric"
)

// streamAnswer is the kind of stream on which a program answers a node's queries of a name. After the answerHeader JSON values follow: asked from
// the node, told from the program, in any order.
const streamAnswer = "answer"

type answerHeader struct {
	Name string `json:"name"`
}

type asked struct {
	Number   uint64   `json:"number"`
	Question Question `json:"question"`
}

type told struct {
	Number  uint64 `json:"number"`
	Payload []byte `json:"payload,omitempty"`
	Error   string `json:"error,omitempty"`
}

// maxTold is how much a program may say before an answer is complete: MaxPayload in base64, and around it.
const maxTold = MaxPayload*3/2 + 4096

// answerer is one program that answers.
type answerer struct {
	conn  net.Conn
	ended chan struct{}

	writing sync.Mutex // one value at a time

	mu     sync.Mutex
	number uint64
	open   map[uint64]chan told
}

// serveAnswerer lets a program answer queries until its stream ends.
func (s *Service) serveAnswerer(ctx context.Context, _ fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error {
	var q answerHeader
	if err := json.Unmarshal(header, &q); err != nil {
		return err
	}
	a := &answerer{ended: make(chan struct{}), open: map[uint64]chan told{}}
	ready := make(chan struct{})
	stop, err := s.Handle(q.Name, func(ctx context.Context, question Question) ([]byte, error) {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return a.ask(ctx, question)
	})
	if err != nil {
		return err
	}
	defer stop()
	defer close(a.ended)
	conn, err := accept()
	if err != nil {
		return err
	}
	a.conn = conn
	close(ready)
	end := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer end()
	return a.listen(conn)
}

// listen takes the program's answers in.
func (a *answerer) listen(conn net.Conn) error {
	limited := &io.LimitedReader{R: conn}
	in := json.NewDecoder(limited)
	for {
		limited.N = maxTold
		var t told
		if err := in.Decode(&t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		a.mu.Lock()
		waiting := a.open[t.Number]
		delete(a.open, t.Number)
		a.mu.Unlock()
		if waiting != nil {
			waiting <- t
		}
	}
}

// ask passes a question on and waits for its answer.
func (a *answerer) ask(ctx context.Context, q Question) ([]byte, error) {
	answer := make(chan told, 1)
	a.mu.Lock()
	a.number++
	number := a.number
	a.open[number] = answer
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.open, number)
		a.mu.Unlock()
	}()
	if err := a.write(asked{number, q}); err != nil {
		return nil, fmt.Errorf("the program that answers %s is gone: %w (%w)", q.Name, ErrNobody, err)
	}
	select {
	case t := <-answer:
		if t.Error != "" {
			return nil, errors.New(t.Error)
		}
		return t.Payload, nil
	case <-a.ended:
		return nil, fmt.Errorf("the program that answers %s ended: %w", q.Name, ErrNobody)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// write sends one value. A program that does not read loses its connection.
func (a *answerer) write(value any) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	err := a.conn.SetWriteDeadline(time.Now().Add(queryTimeout))
	if err == nil {
		err = json.NewEncoder(a.conn).Encode(value)
	}
	if err != nil {
		_ = a.conn.Close() // a value that is cut off is the last one
	}
	return err
}

// Answer answers a node's queries of a name, up to parallel of them at the same time, until ctx or the connection ends; ready, if not nil, is called
// when the node knows.
func (r Remote) Answer(ctx context.Context, name string, parallel int, answer Handler, ready func()) error {
	conn, err := r.Peer.Stream(ctx, streamAnswer, answerHeader{name})
	if err != nil {
		return err
	}
	if ready != nil {
		ready()
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	end := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer end()
	defer conn.Close()
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	var writing sync.Mutex
	places := make(chan struct{}, parallel)
	for {
		var a asked
		if err := in.Decode(&a); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the node does not ask any more: %w", err)
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		work.Go(func() {
			defer func() { <-places }()
			t := told{Number: a.Number}
			payload, err := answer(ctx, a.Question)
			if t.Payload = payload; err != nil {
				t.Payload, t.Error = nil, err.Error()
			}
			writing.Lock()
			defer writing.Unlock()
			_ = out.Encode(t) // where that fails Decode does, too
		})
	}
}
