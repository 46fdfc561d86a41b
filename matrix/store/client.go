package store

import (
	"orrery/matrix/canonical"
	"orrery/matrix/table"
)

// AccountData is what a client keeps for itself, in all rooms or in one.
type AccountData struct {
	User     string `col:"user,key"`
	Room     string `col:"room,key"` // "": global
	Type     string `col:"type,key"`
	Position int64  `col:"position"`
	JSON     []byte `col:"json"`
}

// Deleted says whether account data count as not there: what remains of them is empty, so that devices hear of it (MSC3391: "{}" as effectively "deleted").
func (d AccountData) Deleted() bool { return string(d.JSON) == "{}" }

// DeleteAccountData deletes account data, and says whether there were any.
func DeleteAccountData(tx table.Tx, advance func(int) (int64, error), user, room, kind string) (bool, error) {
	d, ok, err := AllAccountData.Get(tx, user, room, kind)
	if err != nil || !ok || d.Deleted() {
		return false, err
	}
	d.JSON = []byte("{}")
	if d.Position, err = advance(1); err != nil {
		return false, err
	}
	return true, AllAccountData.Put(tx, d)
}

// ChangeAccountData writes what a function makes of account data, which are {} if there are none, unless it says that there is nothing to do, and says whether it wrote.
func ChangeAccountData(tx table.Tx, advance func(int) (int64, error), user, room, kind string, with func(canonical.Value) (canonical.Value, bool)) (bool, error) {
	d, ok, err := AllAccountData.Get(tx, user, room, kind)
	if err != nil {
		return false, err
	}
	v := canonical.Of()
	if ok {
		if v, err = canonical.Parse(d.JSON, canonical.Lax); err != nil {
			return false, err
		}
	}
	v, something := with(v)
	if !something {
		return false, nil
	}
	d = AccountData{User: user, Room: room, Type: kind, JSON: v.JSON()}
	if d.Position, err = advance(1); err != nil {
		return false, err
	}
	return true, AllAccountData.Put(tx, d)
}

// Tags are those that account data of a room's tags have (clause client-server API, room tagging).
func Tags(data canonical.Value) canonical.Value {
	if tags := data.Get("tags"); tags.Kind() == canonical.Object {
		return tags
	}
	return canonical.Of()
}

// Filter is what a client wants of /sync, once said.
type Filter struct {
	User string `col:"user,key"`
	ID   int64  `col:"id,key"`
	JSON []byte `col:"json"`
}

// Receipt says up to which event a user has read a room, or a thread of it.
type Receipt struct {
	Room     string `col:"room,key"`
	User     string `col:"user,key"`
	Type     string `col:"type,key"`
	Thread   string `col:"thread,key"` // "": none
	EventID  string `col:"event_id"`
	Order    int64  `col:"order"` // of the event in the room
	Time     int64  `col:"time"`
	Position int64  `col:"position"`
}

// Subscription is a user's to a thread, or says that there was one (MSC4306).
type Subscription struct {
	User       string `col:"user,key"`
	Room       string `col:"room,key"`
	Thread     string `col:"thread,key"` // the id of its root
	Position   int64  `col:"position"`   // of the last change
	Subscribed bool   `col:"subscribed"`
	Automatic  bool   `col:"automatic"` // a client decided it, not the user
}

// Status is what a user says of themselves, beside whether they are there.
type Status struct {
	User string `col:"user,key"`
	Text string `col:"text"`
}

// Tables of what belongs to clients.
var (
	AllAccountData = table.Define[AccountData]("account_data", table.Index{Name: "position", Columns: []string{"user", "position"}})
	Filters        = table.Define[Filter]("filters")
	Receipts       = table.Define[Receipt]("receipts", table.Index{Name: "position", Columns: []string{"room", "position"}})
	Statuses       = table.Define[Status]("statuses")
	Subscriptions  = table.Define[Subscription]("thread_subscriptions", table.Index{Name: "position", Columns: []string{"user", "position"}},
		table.Index{Name: "room", Columns: []string{"room"}})

	clientSchemas = []*table.Schema{AllAccountData.Schema(), Filters.Schema(), Receipts.Schema(), Statuses.Schema(), Subscriptions.Schema()}
)
