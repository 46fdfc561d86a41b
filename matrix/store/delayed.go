package store

import "orrery/matrix/table"

// DelayedEvent is an event that somebody wanted to be sent later (MSC4140).
type DelayedEvent struct {
	ID       string `col:"id,key"` // whoever knows it may have it sent, or not
	User     string `col:"user"`
	Room     string `col:"room"`
	Type     string `col:"type"`
	IsState  bool   `col:"is_state"`
	StateKey string `col:"state_key"`
	Content  []byte `col:"content"` // JSON
	Delay    int64  `col:"delay"`   // in milliseconds
	Since    int64  `col:"since"`   // when that began
}

// Delayed is one that is to be sent.
type Delayed struct {
	DelayedEvent
	Due int64 `col:"due"`
}

// FinishedDelayed is one that was sent, or never will be (MSC4140: finalised).
type FinishedDelayed struct {
	DelayedEvent
	Time    int64  `col:"time"`     // when it was sent, or it was clear that it will not be
	EventID string `col:"event_id"` // "": it was not sent
	Error   []byte `col:"error"`    // JSON: why it could not be sent; empty otherwise
}

// AllDelayed are all that are to be sent, AllFinishedDelayed the last ones that are not.
var (
	AllFinishedDelayed = table.Define[FinishedDelayed]("finished_delayed_events", table.Index{Name: "time", Columns: []string{"time"}}, table.Index{Name: "user", Columns: []string{"user", "time"}})

	AllDelayed = table.Define[Delayed]("delayed_events", table.Index{Name: "due", Columns: []string{"due"}}, table.Index{Name: "user", Columns: []string{"user", "due"}})

	delayedSchemas = []*table.Schema{AllDelayed.Schema(), AllFinishedDelayed.Schema()}
)
