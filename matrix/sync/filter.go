package sync

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
)

// Filter is what a client wants to hear of (clause client-server API, filtering).
type Filter struct {
	Room        RoomFilter  `json:"room"`
	AccountData EventFilter `json:"account_data"`
	Presence    EventFilter `json:"presence"`
}

// RoomFilter is a Filter's part about rooms.
type RoomFilter struct {
	Rooms        []string    `json:"rooms"`
	NotRooms     []string    `json:"not_rooms"`
	IncludeLeave bool        `json:"include_leave"`
	Timeline     EventFilter `json:"timeline"`
	State        EventFilter `json:"state"`
	Ephemeral    EventFilter `json:"ephemeral"`
	AccountData  EventFilter `json:"account_data"`
}

// EventFilter chooses events.
type EventFilter struct {
	Limit           *int     `json:"limit"`
	Types           []string `json:"types"`
	NotTypes        []string `json:"not_types"`
	Senders         []string `json:"senders"`
	NotSenders      []string `json:"not_senders"`
	Rooms           []string `json:"rooms"`
	NotRooms        []string `json:"not_rooms"`
	ContainsURL     *bool    `json:"contains_url"`
	LazyLoadMembers bool     `json:"lazy_load_members"`

	IncludeRedundantMembers bool `json:"include_redundant_members"`

	CountThreads bool `json:"unread_thread_notifications"`

	// How events relate to others, as m.relates_to says; "" is that of events that relate to none (MSC3874).
	Rels    []string `json:"org.matrix.msc3874.rel_types"`
	NotRels []string `json:"org.matrix.msc3874.not_rel_types"`
}

// ReadFilter reads a Filter, or one of its parts, and says what in it cannot be: the error is matrix.ErrMalformed.
func ReadFilter(text []byte, f interface{ Valid() error }) error {
	if err := json.Unmarshal(text, f); err != nil {
		return fmt.Errorf("the filter is %w: %w", matrix.ErrMalformed, err)
	}
	return f.Valid()
}

// How many filters that requests have whole are kept read, and how long their texts may be: a client sends the same one each time.
const (
	maxWhole     = 200
	maxWholeText = 1000
)

// wholeFilters are some of the filters that requests had whole, by their text.
type wholeFilters struct {
	mu    sync.Mutex
	known map[string]*Filter
}

// WholeFilter is a filter that a request has whole. Nobody changes it.
func (s *Syncer) WholeFilter(text string) (*Filter, error) {
	w := &s.whole
	w.mu.Lock()
	f := w.known[text]
	w.mu.Unlock()
	if f != nil {
		return f, nil
	}
	f = &Filter{}
	if err := ReadFilter([]byte(text), f); err != nil || len(text) > maxWholeText {
		return f, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known == nil || len(w.known) >= maxWhole {
		w.known = map[string]*Filter{}
	}
	w.known[text] = f
	return f, nil
}

// Valid is nil if the rooms and users that are named can be such.
func (f *Filter) Valid() error {
	if err := begin("!", f.Room.Rooms, f.Room.NotRooms); err != nil {
		return err
	}
	for _, part := range []*EventFilter{&f.AccountData, &f.Presence, &f.Room.Timeline, &f.Room.State, &f.Room.Ephemeral, &f.Room.AccountData} {
		if err := part.Valid(); err != nil {
			return err
		}
	}
	return nil
}

// Valid is nil if the rooms and users that are named can be such.
func (f *EventFilter) Valid() error {
	if err := begin("!", f.Rooms, f.NotRooms); err != nil {
		return err
	}
	return begin("@", f.Senders, f.NotSenders)
}

// begin sees to it that all ids of some lists begin as those of their kind do.
func begin(sigil string, lists ...[]string) error {
	for _, id := range slices.Concat(lists...) {
		if !strings.HasPrefix(id, sigil) {
			return fmt.Errorf("the filter is %w: %.40q does not begin with %s", matrix.ErrMalformed, id, sigil)
		}
	}
	return nil
}

func (f *RoomFilter) wants(id string) bool { return among(id, f.Rooms, f.NotRooms) }

// among says whether a name is in one list, if there is one, and not in another.
func among(name string, these, not []string) bool {
	return (these == nil || slices.Contains(these, name)) && !slices.Contains(not, name)
}

// WantsRoom says whether events of a room are wanted.
func (f *EventFilter) WantsRoom(id string) bool { return among(id, f.Rooms, f.NotRooms) }

// wantsType says whether events of a type are wanted.
func (f *EventFilter) wantsType(kind string) bool {
	return (f.Types == nil || matches(f.Types, kind)) && !matches(f.NotTypes, kind)
}

// wantsOf says whether events of a type are wanted of a sender.
func (f *EventFilter) wantsOf(kind, sender string) bool {
	return f.wantsType(kind) && among(sender, f.Senders, f.NotSenders)
}

// wantsIn says whether something of a type that nobody sent is wanted of a room.
func (f *EventFilter) wantsIn(room, kind string) bool { return f.wantsType(kind) && f.WantsRoom(room) }

// Wants says whether an event is wanted.
func (f *EventFilter) Wants(e *event.Event) bool {
	if !f.wantsOf(e.Type(), e.Sender()) || !f.WantsRoom(e.RoomID()) {
		return false
	}
	if (f.Rels != nil || f.NotRels != nil) && !among(e.Content().Get("m.relates_to", "rel_type").String(), f.Rels, f.NotRels) {
		return false
	}
	return f.ContainsURL == nil || *f.ContainsURL == (e.Content().Get("url").Kind() == canonical.String)
}
