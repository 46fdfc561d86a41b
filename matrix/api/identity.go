package api

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/contact/identity"
	"orrery/matrix/room"
	"orrery/matrix/signature"
)

// What clients are told of an unbinding.
const (
	unbound   = "success"
	noSupport = "no-support"
)

// identityRoutes are requests that go on to identity servers (clause client-server API, adding account administrative contact information).
func (a *API) identityRoutes() {
	a.in("POST account/3pid/bind", func(q *request) (any, error) { return a.bind(q, q.body) })
	// The older request does the same, the specification says.
	a.in("POST account/3pid", func(q *request) (any, error) {
		out, err := a.bind(q, q.body.Get("three_pid_creds"))
		if r, ok := errors.AsType[*identity.Refusal](err); ok {
			err = fail(http.StatusForbidden, "M_THREEPID_AUTH_FAILED", r.Error())
		}
		return out, err
	})
	a.in("POST account/3pid/unbind", func(q *request) (any, error) {
		of, err := address3PID(q.body)
		if err != nil {
			return nil, err
		}
		result, err := a.unbind(q.Context(), q.login.User, q.body.Get("id_server").String(), func(one contact.Address) bool { return one == of }, &of)
		if r, ok := errors.AsType[*identity.Refusal](err); ok {
			return nil, r
		}
		return map[string]string{"id_server_unbind_result": result}, nil
	})
}

// bind has an identity server tell others of a user's address (POST /account/3pid/bind).
func (a *API) bind(q *request, creds canonical.Value) (any, error) {
	for _, name := range []string{"client_secret", "id_server", "id_access_token", "sid"} {
		if creds.Get(name).String() == "" {
			return nil, missing(name)
		}
	}
	server, user := creds.Get("id_server").String(), q.login.User
	of, err := a.Identity.Bind(q.Context(), server, creds.Get("id_access_token").String(), creds.Get("sid").String(), creds.Get("client_secret").String(), user)
	if err != nil {
		return nil, err
	}
	return empty, a.Accounts.Bound(q.Context(), user, of, server)
}

// unbind has identity servers tell no more of those addresses of a user that are wanted: the one that is named, or those where they were bound. For one that is
// named, an address may be given that was not bound by this server. The error is the first that they gave.
func (a *API) unbind(ctx context.Context, user, server string, wanted func(contact.Address) bool, also *contact.Address) (result string, failed error) {
	all, err := a.Accounts.Bindings(ctx, user)
	if err != nil {
		return noSupport, err
	}
	type place struct {
		of     contact.Address
		server string
	}
	places := map[place]bool{}
	for _, b := range all {
		if of := (contact.Address{Medium: b.Medium, Text: b.Address}); wanted(of) && (server == "" || server == b.Server) {
			places[place{of, b.Server}] = true
		}
	}
	if also != nil && server != "" {
		places[place{*also, server}] = true
	}
	if result = unbound; also != nil && len(places) == 0 {
		result = noSupport
	}
	for p := range places {
		err := a.Identity.Unbind(ctx, p.server, user, p.of)
		if err == nil {
			err = a.Accounts.Unbound(ctx, user, p.of, p.server)
		}
		if err != nil {
			a.Logger.InfoContext(ctx, "an address was not unbound", "identity_server", p.server, "error", err)
			result = noSupport
			failed = errors.Join(failed, err)
		}
	}
	return result, failed
}

// invite3PID is an invitation of somebody by their address (clause client-server API, third-party invites).
type invite3PID struct {
	Server  string `json:"id_server"`
	Token   string `json:"id_access_token"`
	Medium  string `json:"medium"`
	Address string `json:"address"`
}

// lookup is the address that is invited, and the user whom the identity server knows by it; "" for nobody.
func (a *API) lookup(ctx context.Context, in invite3PID) (of contact.Address, user string, err error) {
	for name, value := range map[string]string{"id_server": in.Server, "id_access_token": in.Token, "medium": in.Medium, "address": in.Address} {
		if value == "" {
			return of, "", missing(name)
		}
	}
	if of, err = contact.Parse(in.Medium, in.Address); err == nil {
		user, err = a.Identity.Lookup(ctx, in.Server, in.Token, of)
	}
	return of, user, err
}

// maxInvite3PID is how many people may be invited by their addresses to a room that is made: each is a request to an identity server.
const maxInvite3PID = 20

// lookupAll invites those to a new room whom identity servers know by their addresses, and is the others. All who are invited must want to be.
func (a *API) lookupAll(q *request, c *creation) (map[invite3PID]contact.Address, error) {
	for _, user := range c.Invite {
		if err := matrix.ValidUser(user); err != nil {
			return nil, invalidParam(err.Error())
		}
	}
	if len(c.Invite3PID) > maxInvite3PID {
		return nil, invalidParam("too many people are invited by their addresses at once")
	}
	unknown := map[invite3PID]contact.Address{}
	for _, in := range c.Invite3PID {
		of, user, err := a.lookup(q.Context(), in)
		if err != nil {
			return nil, err
		}
		if user == "" {
			unknown[in] = of
			continue
		}
		c.Invite = append(c.Invite, user)
	}
	return unknown, a.invitable(q, c.Invite...)
}

