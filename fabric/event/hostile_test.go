package event_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/event"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// recorded keeps what a node broadcasts.
type recorded struct {
	mu  sync.Mutex
	all [][]byte
}

func (r *recorded) broadcast(_ string, payload []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, bytes.Clone(payload))
	return nil
}

// alone is a service without a network.
func alone(t *testing.T, c event.Config) *event.Service {
	t.Helper()
	if c.Members == nil {
		c.Members = func() []fabric.Member { return nil }
	}
	c.Settle, c.Patience, c.Interval = 20*time.Millisecond, 300*time.Millisecond, 50*time.Millisecond
	s, err := event.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	work.Go(func() { _ = s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// envelopes are n genuine events of a node, as it gossips them.
func envelopes(t *testing.T, c event.Config, n int) [][]byte {
	t.Helper()
	gossip := &recorded{}
	c.Broadcast, c.Directory = gossip.broadcast, t.TempDir()
	s := alone(t, c)
	for i := range n {
		if _, err := s.Send("a", fmt.Appendf(nil, "%030d", i), ""); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "gossip", func() bool { gossip.mu.Lock(); defer gossip.mu.Unlock(); return len(gossip.all) == i+1 })
	}
	return gossip.all
}

// TestGarbage hears what is no event, events that somebody forged, and genuine ones again and again: the latter are seen, once.
func TestGarbage(t *testing.T) {
	t.Parallel()
	c := authoritytest.NewCluster(t, "one")
	genuine := envelopes(t, event.Config{Authority: c.Admit(t, "two", fabric.RoleNode)}, 3)
	strange := envelopes(t, event.Config{Authority: authoritytest.NewCluster(t, "else").First}, 1)
	s := alone(t, event.Config{Authority: c.First, Directory: t.TempDir(), Broadcast: (&recorded{}).broadcast})
	n := &node{Service: s, holder: c.First}
	for range 3 {
		s.Heard(event.GossipName, strange[0])
		s.Heard(event.GossipName, nil)
		s.Heard(event.GossipName, []byte("{}"))
		s.Heard(event.GossipName, bytes.Repeat([]byte{1}, 512))
		for i := range genuine {
			g := genuine[len(genuine)-1-i]
			s.Heard("other", g)
			forged := bytes.Replace(g, []byte("a"), []byte("b"), 1)
			s.Heard(event.GossipName, forged)
			s.Heard(event.GossipName, g[:len(g)-1])
			s.Heard(event.GossipName, g)
		}
	}
	for i, text := range payloads(n.collect(t, ever(), 3)) {
		if text != fmt.Sprintf("%030d", i) {
			t.Errorf("event %d is %s", i, text)
		}
	}
	// A forged copy of what is known already is not looked at.
	if st := s.Status(); st.Garbage < 3*4+3*3+3 || st.Garbage+st.Duplicates != 3*(4+3*3)-3 || st.Received != 3 || st.Last != 3 {
		t.Errorf("%+v", st)
	}
}

// hostile is a member of the cluster that answers as it likes.
type hostile struct {
	id     fabric.NodeID
	peer   *rpc.Peer
	member fabric.Member
}

// member starts a node that offers what register says, and nothing else; caller talks to it.
func (c *clusterOf) member(t *testing.T, name string, register func(m *rpc.Mux)) hostile {
	t.Helper()
	a := c.Admit(t, name, fabric.RoleNode)
	mux := rpc.NewMux(errorsKnown(), nil)
	register(mux)
	server, err := rpc.Listen(t.Context(), rpc.Config{Authority: a, Listen: "127.0.0.1:0"}, mux)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	work.Go(func() { _ = server.Run(ctx) })
	client := rpc.NewClient(rpc.ClientConfig{Authority: c.First, Errors: errorsKnown(), Lookup: func(context.Context, fabric.NodeID) (string, error) { return server.Addr(), nil }})
	t.Cleanup(func() { client.Close(); cancel(); work.Wait() })
	id := a.Identity().ID
	return hostile{id, client.Node(id), fabric.Member{ID: id, Name: name, Address: server.Addr(), State: fabric.MemberAlive}}
}

type clusterOf struct{ *authoritytest.Cluster }

// beside is the service of the cluster's first node, which knows one other.
func (c *clusterOf) beside(t *testing.T, other *hostile) *event.Service {
	t.Helper()
	return alone(t, event.Config{
		Authority: c.First, Directory: t.TempDir(), Broadcast: (&recorded{}).broadcast,
		Peer:    func(fabric.NodeID) *rpc.Peer { return other.peer },
		Members: func() []fabric.Member { return []fabric.Member{other.member} },
	})
}

// TestHostileAnswers has a member answer pulls with garbage without end, and give another payload than was announced.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	c := &clusterOf{authoritytest.NewCluster(t, "one")}
	gossip := &recorded{}
	sender := alone(t, event.Config{Authority: c.Admit(t, "two", fabric.RoleNode), Directory: t.TempDir(), Broadcast: gossip.broadcast})
	if _, err := sender.Send("large", bytes.Repeat([]byte("x"), 10_000), ""); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "gossip", func() bool { gossip.mu.Lock(); defer gossip.mu.Unlock(); return len(gossip.all) == 1 })
	var pulls, asks atomic.Int64
	other := c.member(t, "three", func(m *rpc.Mux) {
		rpc.Unary(m, "/orrery.event.v1.Peers/Pull", fabric.RoleNode, func(context.Context, *event.PullRequest) (*event.PullAnswer, error) {
			pulls.Add(1)
			answer := &event.PullAnswer{More: true}
			for range 2000 {
				answer.Events = append(answer.Events, event.Pulled{Envelope: []byte("garbage"), Age: -time.Hour})
			}
			return answer, nil
		})
		rpc.Unary(m, "/orrery.event.v1.Peers/Content", fabric.RoleNode, func(context.Context, *event.ContentRequest) (*event.ContentAnswer, error) {
			switch asks.Add(1) % 3 {
			case 0:
				return &event.ContentAnswer{}, nil
			case 1:
				return &event.ContentAnswer{Ask: []fabric.NodeID{"nobody", "", "nobody", "else", "and", "more"}}, nil
			}
			return &event.ContentAnswer{Payload: bytes.Repeat([]byte("y"), 10_000)}, nil
		})
	})
	s := c.beside(t, &other)
	s.Heard(event.GossipName, gossip.all[0])
	if _, err := s.Send("own", nil, ""); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "giving up", func() bool { return s.Status().Missed == 1 && s.Status().Waiting == 0 && s.Status().Garbage > 512 })
	if asks.Load() < 3 || pulls.Load() < 1 {
		t.Errorf("asked %d and %d times", asks.Load(), pulls.Load())
	}
	for seen, err := range s.Watch(t.Context(), ever()) {
		if err != nil || seen.Event == nil || seen.Event.Name != "own" {
			t.Errorf("%+v, %v", seen, err)
		}
		break
	}
}

