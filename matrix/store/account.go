package store

import (
	"time"

	"orrery/matrix/table"
)

// User is an account of this server.
type User struct {
	ID          string `col:"id,key"`   // with server name
	Password    string `col:"password"` // hashed; "" if nobody can log in by one
	Created     int64  `col:"created"`  // milliseconds since 1970, as all times here
	Admin       bool   `col:"admin"`
	Guest       bool   `col:"guest"`
	Deactivated bool   `col:"deactivated"`
	Erased      bool   `col:"erased"`    // who had not seen their events sees them redacted
	Locked      bool   `col:"locked"`    // they can only log out
	Suspended   bool   `col:"suspended"` // they can do nothing that others see
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

	// Replaces is the refresh token that this one came from, which counts until this one is used.
	Replaces []byte `col:"replaces"`

	// Client and Scope are those of tokens that came by OAuth; one without a device says only who the user is.
	Client string `col:"client"`
	Scope  string `col:"scope"`
}

// Invitation is a token by which accounts can be made.
type Invitation struct {
	Token   string `col:"token,key"`
	Uses    int64  `col:"uses"` // how many accounts at most; 0: any number
	Used    int64  `col:"used"`
	Created int64  `col:"created"`
	Expires int64  `col:"expires"` // 0: never
}

// Counts says whether an account can be made by it.
func (v Invitation) Counts(now time.Time) bool {
	return (v.Uses == 0 || v.Used < v.Uses) && (v.Expires == 0 || now.UnixMilli() < v.Expires)
}

// LoginToken lets a user log in once, by the SHA-256 of what it is.
type LoginToken struct {
	Hash    []byte `col:"hash,key"`
	User    string `col:"user"`
	Expires int64  `col:"expires"`
}

// ProfileField is a field of a user's profile, such as displayname.
type ProfileField struct {
	User  string `col:"user,key"`
	Name  string `col:"name,key"`
	Value []byte `col:"value"` // JSON
}

// External is an account elsewhere by which a user logs in: at a provider, by the name that it has for them.
type External struct {
	Provider string `col:"provider,key"`
	Subject  string `col:"subject,key"`
	User     string `col:"user"`
}

// Tables of accounts.
var (
	Users         = table.Define[User]("users")
	Devices       = table.Define[Device]("devices")
	Tokens        = table.Define[Token]("tokens", table.Index{Name: "device", Columns: []string{"user", "device"}})
	ProfileFields = table.Define[ProfileField]("profile_fields")
	Invitations   = table.Define[Invitation]("invitations")
	LoginTokens   = table.Define[LoginToken]("login_tokens", table.Index{Name: "expires", Columns: []string{"expires"}})
	Externals     = table.Define[External]("externals", table.Index{Name: "user", Columns: []string{"user"}})

	accountSchemas = []*table.Schema{Users.Schema(), Devices.Schema(), Tokens.Schema(), ProfileFields.Schema(), Invitations.Schema(), LoginTokens.Schema(), Externals.Schema()}
)
