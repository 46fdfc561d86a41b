package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
)

// maxClients is how many clients are remembered; of more, those that wrote longest ago are forgotten.
const maxClients = 64 << 10

// sessions are the results that clients may ask for again. They are in memory, for the head looks at them with every command; the database follows.
type sessions struct {
	clients map[uint64]*session
	// What the database does not have yet, in this order.
	evicted []uint64 // clients that were forgotten
	over    []name   // results that were
	added   []name   // results; those that are over are not there any more
}

type session struct {
	floor   uint64
	newest  uint64 // sequence of the client's last entry
	results map[uint64]result
}

type name struct{ client, request uint64 }

// result is one that is remembered.
type result struct {
	chain.Result
	stored bool // in the database
}

func newSessions() *sessions { return &sessions{clients: map[uint64]*session{}} }

// client is what is known of a client.
func (s *sessions) client(id uint64) *session {
	c := s.clients[id]
	if c == nil {
		c = &session{results: map[uint64]result{}}
		s.clients[id] = c
	}
	return c
}

func (s *sessions) recall(client, request uint64) (r chain.Result, known, over bool) {
	c := s.clients[client]
	if c == nil {
		return r, false, false
	}
	if r, known := c.results[request]; known {
		return r.Result, true, false
	}
	return r, false, request < c.floor
}

// take remembers an entry's result, and forgets those below its floor.
func (s *sessions) take(e *chain.Entry) {
	c := s.client(e.Client)
	c.newest = max(c.newest, e.Sequence)
	if e.Floor > c.floor {
		c.floor = e.Floor
		for request, r := range c.results {
			if request < c.floor {
				delete(c.results, request)
				if r.stored {
					s.over = append(s.over, name{e.Client, request})
				}
			}
		}
	}
	c.results[e.Request] = result{Result: e.Result}
	s.added = append(s.added, name{e.Client, e.Request})
	if len(s.clients) > maxClients {
		s.evict()
	}
}

// evict forgets the older half of the clients.
func (s *sessions) evict() {
	var sum uint64
	for _, c := range s.clients {
		sum += c.newest / uint64(len(s.clients))
	}
	for id, c := range s.clients {
		if c.newest <= sum {
			s.evicted = append(s.evicted, id)
			delete(s.clients, id)
		}
	}
}

// fill adds what the database does not have yet.
func (s *sessions) fill(p *pebble.Batch, base []byte) error {
	var errs []error
	size := len(base)
	key := func(n name) []byte { return number(number(base[:size], n.client), n.request) }
	for _, id := range s.evicted {
		start, end := between(number(bytes.Clone(base[:size]), id))
		errs = append(errs, p.DeleteRange(start, end, nil))
	}
	for _, n := range s.over {
		errs = append(errs, p.Delete(key(n), nil))
	}
	var enc []byte
	for _, n := range s.added {
		c := s.clients[n.client]
		if c == nil {
			continue
		}
		if r, ok := c.results[n.request]; ok {
			enc = binary.AppendUvarint(binary.AppendUvarint(enc[:0], c.floor), c.newest)
			enc = wire.AppendResult(enc, r.Result)
			errs = append(errs, p.Set(key(n), enc, nil))
		}
	}
	return errors.Join(errs...)
}

// filled notes that the database has all.
func (s *sessions) filled() {
	for _, n := range s.added {
		if c := s.clients[n.client]; c != nil {
			if r, ok := c.results[n.request]; ok {
				r.stored = true
				c.results[n.request] = r
			}
		}
	}
	s.evicted, s.over, s.added = s.evicted[:0], s.over[:0], s.added[:0]
}

func loadSessions(from pebble.Reader, base []byte) (*sessions, error) {
	s := newSessions()
	start, end := between(base)
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return nil, err
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = s.load(it.Key()[len(base):], v)
		}
		if err != nil {
			return nil, errors.Join(damaged(err), it.Close())
		}
	}
	return s, ended(it)
}

func (s *sessions) load(key, value []byte) error {
	floor, n := binary.Uvarint(value)
	sequence, m := binary.Uvarint(value[max(n, 0):])
	if len(key) != 16 || n <= 0 || m <= 0 {
		return fmt.Errorf("%w: a client's result", chain.ErrCorrupt)
	}
	r, err := wire.DecodeResult(value[n+m:])
	if err != nil {
		return err
	}
	c := s.client(binary.BigEndian.Uint64(key))
	c.floor, c.newest = max(c.floor, floor), max(c.newest, sequence)
	c.results[binary.BigEndian.Uint64(key[8:])] = result{r, true}
	return nil
}
