package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
)

// maxClients is how many clients are remembered; of more, those that wrote longest ago are forgotten.
const maxClients = 64 << 10

// sessions are the results that clients may ask for again. In memory too, for the head looks at them with every command.
type sessions struct{ clients map[uint64]*session }

type session struct {
	floor   uint64
	newest  uint64 // sequence of the client's last entry
	results map[uint64]chain.Result
}

func (s *sessions) recall(client, request uint64) (r chain.Result, known, over bool) {
	c := s.clients[client]
	if c == nil {
		return r, false, false
	}
	if r, known = c.results[request]; known {
		return r, true, false
	}
	return r, false, request < c.floor
}

// apply remembers an entry's result, and forgets those below its floor.
func (s *sessions) apply(p *pebble.Batch, base []byte, e *chain.Entry) error {
	c := s.clients[e.Client]
	if c == nil {
		c = &session{results: map[uint64]chain.Result{}}
		s.clients[e.Client] = c
	}
	base = number(base, e.Client)
	size := len(base)
	var errs []error
	c.newest = max(c.newest, e.Sequence)
	if e.Floor > c.floor {
		c.floor = e.Floor
		for request := range c.results {
			if request < c.floor {
				delete(c.results, request)
				errs = append(errs, p.Delete(number(base[:size], request), nil))
			}
		}
	}
	c.results[e.Request] = e.Result
	v := binary.AppendUvarint(binary.AppendUvarint(make([]byte, 0, 32), c.floor), e.Sequence)
	errs = append(errs, p.Set(number(base[:size], e.Request), wire.AppendResult(v, e.Result), nil))
	if len(s.clients) > maxClients {
		errs = append(errs, s.evict(p, base[:size-8]))
	}
	return errors.Join(errs...)
}

// evict forgets the older half of the clients.
func (s *sessions) evict(p *pebble.Batch, base []byte) error {
	var sum, n uint64
	for _, c := range s.clients {
		sum += c.newest / uint64(len(s.clients))
		n++
	}
	size := len(base)
	var errs []error
	for id, c := range s.clients {
		if c.newest <= sum {
			start, end := between(number(append([]byte{}, base[:size]...), id))
			errs = append(errs, p.DeleteRange(start, end, nil))
			delete(s.clients, id)
		}
	}
	return errors.Join(errs...)
}

func loadSessions(from pebble.Reader, base []byte) (*sessions, error) {
	s := &sessions{clients: map[uint64]*session{}}
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
	client := binary.BigEndian.Uint64(key)
	c := s.clients[client]
	if c == nil {
		c = &session{results: map[uint64]chain.Result{}}
		s.clients[client] = c
	}
	c.floor, c.newest = max(c.floor, floor), max(c.newest, sequence)
	c.results[binary.BigEndian.Uint64(key[8:])] = r
	return nil
}
