package adminpage

import (
	"net/http"
	"time"

	"orrery/matrix/federation"
)

// Federation is what other servers find of this one.
type Federation struct {
	Name, Version string // of the program, as others are told
	Listen        string // where other servers are answered; "" is nowhere
	Address       string // where they are told that this one is; "" tells them nothing
	Host          string // for which they want a certificate
	Connect       string // to which address they connect, unless DNS says another one
	Direct        bool   // they ask nobody before: the server's name is an address or has a port
	LooksAt       string // the host at which they look for where the server is

	BaseURL          string // where clients are
	ClientsElsewhere bool   // that is another host than the one in the server's name

	Certificate *Certificate // of where other servers are answered; nil: without TLS
	Keys        []federation.VerifyKey
	Requests    []federation.Count
}

// Certificate is what a certificate says, and what is wrong with it.
type Certificate struct {
	Names    []string
	Issuer   string
	Until    time.Time
	Problems []string
}

func (p *Pages) federation(v *visit) error {
	about, err := p.c.Admin.Federation(v.Context())
	if err != nil {
		return err
	}
	acls, servers := min(len(about.ACLs), perPage), min(len(about.Servers), perPage)
	return v.render(http.StatusOK, "federation", map[string]any{
		"Title": "Federation", "F": p.c.Federation(), "Rooms": about.Rooms, "Open": about.Open, "Closed": about.Rooms - about.Open,
		"ACLs": about.ACLs[:acls], "AllACLs": len(about.ACLs), "Servers": about.Servers[:servers], "AllServers": len(about.Servers),
	})
}
