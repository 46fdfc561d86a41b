package store

import "orrery/matrix/table"

// SSOFlow is a login at another server that is under way, by the SHA-256 of its state.
type SSOFlow struct {
	Hash     []byte `col:"hash,key"`
	Browser  []byte `col:"browser"` // SHA-256 of the cookie of the browser that began it
	Provider string `col:"provider"`
	Nonce    string `col:"nonce"`
	Verifier string `col:"verifier"`
	Redirect string `col:"redirect"` // where the client waits
	Session  string `col:"session"`  // of user-interactive authentication, if it is for that
	Subject  string `col:"subject"`  // who it turned out to be, once that is known
	Name     string `col:"name"`     // the localpart that they are to have
	Shown    string `col:"shown"`
	Expires  int64  `col:"expires"`
}

// SSOFlows are those under way.
var (
	SSOFlows = table.Define[SSOFlow]("sso_flows", table.Index{Name: "expires", Columns: []string{"expires"}})

	ssoSchemas = []*table.Schema{SSOFlows.Schema()}
)
