package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"orrery/matrix/store"
	"orrery/matrix/sync/window"
	"orrery/matrix/table"
)

// Extensions are what a client asks for besides rooms (MSC4186, extensions); nil if it does not.
type Extensions struct {
	ToDevice    *ToDeviceAsked // MSC3885
	Encryption  bool           // MSC3884
	AccountData *Scope         // MSC3959
	Receipts    *Scope         // MSC3960
	Typing      *Scope         // MSC3961
	Threads     int            // how many subscriptions to threads at most (MSC4308); 0: none
}

// ToDeviceAsked is which messages to its device a client wants; it has those up to a position.
type ToDeviceAsked struct {
	Since int64
	Limit int
}

// Scope is of which rooms an extension tells: those that some lists chose, and some that are subscribed to; nil stands for all.
type Scope struct{ Lists, Rooms []string }

func (s *Scope) has(w window.Room, subscribed bool) bool {
	return subscribed && (s.Rooms == nil || slices.Contains(s.Rooms, w.ID)) ||
		slices.ContainsFunc(w.Lists, func(name string) bool { return s.Lists == nil || slices.Contains(s.Lists, name) })
}

// Extended is what extensions tell; nil where the client did not ask.
type Extended struct {
	ToDevice    *ToDeviceTold
	Encryption  *EncryptionTold
	AccountData *AccountDataTold
	Receipts    map[string]json.RawMessage // by room
	Typing      map[string]json.RawMessage
	Threads     *SubscriptionsTold // nil: nothing changed, too
}

// ToDeviceTold are messages, and from where the client asks next.
type ToDeviceTold struct {
	Next   string            `json:"next_batch"`
	Events []json.RawMessage `json:"events"`
}

// EncryptionTold is what changed about keys.
type EncryptionTold struct {
	Lists     *DeviceLists   `json:"device_lists,omitempty"`
	Counts    map[string]int `json:"device_one_time_keys_count"`
	Fallbacks []string       `json:"device_unused_fallback_key_types"`
}

// AccountDataTold is what changed of account data.
type AccountDataTold struct {
	Global []json.RawMessage            `json:"global"`
	Rooms  map[string][]json.RawMessage `json:"rooms"`
}

func (x *Extended) empty() bool {
	return (x.ToDevice == nil || len(x.ToDevice.Events) == 0) && (x.Encryption == nil || x.Encryption.Lists == nil) &&
		(x.AccountData == nil || len(x.AccountData.Global)+len(x.AccountData.Rooms) == 0) && len(x.Receipts)+len(x.Typing) == 0 && x.Threads == nil
}

// extend adds what extensions tell.
func (a *sliding) extend(ctx context.Context, resp *SlidingResponse, chosen []window.Room, next *snapshot) error {
	if x := a.q.Extensions.ToDevice; x != nil {
		if err := a.toDevice(ctx, x, resp); err != nil {
			return err
		}
	}
	if a.q.Extensions.Encryption {
		if err := a.encryption(ctx, resp, next); err != nil {
			return err
		}
	}
	if x := a.q.Extensions.AccountData; x != nil {
		if err := a.accountData(ctx, x, resp, chosen, next); err != nil {
			return err
		}
	}
	if limit := a.q.Extensions.Threads; limit > 0 && a.s.subscriptions {
		told, more, err := a.s.Subscriptions(ctx, a.q.User, a.had.threads, a.upTo, limit)
		if err != nil {
			return err
		}
		if told != nil && more > 0 {
			told.Prev = a.s.Token(more)
		}
		resp.Threads, next.threads = told, a.upTo
	}
	return a.ephemeral(ctx, resp, chosen, next)
}

func (a *sliding) toDevice(ctx context.Context, x *ToDeviceAsked, resp *SlidingResponse) error {
	out := &ToDeviceTold{Next: a.s.Token(max(a.upTo, x.Since)), Events: []json.RawMessage{}}
	resp.ToDevice = out
	found, last, err := a.s.messages(ctx, device{a.q.User, a.q.Device}, x.Since, a.upTo, x.Limit)
	if out.Events = append(out.Events, found...); len(found) == x.Limit {
		out.Next = a.s.Token(last)
	}
	return err
}

func (a *sliding) encryption(ctx context.Context, resp *SlidingResponse, next *snapshot) error {
	out := &EncryptionTold{}
	if next.devices = a.upTo; a.had.devices != 0 {
		lists, err := a.s.DeviceLists(ctx, a.q.User, a.had.devices, a.upTo)
		if err != nil {
			return err
		}
		if len(lists.Changed)+len(lists.Left) > 0 {
			out.Lists = lists
		}
	}
	resp.Encryption = out
	left, err := a.s.stock(ctx, device{a.q.User, a.q.Device})
	out.Counts, out.Fallbacks = left.counts, left.fallbacks
	return err
}

