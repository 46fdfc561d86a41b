package store

import "orrery/matrix/table"

// OAuthClient is a program that lets its users log in by OAuth.
type OAuthClient struct {
	ID       string `col:"id,key"`
	Metadata []byte `col:"metadata"` // JSON, as it was registered
	Secret   []byte `col:"secret"`   // SHA-256; empty: it has none
	Created  int64  `col:"created"`
}

// OAuthCode is what a user allowed a client: an authorisation code, by its SHA-256, which is exchanged for tokens.
type OAuthCode struct {
	Hash      []byte `col:"hash,key"`
	Client    string `col:"client"`
	User      string `col:"user"`
	Redirect  string `col:"redirect"`
	Scope     string `col:"scope"`
	Challenge string `col:"challenge"`
	Nonce     string `col:"nonce"`
	Proved    int64  `col:"proved"` // when the user last proved who they are
	Expires   int64  `col:"expires"`
}

// OAuthLink is a device that waits for its user to let it in elsewhere: by the SHA-256 of its code, and by the code that the user types.
type OAuthLink struct {
	Hash     []byte `col:"hash,key"`
	UserCode string `col:"user_code"`
	Client   string `col:"client"`
	Scope    string `col:"scope"`
	User     string `col:"user"` // who decided; "": nobody yet
	Denied   bool   `col:"denied"`
	Polled   int64  `col:"polled"` // when it last asked
	Expires  int64  `col:"expires"`
}

// OAuthKey signs what is said of users to other servers.
type OAuthKey struct {
	ID      string `col:"id,key"`
	Private []byte `col:"private"` // PKCS #8
	Created int64  `col:"created"`
}

// Browser is a browser in which a user is logged in to this server's own pages, by the SHA-256 of its cookie.
type Browser struct {
	Hash    []byte `col:"hash,key"`
	User    string `col:"user"`
	Proved  int64  `col:"proved"` // when the user last proved who they are
	Expires int64  `col:"expires"`
}

// Tables of logging in by OAuth.
var (
	OAuthClients = table.Define[OAuthClient]("oauth_clients")
	OAuthCodes   = table.Define[OAuthCode]("oauth_codes", table.Index{Name: "expires", Columns: []string{"expires"}})
	OAuthLinks   = table.Define[OAuthLink]("oauth_links",
		table.Index{Name: "user_code", Columns: []string{"user_code"}, Unique: true}, table.Index{Name: "expires", Columns: []string{"expires"}})
	OAuthKeys = table.Define[OAuthKey]("oauth_keys")
	Browsers  = table.Define[Browser]("browsers",
		table.Index{Name: "user", Columns: []string{"user"}}, table.Index{Name: "expires", Columns: []string{"expires"}})

	oauthSchemas = []*table.Schema{OAuthClients.Schema(), OAuthCodes.Schema(), OAuthLinks.Schema(), OAuthKeys.Schema(), Browsers.Schema()}
)
