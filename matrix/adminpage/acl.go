package adminpage

import (
	"strings"

	"orrery/matrix/admin"
)

// maxPatterns is how many of a list are shown.
const maxPatterns = 100

// patterns are some of a list, and how many others there are.
type patterns struct {
	Shown  []string
	Others int
}

func shorten(all []string) patterns {
	n := min(len(all), maxPatterns)
	return patterns{all[:n], len(all) - n}
}

// roomACL is which servers may take part in a room, as its page shows it.
type roomACL struct {
	Set, Literals bool
	Allow, Deny   patterns
	Servers       []admin.Standing // of members
	Others        int              // servers of members that are not shown
	Asked         string
	Tried         *admin.Standing // the one that was asked about
}

// acl is that of a room, and of the server whose name the page's field has.
func (p *Pages) acl(v *visit, id string) (roomACL, error) {
	found, err := p.c.Admin.ACL(v.Context(), id)
	if err != nil {
		return roomACL{}, err
	}
	n := min(len(found.Servers), perPage)
	out := roomACL{
		Set: found.Set, Literals: found.Literals, Allow: shorten(found.Allow), Deny: shorten(found.Deny), Servers: found.Servers[:n], Others: len(found.Servers) - n,
		Asked: strings.TrimSpace(v.FormValue("server")),
	}
	if out.Asked != "" {
		one, err := p.c.Admin.ACL(v.Context(), id, out.Asked)
		if err != nil {
			return out, err
		}
		out.Tried = &one.Servers[0]
	}
	return out, nil
}
