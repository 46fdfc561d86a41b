package store

import "orrery/matrix/table"

// Contact is an address outside by which a user is known to this server: their third-party identifier.
type Contact struct {
	Medium    string `col:"medium,key"`
	Address   string `col:"address,key"` // in its one form
	User      string `col:"user"`
	Validated int64  `col:"validated"`
	Added     int64  `col:"added"`
}

// Binding is an address that an identity server tells others to be a user's, which this server had it told.
type Binding struct {
	User    string `col:"user,key"`
	Medium  string `col:"medium,key"`
	Address string `col:"address,key"`
	Server  string `col:"server,key"` // the identity server's name
	Bound   int64  `col:"bound"`
}

// Validation is a session in which somebody shows that an address is theirs; see contact.Session.
type Validation struct {
	ID        string `col:"id,key"`
	Key       []byte `col:"session"` // of the same address, secret and purpose
	Purpose   string `col:"purpose"`
	Medium    string `col:"medium"`
	Address   string `col:"address"`
	User      string `col:"user"`
	Secret    []byte `col:"secret"` // SHA-256
	Attempt   int64  `col:"attempt"`
	Tokens    []byte `col:"tokens"` // SHA-256 of each
	NextLink  string `col:"next_link"`
	Tries     int64  `col:"tries"`
	Changed   int64  `col:"changed"`
	Validated int64  `col:"validated"`
}

// Posted is how many messages were sent to telephones in a day: each of them costs.
type Posted struct {
	Day   int64 `col:"day,key"` // since 1970, UTC
	Count int64 `col:"count"`
}

// Tables of third-party identifiers.
var (
	Contacts    = table.Define[Contact]("contacts", table.Index{Name: "user", Columns: []string{"user"}})
	Bindings    = table.Define[Binding]("bindings")
	Validations = table.Define[Validation]("validations",
		table.Index{Name: "session", Columns: []string{"session"}, Unique: true}, table.Index{Name: "changed", Columns: []string{"changed"}})

	Posteds = table.Define[Posted]("posted_messages")

	contactSchemas = []*table.Schema{Contacts.Schema(), Bindings.Schema(), Validations.Schema(), Posteds.Schema()}
)
