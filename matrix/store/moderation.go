package store

import "orrery/matrix/table"

// Report is what a user says of an event, a room or another user to whoever runs the server.
type Report struct {
	ID      int64  `col:"id,key"`
	Time    int64  `col:"time"`
	User    string `col:"user"` // who says it
	Room    string `col:"room"`
	Event   string `col:"event"`
	Subject string `col:"subject"` // the user of whom it is
	Reason  string `col:"reason"`
	Score   int64  `col:"score"` // -100 for the most offensive
}

// Dehydrated is a device that a user keeps on the server, encrypted, so that it gets messages while none of the others is there.
type Dehydrated struct {
	User   string `col:"user,key"`
	Device string `col:"device"`
	Data   []byte `col:"data"` // JSON
}

// BlockedRoom is a room that the server does not know, and that nobody is to join. Of one that it knows, the room says so.
type BlockedRoom struct {
	Room string `col:"room,key"`
	Time int64  `col:"time"`
}

// Tables of moderation, and of what little belongs elsewhere.
var (
	Reports     = table.Define[Report]("reports")
	Dehydrateds = table.Define[Dehydrated]("dehydrated_devices")

	BlockedRooms = table.Define[BlockedRoom]("blocked_rooms")

	moderationSchemas = []*table.Schema{Reports.Schema(), Dehydrateds.Schema(), BlockedRooms.Schema()}
)

// NewReport writes a report, and gives it its number.
func NewReport(tx table.Tx, r Report) error {
	id, err := next(tx, metaID, 1)
	if err != nil {
		return err
	}
	r.ID = id
	return Reports.Put(tx, r)
}
