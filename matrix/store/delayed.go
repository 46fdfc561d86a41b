package store

import "orrery/matrix/table"

// Delayed is an event that is sent later (MSC4140).
type Delayed struct {
	ID       string `col:"id,key"` // whoever knows it may have it sent, or not
	User     string `col:"user"`
	Room     string `col:"room"`
	Type     string `col:"type"`
	IsState  bool   `col:"is_state"`
	StateKey string `col:"state_key"`
	Content  []byte `col:"content"` // JSON
	Delay    int64  `col:"delay"`   // in milliseconds
	Since    int64  `col:"since"`   // when that began
	Due      int64  `col:"due"`
}

// AllDelayed are all of them.
var (
	AllDelayed = table.Define[Delayed]("delayed_events", table.Index{Name: "due", Columns: []string{"due"}}, table.Index{Name: "user", Columns: []string{"user", "due"}})

	delayedSchemas = []*table.Schema{AllDelayed.Schema()}
)
