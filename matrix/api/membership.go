package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

func (a *API) membershipRoutes() {
	a.in("POST rooms/{room}/join", a.join)
	a.in("POST join/{room}", a.join)
	a.in("POST rooms/{room}/leave", func(q *request) (any, error) { return empty, a.become(q, matrix.Leave, q.login.User) })
	a.in("POST knock/{room}", func(q *request) (any, error) {
		r, err := a.wanted(q, q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return map[string]string{"room_id": r.ID()}, a.set(q, r, matrix.Knock, q.login.User)
	})
	for path, membership := range map[string]string{"invite": matrix.Invite, "kick": matrix.Leave, "ban": matrix.Ban, "unban": matrix.Leave} {
		a.in("POST rooms/{room}/"+path, func(q *request) (any, error) {
			user, err := q.text("user_id")
			if err != nil {
				return nil, err
			}
			if path == "invite" && user == "" && q.body.Get("medium").String() != "" {
				return a.inviteAddress(q)
			}
			if user == "" {
				return nil, missing("user_id")
			}
			if err := matrix.ValidUser(user); err != nil {
				return nil, invalidParam(err.Error())
			}
			if path == "unban" || path == "kick" {
				if err := a.may(q, user, path == "unban"); err != nil {
					return nil, err
				}
			}
			return empty, a.become(q, membership, user)
		})
	}
	a.in("POST rooms/{room}/forget", a.forget)
	a.in("GET joined_rooms", func(q *request) (any, error) {
		all, err := a.roomsOf(q.Context(), q.login.User, matrix.Join)
		return map[string]any{"joined_rooms": all}, err
	})
	a.in("GET rooms/{room}/members", a.members)
	a.in("GET rooms/{room}/joined_members", a.joinedMembers)
}

func (a *API) joinedMembers(q *request) (any, error) {
	r, err := a.find(q)
	if err != nil {
		return nil, err
	}
	if r.Membership(q.login.User) != matrix.Join && (q.as == nil || !r.AnyJoined(q.as.HasUser)) {
		return nil, forbidden("you are not a member of the room")
	}
	joined := map[string]any{}
	for _, e := range r.States(matrix.TypeMember) {
		if e.Membership() != matrix.Join {
			continue
		}
		who, _ := e.StateKey()
		one := map[string]string{}
		for field, name := range map[string]string{"display_name": "displayname", "avatar_url": "avatar_url"} {
			if s := e.Content().Get(name).String(); s != "" {
				one[field] = s
			}
		}
		joined[who] = one
	}
	return map[string]any{"joined": joined}, nil
}

// byName is a room by its id or an alias.
func (a *API) byName(ctx context.Context, name string) (*room.Room, error) {
	if !strings.HasPrefix(name, "#") {
		return a.Rooms.Find(ctx, name)
	}
	id, err := a.alias(ctx, name)
	if err != nil {
		return nil, err
	}
	return a.Rooms.Find(ctx, id)
}

// wanted is byName for somebody who wants to go there: a service may make the room.
func (a *API) wanted(q *request, name string) (*room.Room, error) {
	if strings.HasPrefix(name, "#") {
		id, err := a.anyAlias(q, name)
		if err != nil {
			return nil, err
		}
		name = id
	}
	return a.Rooms.Find(q.Context(), name)
}

// may says whether the target of a kick, or of the lifting of a ban, is in a state for it; kicking does not lift bans (clause client-server API, unban).
func (a *API) may(q *request, user string, unban bool) error {
	r, err := a.find(q)
	if err != nil {
		return err
	}
	is := r.Membership(user)
	switch {
	case unban && is != matrix.Ban:
		return forbidden(user + " is not banned")
	case !unban && is != matrix.Join && is != matrix.Invite && is != matrix.Knock:
		return forbidden(user + " is not in the room")
	}
	return nil
}

// become gives somebody a membership in the room of the path.
func (a *API) become(q *request, membership, user string) error {
	r, err := a.find(q)
	if err != nil {
		return err
	}
	return a.set(q, r, membership, user)
}

func (a *API) set(q *request, r *room.Room, membership, user string) error {
	if membership == matrix.Invite {
		if err := a.invitable(q, user); err != nil {
			return err
		}
	}
	content := a.memberContent(q, user, membership)
	return doneOr(r.Do(q.Context(), func(t *room.Turn) error {
		if t.Membership(user) == membership && user == q.login.User {
			return errNothing
		}
		if user == q.login.User {
			if err := a.mayReject(r, t, user, membership); err != nil {
				return err
			}
		}
		_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: q.login.User, StateKey: &user, Content: content})
		return err
	}))
}

// invitable is nil if somebody wants to be invited (clause client-server API, invite permission; MSC4380). Users of application services are there then.
func (a *API) invitable(q *request, users ...string) error {
	a.askUsers(q, users...)
	return a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		for _, user := range users {
			blocks, err := sync.BlocksInvites(tx, user)
			if err != nil {
				return err
			}
			if blocks {
				return fail(http.StatusForbidden, "M_INVITE_BLOCKED", user+" wants no invitations")
			}
		}
		return nil
	})
}