// touch is what the client will have been told of a room, to be changed.
func (s *snapshot) touch(id string) *told {
	t := *s.rooms[id]
	s.rooms[id] = &t
	return &t
}

func (a *sliding) accountData(ctx context.Context, x *Scope, resp *SlidingResponse, chosen []window.Room, next *snapshot) error {
	out := &AccountDataTold{Global: []json.RawMessage{}, Rooms: map[string][]json.RawMessage{}}
	from := map[string]int64{"": a.had.data}
	least := a.had.data
	for _, w := range chosen {
		if _, subscribed := a.q.Rooms.Subscriptions[w.ID]; x.has(w, subscribed) {
			t := next.touch(w.ID)
			from[w.ID], least = t.data, min(least, t.data)
			t.data = a.upTo
		}
	}
	next.data = a.upTo
	toldRules := false
	last, err := a.s.lastData(ctx, a.q.User)
	if err != nil {
		return err
	}
	if last > least {
		toldRules, err = a.scanData(ctx, from, least, out)
	}
	if err == nil && a.had.data == 0 && !toldRules {
		var rules json.RawMessage
		if rules, err = a.s.defaultRules(a.q.User); err == nil {
			out.Global = append(out.Global, rules)
		}
	}
	resp.AccountData = out
	return err
}

// scanData adds account data that is newer than what the client has of each room, and says whether the push rules are among it.
func (a *sliding) scanData(ctx context.Context, from map[string]int64, least int64, out *AccountDataTold) (toldRules bool, err error) {
	err = a.s.stream.DB().View(ctx, func(tx table.Tx) error {
		for d, err := range store.AllAccountData.Scan(tx, table.Range{Index: "position", Prefix: []any{a.q.User}, From: least + 1, Before: a.upTo + 1}) {
			if err != nil {
				return err
			}
			since, wanted := from[d.Room]
			if !wanted || d.Position <= since || since == 0 && d.Deleted() {
				continue
			}
			content := fmt.Appendf(nil, `{"type":%s,"content":%s}`, quote(d.Type), d.JSON)
			if d.Room != "" {
				out.Rooms[d.Room] = append(out.Rooms[d.Room], content)
				continue
			}
			toldRules = toldRules || d.Type == PushRules
			out.Global = append(out.Global, content)
		}
		return nil
	})
	return toldRules, err
}

// ephemeral adds receipts and who types. Of a room that is new to the client only the receipts of events that it is told of, and its own ones, are told
// (MSC3960).
func (a *sliding) ephemeral(ctx context.Context, resp *SlidingResponse, chosen []window.Room, next *snapshot) error {
	receipts, typing := a.q.Extensions.Receipts, a.q.Extensions.Typing
	if receipts != nil {
		resp.Receipts = map[string]json.RawMessage{}
	}
	if typing != nil {
		resp.Typing = map[string]json.RawMessage{}
	}
	for _, w := range chosen {
		_, subscribed := a.q.Rooms.Subscriptions[w.ID]
		ofReceipts, ofTyping := receipts != nil && receipts.has(w, subscribed), typing != nil && typing.has(w, subscribed)
		if next.rooms[w.ID].membership != "join" || !ofReceipts && !ofTyping {
			continue
		}
		e, err := a.s.ephemeral(ctx, w.ID)
		if err != nil {
			return err
		}
		t := next.touch(w.ID)
		if ofReceipts {
			var only map[string]bool
			if t.receipts == 0 {
				only = map[string]bool{}
				if out := resp.Rooms[w.ID]; out != nil {
					only = out.ids()
				}
			}
			if event := e.receiptsFor(a.q.User, t.receipts, a.upTo, only); event != nil {
				resp.Receipts[w.ID] = event
			}
			t.receipts = a.upTo
		}
		if ofTyping {
			if event := e.typingFor(t.typing, a.upTo); event != nil {
				resp.Typing[w.ID] = event
			}
			t.typing = a.upTo
		}
	}
	return nil
}

// ids are those of the events of the timeline.
func (r *SlidingRoom) ids() map[string]bool {
	found := map[string]bool{}
	for _, text := range r.Timeline {
		var e struct {
			ID string `json:"event_id"`
		}
		if json.Unmarshal(text, &e) == nil {
			found[e.ID] = true
		}
	}
	return found
}
