package api

import (
	"cmp"
	"net/http"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/notice"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// adminNotices are how an administrator has the server speak to a user.
func (a *API) adminNotices() {
	a.administer("POST v1/send_server_notice", a.sendNotice)
	a.administer("PUT v1/send_server_notice/{txn}", func(q *request) (any, error) {
		defer a.transactions.lock(q.login.User + " " + q.login.Device + " " + q.URL.Path)()
		var known store.Transaction
		var done bool
		err := a.Stream.DB().View(q.Context(), func(tx table.Tx) (err error) {
			known, done, err = store.Transactions.Get(tx, q.login.User, q.login.Device, q.URL.Path)
			return err
		})
		if err != nil || done {
			return map[string]string{"event_id": known.Result}, err
		}
		return a.sendNotice(q)
	})
}

// sendNotice says to a user what the body has; once, if the request has a transaction id.
func (a *API) sendNotice(q *request) (any, error) {
	if a.Notices == nil {
		return nil, notice.ErrOff
	}
	body, err := q.strictBody()
	if err != nil {
		return nil, err
	}
	content, given := body.Find("content")
	say := notice.Notice{Content: content}
	user, err := q.text("user_id")
	if err != nil {
		return nil, err
	}
	if say.Type, err = q.text("type"); err != nil {
		return nil, err
	}
	say.Type = cmp.Or(say.Type, "m.room.message")
	if _, ok := body.Find("state_key"); ok {
		key, err := q.text("state_key")
		if err != nil {
			return nil, err
		}
		say.StateKey = &key
	}
	switch {
	case user == "":
		return nil, missing("user_id")
	case !given:
		return nil, missing("content")
	case content.Kind() != canonical.Object:
		return nil, badJSON("content is not an object")
	}
	var also func(tx table.Tx, event string) error
	if q.PathValue("txn") != "" {
		also = func(tx table.Tx, event string) error {
			return store.Transactions.Put(tx, store.Transaction{User: q.login.User, Device: q.login.Device, Path: q.URL.Path, Result: event, Time: a.Now().UnixMilli()})
		}
	}
	id, err := a.Notices.Send(q.Context(), user, say, also)
	return map[string]string{"event_id": id}, err
}

// mayReject is nil unless somebody rejects the invitation into the room in which the server speaks to them (clause client-server API, server notices): "attempting
// to reject the invite must result in a M_CANNOT_LEAVE_SERVER_NOTICE_ROOM error". Members may leave.
func (a *API) mayReject(r *room.Room, t *room.Turn, user, membership string) error {
	if membership == matrix.Leave && t.Membership(user) == matrix.Invite && a.Notices.Is(r) {
		return fail(http.StatusForbidden, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", "the invitation into the room of the server's notices cannot be rejected")
	}
	return nil
}