// TestUncertain loses the answer of a receiver that then is another one: nobody can know whether the message was taken.
func TestUncertain(t *testing.T) {
	t.Parallel()
	c := &clusterOf{authoritytest.NewCluster(t, "one")}
	var calls atomic.Int64
	other := c.member(t, "two", func(m *rpc.Mux) {
		rpc.Unary(m, "/orrery.event.v1.Peers/Deliver", fabric.RoleNode, func(_ context.Context, d *event.Delivery) (*event.Receipt, error) {
			switch n := calls.Add(1); {
			case n == 1 && d.To == 0:
				return &event.Receipt{Life: 7}, nil
			case n == 2 && d.To == 7:
				return nil, errors.New("the answer is lost")
			case n == 3 && d.To == 7, n == 4 && d.To == 7:
				return &event.Receipt{Life: 8}, nil
			case n == 5 && d.To == 8:
				return nil, errors.New("the answer is lost")
			}
			return &event.Receipt{Life: d.To, Taken: true}, nil
		})
	})
	s := c.beside(t, &other)
	if err := s.Tell(t.Context(), other.id, "a", nil, ""); !errors.Is(err, event.ErrUncertain) {
		t.Error(err)
	}
	if err := s.Tell(t.Context(), other.id, "a", nil, ""); err != nil {
		t.Error(err)
	}
	if calls.Load() != 6 {
		t.Errorf("%d calls", calls.Load())
	}
}

