package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/clip"
	"orrery/clip/replica"
)

// fetcher is the part of a session that gets items from the other side. It belongs to the session's reader.
type fetcher struct {
	*session
	number  uint32
	fetches map[uint32]*fetch
	todo    []replica.Key        // what is wanted, as it was looked up last
	lacked  map[replica.Key]bool // what the other side does not have
	fresh   replica.Key          // what was copied there right now
	hasNew  bool
}

// fetch is an item on its way.
type fetch struct {
	key    replica.Key
	kept   replica.Stamp // of the entry when it was asked for
	head   *head
	before *head // of the transfer that was interrupted
	data   []byte
	offset int64     // from which on it was asked for
	at     time.Time // of the interruption
}

// changed says that there may be more to get.
func (f *fetcher) changed() { f.todo = nil }

// again has what could not be got tried again.
func (f *fetcher) again() {
	clear(f.lacked)
	f.todo = nil
}

// more asks for items: what was copied right now, and one of those that were copied last.
func (f *fetcher) more() error {
	if !f.receives() {
		return nil
	}
	if f.hasNew && len(f.fetches) < maxWants && !f.getting(f.fresh) && f.isWanted(f.fresh) {
		if err := f.get(f.fresh); err != nil {
			return err
		}
	}
	for len(f.fetches) == 0 || len(f.fetches) == 1 && f.hasNew && f.getting(f.fresh) {
		k, ok := f.next()
		if !ok {
			return nil
		}
		if err := f.get(k); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetcher) getting(k replica.Key) bool {
	for _, g := range f.fetches {
		if g.key == k {
			return true
		}
	}
	return false
}

func (f *fetcher) isWanted(k replica.Key) bool {
	known, err := f.node.History.Entries([]replica.Key{k})
	if err != nil || len(known) == 0 || !known[0].Entry.Live() {
		return false
	}
	_, here := f.node.History.Find(k)
	return !here
}

// next is the next item to get from this machine.
func (f *fetcher) next() (replica.Key, bool) {
	for looked := false; ; {
		for len(f.todo) > 0 {
			k := f.todo[0]
			f.todo = f.todo[1:]
			if !f.lacked[k] && !f.getting(k) && f.isWanted(k) && f.worth(k) {
				return k, true
			}
		}
		if looked {
			return replica.Key{}, false
		}
		f.todo, looked = f.node.History.Wanted(64+len(f.lacked)), true
	}
}

// worth says whether an item is within the limits; if not, nothing is kept of it.
func (f *fetcher) worth(k replica.Key) bool {
	known, err := f.node.History.Entries([]replica.Key{k})
	if err != nil || len(known) == 0 {
		return false
	}
	if f.node.Rules.allows(&known[0].Entry) && f.node.History.Worth(&known[0].Entry, f.node.Limits, time.Now()) {
		return true
	}
	f.forget(k)
	return false
}

func (f *fetcher) forget(k replica.Key) {
	if err := f.node.History.Forget(k); err != nil {
		f.node.Logger.Warn("cannot forget an item that is not to be fetched", "error", err)
	}
}

// get asks for an item, from where an interrupted transfer ended.
func (f *fetcher) get(k replica.Key) error {
	if !f.node.claim(k) {
		f.lacked[k] = true // another session gets it
		return nil
	}
	known, err := f.node.History.Entries([]replica.Key{k})
	if err != nil || len(known) == 0 {
		f.node.release(k)
		return err
	}
	f.number++
	g := &fetch{key: k, kept: known[0].Entry.Kept()}
	if p := f.node.partial(k); p != nil {
		g.before, g.data, g.offset = p.head, p.data, int64(len(p.data))
	}
	f.fetches[f.number] = g
	return f.send(want{f.number, k, g.offset, g.kept}.frame())
}

// take takes a frame of an item in.
func (f *fetcher) take(ctx context.Context, in frame) error {
	number, rest, err := decodeNumber(in.body)
	if err != nil {
		return err
	}
	g := f.fetches[number]
	if g == nil {
		if number == 0 || number > f.number {
			return malformed("it sends what nobody asked for")
		}
		return nil // it was called off
	}
	switch in.kind {
	case typeLack:
		f.done(number)
		f.lacked[g.key] = true
		if len(rest) == 1 && rest[0] == 1 && f.node.nobodyHas(g.key, g.kept, f.device) {
			f.forget(g.key)
		}
		return nil
	case typeItem:
		return f.begin(ctx, number, g, in.body)
	}
	if g.head == nil || len(rest) == 0 || int64(len(g.data)+len(rest)) > g.head.size() {
		return malformed("it sends more of an item than there is")
	}
	g.data = append(g.data, rest...)
	f.node.count(f.device, func(c *Counts) { c.BytesReceived += int64(len(rest)) })
	return f.finish(ctx, number, g)
}

// begin takes the head of an item in.
func (f *fetcher) begin(ctx context.Context, number uint32, g *fetch, body []byte) error {
	h, err := decodeHead(body)
	if err != nil {
		return err
	}
	if h.offset != g.offset || g.head != nil {
		return malformed("it begins an item at another place than was asked for")
	}
	if g.before != nil && !slices.Equal(g.before.Contents, h.Contents) { // what is here already is of another order
		f.done(number)
		return errors.Join(f.send(numbered(typeCancel, number)), f.get(g.key))
	}
	g.head = &h
	if why := f.node.refuses(&h); why != "" {
		f.done(number)
		f.node.refused(f.device, why)
		f.forget(g.key)
		return f.send(numbered(typeCancel, number))
	}
	if _, err := f.node.History.Merge([]replica.Change{{Key: g.key, Entry: h.entry}}, f.node.wants); err != nil {
		return fmt.Errorf("cannot keep what the other machine says: %w", err)
	}
	return f.finish(ctx, number, g)
}

// finish keeps an item once all of it is here.
func (f *fetcher) finish(ctx context.Context, number uint32, g *fetch) error {
	if int64(len(g.data)) < g.head.size() {
		return nil
	}
	f.done(number)
	item := clip.Item{App: g.head.App, Created: time.UnixMilli(g.head.Created)}
	rest := g.data
	for _, c := range g.head.Contents {
		item.Contents = append(item.Contents, clip.Content{Type: c.Type, Data: rest[:c.Size:c.Size]})
		rest = rest[c.Size:]
	}
	if why := f.node.Recorder.Accept(item); why != "" {
		f.node.refused(f.device, string(why))
		f.forget(g.key)
		return nil
	}
	s, fresh, err := f.node.History.Receive(g.key, item)
	switch {
	case errors.Is(err, clip.ErrCorrupt):
		return fmt.Errorf("%w: %w", errProtocol, err)
	case err != nil:
		return fmt.Errorf("cannot keep an item of another machine: %w", err)
	case !fresh:
		return nil
	}
	f.node.count(f.device, func(c *Counts) { c.Received++ })
	f.node.Recorder.Arrived(s)
	if f.hasNew && f.fresh == g.key {
		f.show(ctx)
	}
	return nil
}

// done ends a fetch.
func (f *fetcher) done(number uint32) {
	f.node.release(f.fetches[number].key)
	delete(f.fetches, number)
}

// hint notes that the other side has an item, which is new there if fresh.
func (f *fetcher) hint(ctx context.Context, k replica.Key, fresh bool) {
	delete(f.lacked, k)
	f.todo = nil
	if !fresh || !f.node.Rules.Live {
		return
	}
	f.fresh, f.hasNew = k, true
	if _, here := f.node.History.Find(k); here {
		f.show(ctx)
	}
}

// show puts what is new into the clipboard, unless something was copied since.
func (f *fetcher) show(ctx context.Context) {
	f.hasNew = false
	if err := f.node.show(f.fresh); err != nil {
		f.node.Logger.WarnContext(ctx, "what was copied on another machine is not in the clipboard", "error", err)
	}
}

// end keeps what was received of items for another session.
func (f *fetcher) end() {
	for number, g := range f.fetches {
		if g.head != nil && len(g.data) > 0 {
			f.node.keepPartial(g)
		}
		f.done(number)
	}
}
