package client

import (
	"context"
	"net"
	"sync"
	"testing"

	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/wire"
)

// Whoever is told that a request could not be sent is not told later that it was answered: the call is used again, and its next answer would be taken from the one before.
func TestLinkEnds(t *testing.T) {
	for range 300 {
		near, far := net.Pipe()
		n := &node{client: &Client{}}
		l := newLink(conn.New(near, conn.Config{Framing: wire.Framing}), n)
		served := make(chan struct{})
		go func() { // answers one request, and is gone
			defer close(served)
			c := conn.New(far, conn.Config{Framing: wire.Framing})
			if frame, err := c.Read(); err == nil {
				var q chain.Request
				if wire.DecodeRequest(frame, &q) == nil {
					_ = c.Write(wire.AppendAnswer(nil, &chain.Answer{ID: q.ID}))
				}
			}
			_ = c.Close()
		}()
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				k := newCall()
				var err error
				for err == nil {
					k.reset()
					err = l.do(context.Background(), &chain.Request{Ask: chain.AskPing}, k)
				}
				if len(k.done) > 0 {
					t.Errorf("%v, and an answer", err)
				}
			})
		}
		work.Wait()
		<-served
		l.close()
	}
}
