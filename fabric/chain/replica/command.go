package replica

import (
	"bytes"

	"orrery/fabric/chain"
	"orrery/fabric/chain/machine"
)

// Propose decides a command. date is milliseconds since 1970 by the node's calendar. The reply with the token comes in an output, now or later.
func (r *Replica) Propose(now Instant, date int64, t Token, c *chain.Command) (Output, error) {
	reply, err := r.decide(now, date, t, c)
	if reply != nil {
		reply.Token = t
		r.output.Replies = append(r.output.Replies, *reply)
	}
	return r.finish(now, err)
}

// decide makes the command's entry, or says at once how it ends.
func (r *Replica) decide(now Instant, date int64, t Token, c *chain.Command) (*Reply, error) {
	if r.self != 0 {
		return &Reply{Err: chain.ErrNotServing}, nil
	}
	if refused := machine.Check(c); refused != nil {
		return &Reply{Err: refused}, nil //nolint:nilerr // it is the command's, not the replica's
	}
	if !r.broken(RuleOnce) {
		if s, ok := r.named[name{c.Client, c.Request}]; ok {
			r.at(s).tokens = append(r.at(s).tokens, t)
			return nil, nil
		}
		result, known, over, err := r.config.Storage.Recall(c.Client, c.Request)
		switch {
		case err != nil:
			return nil, err
		case over:
			return &Reply{Result: chain.Result{Outcome: chain.Superseded}}, nil
		case known:
			return &Reply{Result: result}, nil
		}
	}
	if r.bytes > r.config.MaxPending {
		return &Reply{Err: chain.ErrBusy}, nil
	}
	var state machine.View = newest{r}
	if r.broken(RuleConditionals) {
		state = r.config.Storage
	}
	at := machine.Stamp{Epoch: r.chain.Epoch, Sequence: r.last + 1, Time: max(r.time, date)}
	scope := r.chain.Range
	if r.broken(RuleScope) {
		scope = chain.Range{}
	}
	e, err := machine.Decide(state, scope, c, at)
	if err != nil {
		return nil, err
	}
	r.order(now, e)
	r.at(r.last).tokens = []Token{t}
	return nil, nil
}

// order puts an entry into the log, at the head.
func (r *Replica) order(now Instant, e chain.Entry) {
	r.push(now, e)
	r.output.Append = append(r.output.Append, e)
}

// expire deletes keys whose time is over.
func (r *Replica) expire(now Instant, date int64) error {
	date = max(r.time, date)
	keys, err := r.config.Storage.Expired(date, 256)
	if err != nil {
		return err
	}
	e := chain.Entry{Epoch: r.chain.Epoch, Sequence: r.last + 1, Time: date, Result: chain.Result{Version: r.last + 1}}
	for _, k := range keys {
		if len(r.dirty[string(k)]) == 0 && r.chain.Range.Contains(k) {
			e.Changes = append(e.Changes, chain.Change{Key: k, Deleted: true})
		}
	}
	if len(e.Changes) > 0 {
		r.order(now, e)
	}
	return nil
}

// newest is the state with the pending entries.
type newest struct{ r *Replica }

var _ machine.View = newest{}

func (n newest) Get(key []byte) (chain.Value, bool, error) {
	all := n.r.dirty[string(key)]
	if len(all) == 0 {
		return n.r.config.Storage.Get(key)
	}
	e := &n.r.at(all[len(all)-1]).entry
	for _, c := range e.Changes { // one a key
		if bytes.Equal(c.Key, key) {
			if c.Deleted {
				return chain.Value{}, false, nil
			}
			return chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}, true, nil
		}
	}
	return chain.Value{}, false, chain.ErrCorrupt
}

func (n newest) Recall(client, request uint64) (chain.Result, bool, bool, error) {
	return n.r.config.Storage.Recall(client, request)
}

func (n newest) Expired(time int64, limit int) ([][]byte, error) {
	return n.r.config.Storage.Expired(time, limit)
}
