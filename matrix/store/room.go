package store

import "orrery/matrix/table"

// Room is a room that the server knows.
type Room struct {
	ID      int64  `col:"id,key"`
	RoomID  string `col:"room_id"`
	Version string `col:"version"`
	State   int64  `col:"state"`   // the current one
	Public  bool   `col:"public"`  // in the directory
	Blocked bool   `col:"blocked"` // nobody joins it any more
}

// Event is an event in the timeline of a room.
type Event struct {
	Room     int64  `col:"room,key"`
	Order    int64  `col:"order,key"` // in the room: the position at which it came; negative for those that came later from before
	EventID  string `col:"event_id"`
	Type     string `col:"type"`
	Sender   string `col:"sender"`
	State    int64  `col:"state"`    // the room's state after it
	Redacted string `col:"redacted"` // the id of the event that redacted it; its JSON is redacted then
	JSON     []byte `col:"json"`     // canonical
	TxnID    string `col:"txn_id"`   // by which its sender's device knows it: device and id
	Replaces int64  `col:"replaces"` // of a state event, the order of the one that it replaced; 0 if there was none, or it is not known
}

// Extremity is an event of a room without events after it. A room of which there is none has one, its last event: most rooms at most times, so that a message does
// not write it.
type Extremity struct {
	Room    int64  `col:"room,key"`
	EventID string `col:"event_id,key"`
	Hash    string `col:"hash"`
	Depth   int64  `col:"depth"`
}

// Member is what a user is in a room.
type Member struct {
	User       string `col:"user,key"`
	Room       int64  `col:"room,key"`
	Membership string `col:"membership"`
	Order      int64  `col:"order"` // of the event that made them that
	Forgotten  bool   `col:"forgotten"`
}

// Relation says that an event relates to another one.
type Relation struct {
	Room   int64  `col:"room,key"`
	Target string `col:"target,key"` // the other one's id
	Order  int64  `col:"order,key"`  // of the event
	Rel    string `col:"rel"`
	Type   string `col:"type"`
	Sender string `col:"sender"`
}

// Alias is a name of a room.
type Alias struct {
	Alias   string `col:"alias,key"`
	Room    int64  `col:"room"`
	Creator string `col:"creator"`
}

// Transaction is a request that a client may repeat, and what came of it.
type Transaction struct {
	User   string `col:"user,key"`
	Device string `col:"device,key"`
	Path   string `col:"path,key"` // of the request, with its id
	Result string `col:"result"`
	Time   int64  `col:"time"`
}

// Tables of rooms.
var (
	Rooms        = table.Define[Room]("rooms", table.Index{Name: "room_id", Columns: []string{"room_id"}, Unique: true}, table.Index{Name: "public", Columns: []string{"public"}})
	Events       = table.Define[Event]("events", table.Index{Name: "event_id", Columns: []string{"event_id"}, Unique: true})
	Extremities  = table.Define[Extremity]("extremities")
	Members      = table.Define[Member]("members", table.Index{Name: "room", Columns: []string{"room"}})
	Relations    = table.Define[Relation]("relations", table.Index{Name: "rel", Columns: []string{"room", "rel", "order"}})
	Aliases      = table.Define[Alias]("aliases", table.Index{Name: "room", Columns: []string{"room"}})
	Transactions = table.Define[Transaction]("transactions", table.Index{Name: "time", Columns: []string{"time"}})

	roomSchemas = []*table.Schema{Rooms.Schema(), Events.Schema(), Extremities.Schema(), Members.Schema(), Relations.Schema(), Aliases.Schema(), Transactions.Schema(), purges.Schema()}
)

// FindEvent is the event with an id, and whether there is one.
func FindEvent(tx table.Tx, id string) (Event, bool, error) {
	return Events.First(tx, table.Range{Index: "event_id", Prefix: []any{id}})
}

// FindRoom is the room with an id, and whether there is one.
func FindRoom(tx table.Tx, roomID string) (Room, bool, error) {
	return Rooms.First(tx, table.Range{Index: "room_id", Prefix: []any{roomID}})
}

// NewRoom writes a room, and gives it its number.
func NewRoom(tx table.Tx, r Room) (Room, error) {
	id, err := next(tx, metaID, 1)
	if err != nil {
		return r, err
	}
	r.ID = id
	return r, Rooms.Put(tx, r)
}
