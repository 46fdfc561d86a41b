package store

import (
	"context"

	"orrery/matrix/table"
)

// Redaction is the redacting of what a user sent, as an administrator wants it, which takes a while.
type Redaction struct {
	ID     string `col:"id,key"`
	User   string `col:"user"`
	By     string `col:"by"`        // the administrator
	Always bool   `col:"use_admin"` // they redact, and never the user
	Reason string `col:"reason"`
	After  int64  `col:"after"`  // milliseconds since 1970: only what was sent then or later
	Before int64  `col:"before"` // or earlier; 0: whenever it was
	Status string `col:"status"`
	Why    string `col:"why"` // it failed
	Begun  int64  `col:"begun"`
	Ended  int64  `col:"ended"` // 0: it has not
}

// RedactionRoom is a room in which something is left to be redacted.
type RedactionRoom struct {
	ID     string `col:"id,key"`
	Room   string `col:"room,key"`
	Before int64  `col:"before"` // events of this order and later are done
	Left   int64  `col:"left"`   // how many events of the user's are looked at still
}

// RedactionFailure is an event that was not redacted.
type RedactionFailure struct {
	ID    string `col:"id,key"`
	Event string `col:"event,key"`
	Why   string `col:"why"`
}

// Tables of redactions.
var (
	Redactions        = table.Define[Redaction]("redactions", table.Index{Name: "user", Columns: []string{"user"}}, table.Index{Name: "ended", Columns: []string{"ended"}})
	RedactionRooms    = table.Define[RedactionRoom]("redaction_rooms")
	RedactionFailures = table.Define[RedactionFailure]("redaction_failures")

	redactionSchemas = []*table.Schema{Redactions.Schema(), RedactionRooms.Schema(), RedactionFailures.Schema()}
)

// ForgetRedactions removes what is known of redactions that ended before some time.
func ForgetRedactions(ctx context.Context, db table.DB, before int64) error {
	return db.Update(ctx, func(tx table.Tx) error {
		old, err := Redactions.All(tx, table.Range{Index: "ended", From: int64(1), Before: before})
		if err != nil {
			return err
		}
		for _, r := range old {
			if err := RedactionFailures.DeleteAll(tx, table.Range{Prefix: []any{r.ID}}); err != nil {
				return err
			}
			if err := Redactions.Delete(tx, r.ID); err != nil {
				return err
			}
		}
		return nil
	})
}