// join joins a room by its id or an alias (clause client-server API, joining rooms).
func (a *API) join(q *request) (any, error) {
	r, err := a.wanted(q, q.PathValue("room"))
	if err != nil {
		return nil, err
	}
	if r.Blocked() {
		return nil, forbidden("the room is blocked on this server")
	}
	user := q.login.User
	content, err := a.joinContent(q)
	if err != nil {
		return nil, err
	}
	if _, signed := q.body.Find("third_party_signed"); signed && r.Membership(user) != matrix.Join && r.Membership(user) != matrix.Invite {
		if err := a.exchange(q, r, user); err != nil {
			return nil, err
		}
	}
	err = doneOr(r.Do(q.Context(), func(t *room.Turn) error {
		if t.Membership(user) == matrix.Join {
			return errNothing
		}
		if q.login.Guest && !letsGuests(t.State(guestAccess)) {
			return fail(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "the room lets no guests in")
		}
		with := content
		if by := a.sponsor(q.Context(), r, t, user); by != "" {
			with = with.With("join_authorised_via_users_server", canonical.Text(by))
		}
		_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: with})
		return err
	}))
	if err == nil {
		err = a.carry(q.Context(), r, user)
	}
	return map[string]string{"room_id": r.ID()}, err
}

// ofJoin are members of the body of a request to join that say something to the server, or that only the server says in a member event.
var ofJoin = []string{
	"reason", "third_party_signed", "via", "server_name", // the last is what a client of before v1.12 means by via
	"membership", "displayname", "avatar_url", "third_party_invite", "join_authorised_via_users_server",
}

// joinContent is the content of the event by which somebody joins. Besides what the standard knows, all that the body says is in it: the standard is silent of
// that, but Synapse and Dendrite do so, and bots note there why they came.
func (a *API) joinContent(q *request) (canonical.Value, error) {
	content, err := q.strictBody()
	if err != nil {
		return content, err
	}
	content = content.Without(ofJoin...)
	for name, value := range a.memberContent(q, q.login.User, matrix.Join).Members {
		content = content.With(name, value)
	}
	return content, nil
}

// sponsor is a member by whose authority somebody may join a restricted room; "" if nobody's is needed, or nobody's will do (clause client-server API,
// restricted rooms).
func (a *API) sponsor(ctx context.Context, r *room.Room, t *room.Turn, user string) string {
	rules := t.State(matrix.Key{Type: matrix.TypeJoinRules})
	if rules == nil || !r.Version().Restricted || t.Membership(user) == matrix.Invite {
		return ""
	}
	if rule := rules.Content().Get("join_rule").String(); rule != "restricted" && rule != "knock_restricted" {
		return ""
	}
	for allow := range rules.Content().Get("allow").Elements {
		if allow.Get("type").String() != "m.room_membership" || allow.Get("room_id").String() == r.ID() {
			continue
		}
		other, err := a.Rooms.Find(ctx, allow.Get("room_id").String())
		if err != nil || other.Membership(user) != matrix.Join {
			continue
		}
		levels := t.Levels()
		for _, who := range r.Joined() {
			if a.Accounts.Local(who) && levels.User(who) >= levels.Invite() {
				return who
			}
		}
	}
	return ""
}

func (a *API) forget(q *request) (any, error) {
	r, err := a.find(q)
	if err != nil {
		return nil, err
	}
	if m := r.Membership(q.login.User); m != matrix.Leave && m != matrix.Ban {
		return nil, fail(400, "M_UNKNOWN", "you are still in the room")
	}
	err = a.Stream.DB().Update(q.Context(), func(tx table.Tx) error {
		m, ok, err := store.Members.Get(tx, q.login.User, r.Number())
		if err != nil || !ok {
			return err
		}
		m.Forgotten = true
		return store.Members.Put(tx, m)
	})
	a.Syncer.Forget(q.login.User)
	return empty, err
}

// roomsOf are the ids of rooms in which a user has a membership.
func (a *API) roomsOf(ctx context.Context, user, membership string) ([]string, error) {
	all := []string{}
	err := a.Stream.DB().View(ctx, func(tx table.Tx) error {
		of, err := store.Members.All(tx, table.Range{Prefix: []any{user}})
		if err != nil {
			return err
		}
		for _, m := range of {
			if m.Membership != membership {
				continue
			}
			r, ok, err := store.Rooms.Get(tx, m.Room)
			if err != nil {
				return err
			}
			if ok {
				all = append(all, r.RoomID)
			}
		}
		return nil
	})
	return all, err
}

// leaveAll takes a user out of all rooms.
func (a *API) leaveAll(ctx context.Context, user string) error {
	var failed error
	for _, m := range []string{matrix.Join, matrix.Invite, matrix.Knock} {
		all, err := a.roomsOf(ctx, user, m)
		failed = errors.Join(failed, err)
		for _, id := range all {
			r, err := a.Rooms.Find(ctx, id)
			if err == nil {
				err = r.Do(ctx, func(t *room.Turn) error {
					_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(matrix.Leave)})})
					return err
				})
			}
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// showProfile puts a change of a user's name or picture into the rooms where the user is.
func (a *API) showProfile(ctx context.Context, user, field string) error {
	if field != profileNames[0] && field != profileNames[1] {
		return nil
	}
	profile, err := a.Accounts.Profile(ctx, user)
	if err != nil {
		return err
	}
	all, err := a.roomsOf(ctx, user, matrix.Join)
	if err != nil {
		return err
	}
	for _, id := range all {
		r, err := a.Rooms.Find(ctx, id)
		if err != nil {
			return err
		}
		if err := doneOr(r.Do(ctx, func(t *room.Turn) error {
			m := t.State(matrix.Key{Type: matrix.TypeMember, StateKey: user})
			if m == nil || m.Membership() != matrix.Join {
				return errNothing
			}
			content := withProfile(m.Content().Without("join_authorised_via_users_server", "reason"), profile)
			if content.Equal(m.Content()) {
				return errNothing
			}
			_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: content})
			return err
		})); err != nil && !errors.Is(err, matrix.ErrForbidden) { // a room that does not let members change is left as it is
			return err
		}
	}
	return nil
}
