package room

import (
	"errors"
	"fmt"

	"orrery/matrix"
	"orrery/matrix/acl"
)

// ErrSelfDenied says that a server ACL denies the server whose users want it: they would shut themselves out.
var ErrSelfDenied = errors.New("the server ACL denies this server")

// Denial says that a server may not take part in a room. It is a matrix.ErrForbidden, with which whoever asks is answered: "If the server is denied access to a room, the
// receiving server MUST reply with a 403 HTTP status code and an errcode of M_FORBIDDEN".
type Denial struct {
	Server, Room string
	Why          acl.Verdict
}

// Error says why.
func (d *Denial) Error() string {
	return fmt.Sprintf("server %s may not take part in room %s by its server ACL: %s", d.Server, d.Room, d.Why)
}

// Unwrap is matrix.ErrForbidden.
func (*Denial) Unwrap() error { return matrix.ErrForbidden }

// serverACL is the event that says which servers may take part in a room.
var serverACL = matrix.Key{Type: matrix.TypeServerACL}

// compiled is a server ACL, and the event of which it was made.
type compiled struct {
	of   *Entry
	list *acl.List
}

// Admits is nil if a server may take part in the room as it is now, otherwise a Denial (clause server-server API, server access control lists). It is asked before
// anything is taken from another server for the room, or given to it: for its requests about the room, for each event that it sends, and for what it says of typing and
// receipts. Servers that are denied are still sent events while they have members there.
func (r *Room) Admits(server string) error { return admits(r.ID(), r.ACL(), server) }

// Admits is that of the room with what this turn sent.
func (t *Turn) Admits(server string) error {
	return admits(t.id, t.room.acl(t.State(serverACL)), server)
}

func admits(room string, list *acl.List, server string) error {
	if v := list.Judge(server); !v.Allowed {
		return &Denial{server, room, v}
	}
	return nil
}

// ACL is which servers may take part in the room, nil if it does not say so.
func (r *Room) ACL() *acl.List { return r.acl(r.State(serverACL)) }

// acl is what an event says. That of the event that was asked about last is kept: a list may be long.
func (r *Room) acl(e *Entry) *acl.List {
	if e == nil {
		return nil
	}
	if known := r.servers.Load(); known != nil && known.of == e {
		return known.list
	}
	made := &compiled{e, acl.Read(e.Content())}
	r.servers.Store(made)
	return made.list
}

// bars is nil unless a server ACL is against what a user of this server wants to send, although the rules of the room allow it: one that denies this server, and an invitation of
// somebody whose server is denied, which could not be accepted.
func (t *Turn) bars(d Draft) error {
	rooms := t.room.rooms
	if d.StateKey != nil && d.Type == matrix.TypeMember && d.Content.Get("membership").String() == matrix.Invite {
		if server := matrix.Domain(*d.StateKey); server != rooms.c.Server {
			return t.Admits(server)
		}
	}
	return rooms.SelfDenied(d)
}

// SelfDenied is ErrSelfDenied if what somebody wants to send is a server ACL that denies this server, in whatever room that would be. A turn does not send one; who wants to have
// something sent later asks before.
func (r *Rooms) SelfDenied(d Draft) error {
	if d.Type != matrix.TypeServerACL || d.StateKey == nil || *d.StateKey != "" {
		return nil
	}
	if v := acl.Read(d.Content).Judge(r.c.Server); !v.Allowed {
		return fmt.Errorf("%w, %s: %s (let allow have a pattern that fits it, and deny none)", ErrSelfDenied, r.c.Server, v)
	}
	return nil
}
