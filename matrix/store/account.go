package store

import "orrery/matrix/table"

// User is an account of this server.
type User struct {
	ID          string `col:"id,key"`   // with server name
	Password    string `col:"password"` // hashed; "" if nobody can log in by one
	Created     int64  `col:"created"`  // milliseconds since 1970, as all times here
	Admin       bool   `col:"admin"`
	Guest       bool   `col:"guest"`
	Deactivated bool   `col:"deactivated"`
}

// Device is one of a user's logins.
type Device struct {
	User    string `col:"user,key"`
	ID      string `col:"id,key"`
	Name    string `col:"name"`
	Created int64  `col:"created"`
	Seen    int64  `col:"seen"`
	Address string `col:"address"` // where it was seen last
}

// Token lets a device in, by the SHA-256 of what it sends.
type Token struct {
	Hash    []byte `col:"hash,key"`
	User    string `col:"user"`
	Device  string `col:"device"`
	Refresh bool   `col:"refresh"` // it only gets new tokens
	Expires int64  `col:"expires"` // 0: never
}

// ProfileField is a field of a user's profile, such as displayname.
type ProfileField struct {
	User  string `col:"user,key"`
	Name  string `col:"name,key"`
	Value []byte `col:"value"` // JSON
}

// Tables of accounts.
var (
	Users         = table.Define[User]("users")
	Devices       = table.Define[Device]("devices")
	Tokens        = table.Define[Token]("tokens", table.Index{Name: "device", Columns: []string{"user", "device"}})
	ProfileFields = table.Define[ProfileField]("profile_fields")

	accountSchemas = []*table.Schema{Users.Schema(), Devices.Schema(), Tokens.Schema(), ProfileFields.Schema()}
)
