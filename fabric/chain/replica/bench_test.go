package replica_test

import (
	"encoding/binary"
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// TestReadsAllocateNothing: reads of clean and dirty keys are most of what a replica does.
func TestReadsAllocateNothing(t *testing.T) {
	_, b, _ := dirtyChain(t, usual)
	keys := chain.Range{Start: []byte("l")}
	for name, q := range map[string]replica.Read{"clean": strong(0, "other"), "dirty": strong(0, "k"), "range": {Keys: &keys}} {
		if n := testing.AllocsPerRun(100, func() { b.CanRead(b.now, q) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// BenchmarkCanRead is strong reads of clean keys at the middle of a chain, while others are dirty.
func BenchmarkCanRead(b *testing.B) {
	s := newShown(b, "a", "b", "c")
	out, err := s.all[0].Propose(1, 1, 1, &chain.Command{Client: 1, Request: 1, Do: []chain.Write{{Op: chain.OpPut, Key: []byte("k")}}})
	s.do(b, 0, out, err)
	m := s.queue[0]
	if out, err = s.all[1].Receive(1, &m); err != nil || len(out.Append) != 1 {
		b.Fatalf("%+v, %v", out, err)
	}
	if _, err := s.all[1].SetLease(1, replica.Lease{Until: time.Hour}); err != nil {
		b.Fatal(err)
	}
	if _, ok := s.all[1].CanRead(1, strong(0, "k")); ok {
		b.Fatal("the other key is clean")
	}
	q := strong(0, "other")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.all[1].CanRead(1, q); !ok {
			b.Fatal("refused")
		}
	}
}

// shown is a chain without disks: what is written is durable at once.
type shown struct {
	all    []*replica.Replica
	places map[chain.Replica]int
	queue  []replica.Message
	told   int
	keys   memory
}

func newShown(b *testing.B, names ...string) *shown {
	b.Helper()
	s := &shown{places: map[chain.Replica]int{}, keys: memory{first: 1, keys: map[string]chain.Value{}, floors: map[uint64]uint64{}}}
	for i, n := range names {
		r, err := replica.New(replica.Config{Self: named(n), Storage: &s.keys, MaxPending: 64 << 20, Batch: 1 << 20, ResendAfter: time.Hour})
		if err != nil {
			b.Fatal(err)
		}
		s.all, s.places[named(n)] = append(s.all, r), i
	}
	for i, r := range s.all {
		out, err := r.Configure(1, chain.Config{ID: 1, Epoch: 1, Members: serving(names...)})
		s.do(b, i, out, err)
	}
	s.run(b)
	return s
}

func (s *shown) do(b *testing.B, at int, out replica.Output, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	s.queue = append(s.queue, out.Messages...)
	s.told += len(out.Replies)
	if n := len(out.Append); n > 0 {
		more, err := s.all[at].Persisted(1, out.Append[n-1].Sequence)
		s.do(b, at, more, err)
	}
}

func (s *shown) run(b *testing.B) {
	b.Helper()
	for len(s.queue) > 0 {
		queue := s.queue
		s.queue = nil
		for i := range queue {
			at := s.places[queue[i].To]
			out, err := s.all[at].Receive(1, &queue[i])
			s.do(b, at, out, err)
		}
	}
}

// BenchmarkPropose is writes of 256 bytes through three replicas, 64 under way.
func BenchmarkPropose(b *testing.B) {
	s := newShown(b, "a", "b", "c")
	value, n := make([]byte, 256), 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		key := binary.BigEndian.AppendUint32(nil, uint32(n%10000))
		out, err := s.all[0].Propose(1, 1, replica.Token(n), &chain.Command{
			Client: uint64(n%64) + 1, Request: uint64(n), Floor: uint64(n), Do: []chain.Write{{Op: chain.OpPut, Key: key, Value: value}},
		})
		s.do(b, 0, out, err)
		if n%64 == 0 {
			s.run(b)
		}
	}
	s.run(b)
	if s.told != n {
		b.Fatalf("%d of %d writes ended", s.told, n)
	}
}