// TestTakenOnce delivers the same message again and again, as a sender does that gets no answer, and one for another life.
func TestTakenOnce(t *testing.T) {
	t.Parallel()
	all := cluster(t, 2, nil)
	inbox, err := all[1].Receive()
	if err != nil {
		t.Fatal(err)
	}
	deliver := func(d event.Delivery) *event.Receipt {
		t.Helper()
		r, err := rpc.Call[event.Delivery, event.Receipt](t.Context(), all[0].client.Node(all[1].id()), "/orrery.event.v1.Peers/Deliver", &d)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	d := event.Delivery{Message: event.Message{From: "somebody else", Name: "a", By: "a\x1b", Payload: []byte("1"), Time: 1 << 63}, Sender: 1, Number: 1}
	r := deliver(d)
	if r.Taken || r.Life == 0 {
		t.Fatalf("%+v", r)
	}
	for d.To = r.Life; d.Number <= 3; d.Number++ {
		for range 3 {
			if r := deliver(d); !r.Taken {
				t.Errorf("%+v", r)
			}
		}
	}
	for range 3 {
		if m, err := inbox.Next(t.Context()); err != nil || m.From != all[0].id() || m.By != "" {
			t.Errorf("%+v, %v", m, err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if m, err := inbox.Next(short); err == nil {
		t.Errorf("%+v came twice", m)
	}
	if e := send(t, all[1], "b", ""); e.Time > 1000 {
		t.Errorf("a message moved the clock to %d", e.Time)
	}
	d.Name, d.Number = "bad name", 9
	if _, err := rpc.Call[event.Delivery, event.Receipt](t.Context(), all[0].client.Node(all[1].id()), "/orrery.event.v1.Peers/Deliver", &d); !errors.Is(err, event.ErrBadName) {
		t.Error(err)
	}
}

// TestRoles has people do what they may, and what they may not.
func TestRoles(t *testing.T) {
	t.Parallel()
	c := authoritytest.NewCluster(t, "one")
	s := alone(t, event.Config{Authority: c.First, Directory: t.TempDir(), Broadcast: (&recorded{}).broadcast})
	mux := rpc.NewMux(errorsKnown(), nil)
	event.Offer(mux, s)
	server, err := rpc.Listen(t.Context(), rpc.Config{Authority: c.First, Listen: "127.0.0.1:0"}, mux)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work sync.WaitGroup
	work.Go(func() { _ = server.Run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	for _, role := range []fabric.Role{fabric.RoleViewer, fabric.RoleDeveloper, fabric.RoleOperator} {
		client := rpc.NewClient(rpc.ClientConfig{Authority: c.Admit(t, "anna-"+string(role), role), Errors: errorsKnown()})
		r := event.Remote{Peer: client.Address(server.Addr())}
		may := func(what string, need fabric.Role, err error) {
			t.Helper()
			if forbidden := errors.Is(err, fabric.ErrForbidden); forbidden == role.Allows(need) {
				t.Errorf("%s: %s: %v", role, what, err)
			}
		}
		e, err := r.Send(t.Context(), "a", nil)
		may("send", fabric.RoleDeveloper, err)
		if err == nil && (e.By != "anna-"+string(role) || e.From != c.First.Identity().ID) {
			t.Errorf("%+v", e)
		}
		may("tell", fabric.RoleDeveloper, r.Tell(t.Context(), "one", "a", nil))
		_, err = r.Status(t.Context())
		may("status", fabric.RoleViewer, err)
		for _, err = range r.Query(t.Context(), event.QueryRequest{Name: "ping"}) {
		}
		may("query", fabric.RoleDeveloper, err)
		for _, messages := range []bool{false, true} {
			need := fabric.RoleViewer
			if messages {
				need = fabric.RoleOperator
			}
			for _, err = range r.Watch(t.Context(), event.WatchRequest{Messages: messages}) {
				break
			}
			may("watch", need, err)
		}
		answering, done := context.WithCancel(t.Context())
		may("answer", fabric.RoleOperator, r.Answer(answering, "colour", 1, nil, done))
		for _, procedure := range []string{"Pull", "Content", "Deliver", "Ask"} {
			_, err := rpc.Call[struct{}, struct{}](t.Context(), r.Peer, "/orrery.event.v1.Peers/"+procedure, &struct{}{})
			may(procedure, fabric.RoleNode, err)
		}
		done()
		client.Close()
	}
}

// TestAnswererGarbage has a program that answers say what nobody asked, and too much.
func TestAnswererGarbage(t *testing.T) {
	t.Parallel()
	n := cluster(t, 1, nil)[0]
	peer := n.client.Node(n.id())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // not the usual ten seconds: there are megabytes to be looked through
	defer cancel()
	ask := func() error {
		answers, err := n.Query(ctx, "colour", nil, "", nil)
		if err != nil {
			return err
		}
		for a := range answers {
			err = a.Err
		}
		return err
	}
	for _, garbage := range []string{
		`{"number":99,"payload":"AAAA"}` + "\n" + `{"number":0}` + "\n",
		"no JSON",
		`{"number":1,"payload":"` + strings.Repeat("A", 8<<20),
	} {
		var conn net.Conn
		var err error
		testenv.Eventually(t, "the name is free", func() bool {
			conn, err = peer.Stream(t.Context(), "answer", map[string]string{"name": "colour"})
			return err == nil
		})
		go func() {
			_, _ = conn.Write([]byte(garbage))
			var asked struct{ Number uint64 }
			if json.NewDecoder(conn).Decode(&asked) == nil {
				_ = conn.Close()
			}
		}()
		if err := ask(); !errors.Is(err, event.ErrNobody) {
			t.Errorf("%.30s: %v", garbage, err)
		}
		_ = conn.Close()
	}
	if _, err := peer.Stream(t.Context(), "answer", map[string]string{"name": "bad name"}); !errors.Is(err, event.ErrBadName) {
		t.Error(err)
	}
}