// inviteAddress invites somebody by their address to the room of the path.
func (a *API) inviteAddress(q *request) (any, error) {
	var in invite3PID
	if err := q.into(&in); err != nil {
		return nil, err
	}
	r, err := a.member(q)
	if err != nil {
		return nil, err
	}
	if levels := r.Levels(); levels.User(q.login.User) < levels.Invite() { // before anybody outside hears of it
		return nil, forbidden("you may not invite to this room")
	}
	of, user, err := a.lookup(q.Context(), in)
	if err != nil {
		return nil, err
	}
	if user != "" {
		return empty, a.set(q, r, matrix.Invite, user)
	}
	return empty, a.storeInvite(q, r, in, of)
}

// storeInvite has an identity server keep an invitation until somebody is known by the address, and puts into the room what proves that it was meant.
func (a *API) storeInvite(q *request, r *room.Room, in invite3PID, of contact.Address) error {
	kept, err := a.Identity.StoreInvite(q.Context(), in.Server, in.Token, a.aboutInvite(q, r, of))
	if err != nil {
		return err
	}
	keys := []canonical.Value{}
	for _, k := range kept.PublicKeys {
		one := object("public_key", k.Public)
		if k.Validity != "" {
			one = one.With("key_validity_url", canonical.Text(k.Validity))
		}
		keys = append(keys, one)
	}
	first := kept.PublicKeys[0]
	content := object("display_name", kept.Shown).With("public_keys", canonical.List(keys...)).
		With("public_key", canonical.Text(first.Public)).With("key_validity_url", canonical.Text(first.Validity))
	return r.Do(q.Context(), func(t *room.Turn) error {
		_, err := t.Send(room.Draft{Type: matrix.TypeThirdPartyInvite, Sender: q.login.User, StateKey: &kept.Token, Content: content})
		return err
	})
}

// aboutInvite is what an identity server tells the invited (identity service API, POST /store-invite).
func (a *API) aboutInvite(q *request, r *room.Room, of contact.Address) map[string]string {
	about := map[string]string{"medium": of.Medium, "address": of.Text, "room_id": r.ID(), "sender": q.login.User}
	for name, from := range map[string][2]string{
		"room_alias": {"m.room.canonical_alias", "alias"}, "room_avatar_url": {"m.room.avatar", "url"}, "room_join_rules": {matrix.TypeJoinRules, "join_rule"},
		"room_name": {"m.room.name", "name"}, "room_type": {matrix.TypeCreate, "type"},
	} {
		if e := r.State(matrix.Key{Type: from[0]}); e != nil && e.Content().Get(from[1]).String() != "" {
			about[name] = e.Content().Get(from[1]).String()
		}
	}
	profile := a.memberContent(q, q.login.User, matrix.Join)
	for name, field := range map[string]string{"sender_display_name": "displayname", "sender_avatar_url": "avatar_url"} {
		if s := profile.Get(field).String(); s != "" {
			about[name] = s
		}
	}
	return about
}

// exchange makes an invitation by address one of a user, who has the identity server's signature that the address is theirs (clause client-server API, third-party
// invites). The one who invited must be of this server, which sends it for them.
func (a *API) exchange(q *request, r *room.Room, user string) error {
	body, err := q.strictBody()
	if err != nil {
		return err
	}
	signed := body.Get("third_party_signed")
	if signed.Get("mxid").String() != user {
		return forbidden("this invitation is for another user")
	}
	invitation := r.State(matrix.Key{Type: matrix.TypeThirdPartyInvite, StateKey: signed.Get("token").String()})
	if invitation == nil || invitation.Sender() != signed.Get("sender").String() {
		return forbidden("there is no such invitation in the room")
	}
	if !a.Accounts.Local(invitation.Sender()) {
		return forbidden("the invitation is by a user of another server")
	}
	if err := a.checkInvitation(q.Context(), invitation, signed); err != nil {
		return err
	}
	content := a.memberContent(&request{Request: q.Request}, user, matrix.Invite).With("third_party_invite",
		canonical.Of(canonical.Member{Name: "display_name", Value: invitation.Content().Get("display_name")}, canonical.Member{Name: "signed", Value: signed}))
	return r.Do(q.Context(), func(t *room.Turn) error {
		_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: invitation.Sender(), StateKey: &user, Content: content})
		return err
	})
}

// checkInvitation is nil if what is signed is signed by one of an invitation's keys, and that key counts where the invitation says to ask.
func (a *API) checkInvitation(ctx context.Context, invitation *room.Entry, signed canonical.Value) error {
	content := invitation.Content()
	keys := []canonical.Value{content}
	for k := range content.Get("public_keys").Elements {
		keys = append(keys, k)
	}
	for _, k := range keys {
		public, err := signature.Decode(k.Get("public_key").String())
		if err != nil || !signedBy(signed, public) {
			continue
		}
		where := k.Get("key_validity_url").String()
		if where == "" {
			return nil
		}
		counts, err := a.Identity.KeyCounts(ctx, identity.Key{Public: k.Get("public_key").String(), Validity: where})
		if err == nil && !counts {
			err = forbidden("the key of the invitation does not count any more")
		}
		return err
	}
	return forbidden("the invitation is signed by none of its keys")
}

func signedBy(v canonical.Value, public []byte) bool {
	for entity := range v.Get("signatures").Members {
		if signature.Check(v, entity, func(string, string) (ed25519.PublicKey, bool) { return public, true }) == nil {
			return true
		}
	}
	return false
}
