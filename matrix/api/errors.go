package api

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"time"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/admin"
	"orrery/matrix/appservice/delivery"
	"orrery/matrix/auth"
	"orrery/matrix/contact"
	"orrery/matrix/contact/identity"
	"orrery/matrix/contact/mail"
	"orrery/matrix/contact/validation"
	"orrery/matrix/delayed"
	"orrery/matrix/keys"
	"orrery/matrix/media"
	"orrery/matrix/notice"
	"orrery/matrix/oauth"
	"orrery/matrix/preview"
	"orrery/matrix/provision"
	"orrery/matrix/push"
	"orrery/matrix/rendezvous"
	"orrery/matrix/room"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// Error is an answer that is no success (clause client-server API, standard error response).
type Error struct {
	Status int            `json:"-"`
	Code   string         `json:"errcode"`
	Text   string         `json:"error"`
	More   map[string]any `json:"-"` // further fields
	After  time.Duration  `json:"-"` // when to try again, of rate limits
}

// Error is the text.
func (e *Error) Error() string { return e.Code + ": " + e.Text }

func fail(status int, code, text string) *Error {
	return &Error{Status: status, Code: code, Text: text}
}

func badJSON(text string) *Error      { return fail(http.StatusBadRequest, "M_BAD_JSON", text) }
func invalidParam(text string) *Error { return fail(http.StatusBadRequest, "M_INVALID_PARAM", text) }

func missing(name string) *Error {
	return fail(http.StatusBadRequest, "M_MISSING_PARAM", name+" is missing")
}
func forbidden(text string) *Error { return fail(http.StatusForbidden, "M_FORBIDDEN", text) }
func notFound(text string) *Error  { return fail(http.StatusNotFound, "M_NOT_FOUND", text) }

// kinds are what errors of the packages below are for clients; the first that fits counts.
var kinds = []struct {
	is     error
	status int
	code   string
}{
	{account.ErrReserved, http.StatusBadRequest, "M_EXCLUSIVE"},
	{account.ErrTaken, http.StatusBadRequest, "M_USER_IN_USE"},
	{account.ErrInvitation, http.StatusForbidden, "M_FORBIDDEN"},
	{account.ErrInvitationForm, http.StatusBadRequest, "M_INVALID_PARAM"},
	{account.ErrName, http.StatusBadRequest, "M_INVALID_USERNAME"},
	{account.ErrPassword, http.StatusForbidden, "M_FORBIDDEN"},
	{account.ErrDeactivated, http.StatusForbidden, "M_USER_DEACTIVATED"},
	{account.ErrSpeaker, http.StatusForbidden, "M_FORBIDDEN"},
	{provision.ErrUnknown, http.StatusNotFound, "M_UNRECOGNIZED"},
	{provision.ErrMissing, http.StatusBadRequest, "M_MISSING_PARAM"},
	{provision.ErrMalformed, http.StatusBadRequest, "M_BAD_JSON"},
	{notice.ErrOff, http.StatusBadRequest, "M_UNKNOWN"},
	{notice.ErrForeign, http.StatusBadRequest, "M_INVALID_PARAM"},
	{account.ErrToken, http.StatusUnauthorized, "M_UNKNOWN_TOKEN"},
	{admin.ErrRedacting, http.StatusBadRequest, "M_UNKNOWN"},
	{admin.ErrNoRedaction, http.StatusNotFound, "M_NOT_FOUND"},
	{admin.ErrNoReport, http.StatusNotFound, "M_NOT_FOUND"},
	{delivery.ErrNothing, http.StatusNotFound, "M_NOT_FOUND"},
	{delivery.ErrRegistered, http.StatusConflict, "M_UNKNOWN"},
	{admin.ErrPowerless, http.StatusBadRequest, "M_UNKNOWN"},
	{account.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{account.ErrContacts, http.StatusForbidden, "M_THREEPID_DENIED"},
	{contact.ErrAddress, http.StatusBadRequest, "M_INVALID_PARAM"},
	{contact.ErrSecret, http.StatusBadRequest, "M_INVALID_PARAM"},
	{contact.ErrMedium, http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED"},
	{contact.ErrInUse, http.StatusBadRequest, "M_THREEPID_IN_USE"},
	{contact.ErrUnknown, http.StatusBadRequest, "M_THREEPID_NOT_FOUND"},
	{contact.ErrSession, http.StatusBadRequest, "M_THREEPID_AUTH_FAILED"},
	{contact.ErrExpired, http.StatusBadRequest, "M_THREEPID_AUTH_FAILED"},
	{contact.ErrToken, http.StatusBadRequest, "M_TOKEN_INCORRECT"},
	{contact.ErrTries, http.StatusBadRequest, "M_SESSION_EXPIRED"},
	{contact.ErrNotYet, http.StatusBadRequest, "M_THREEPID_AUTH_FAILED"},
	{identity.ErrTrust, http.StatusBadRequest, "M_SERVER_NOT_TRUSTED"},
	{identity.ErrAnswer, http.StatusBadGateway, "M_UNKNOWN"},
	{validation.ErrNoMail, http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED"},
	{validation.ErrNoMessages, http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED"},
	{validation.ErrElsewhere, http.StatusForbidden, "M_THREEPID_DENIED"},
	{validation.ErrSending, http.StatusBadGateway, "M_UNKNOWN"},
	{mail.ErrRefused, http.StatusBadRequest, "M_INVALID_PARAM"},
	{media.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{rendezvous.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{rendezvous.ErrTooLarge, http.StatusRequestEntityTooLarge, "M_TOO_LARGE"},
	{rendezvous.ErrChanged, http.StatusPreconditionFailed, "M_CONCURRENT_WRITE"},
	{rendezvous.ErrMany, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED"},
	{preview.ErrURL, http.StatusBadRequest, "M_INVALID_PARAM"},
	{preview.ErrFetch, http.StatusBadGateway, "M_UNKNOWN"},
	{media.ErrNotYet, http.StatusGatewayTimeout, "M_NOT_YET_UPLOADED"},
	{media.ErrUploaded, http.StatusConflict, "M_CANNOT_OVERWRITE_MEDIA"},
	{media.ErrUnsupported, http.StatusBadRequest, "M_UNKNOWN"},
	{media.ErrTooLarge, http.StatusRequestEntityTooLarge, "M_TOO_LARGE"},
	{delayed.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{delayed.ErrConflict, http.StatusConflict, "M_UNKNOWN"},
	{delayed.ErrMany, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED"},
	{keys.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{matrix.ErrSignature, http.StatusBadRequest, "M_INVALID_SIGNATURE"},
	{push.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{sync.ErrUnknownPos, http.StatusBadRequest, "M_UNKNOWN_POS"},
	{room.ErrNotFound, http.StatusNotFound, "M_NOT_FOUND"},
	{room.ErrExists, http.StatusConflict, "M_ROOM_IN_USE"},
	{room.ErrSelfDenied, http.StatusBadRequest, "M_BAD_STATE"},
	{matrix.ErrForbidden, http.StatusForbidden, "M_FORBIDDEN"},
	{matrix.ErrTooLarge, http.StatusRequestEntityTooLarge, "M_TOO_LARGE"},
	{matrix.ErrVersion, http.StatusBadRequest, "M_UNSUPPORTED_ROOM_VERSION"},
	{matrix.ErrMalformed, http.StatusBadRequest, "M_BAD_JSON"},
	{oauth.ErrIssuer, http.StatusServiceUnavailable, "M_UNKNOWN"},
	{table.ErrUnavailable, http.StatusServiceUnavailable, "M_UNKNOWN"},
	{table.ErrClosed, http.StatusServiceUnavailable, "M_UNKNOWN"},
}

// toError is an error as an answer. What is not of a known kind is a fault of the server: its text is for the log only.
func toError(err error) (e *Error, fault bool) {
	var limit *http.MaxBytesError
	var rule *auth.Rejection
	var mails *validation.TooMany
	var identities *identity.Refusal
	switch {
	case errors.As(err, &e):
		return e, false
	case errors.As(err, &limit):
		return fail(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "the request is too large"), false
	case errors.Is(err, account.ErrExpired):
		e := fail(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", err.Error())
		e.More = map[string]any{"soft_logout": true}
		return e, false
	case errors.As(err, &rule):
		return forbidden(rule.Reason + " (rule " + rule.Rule + " of room version " + rule.Version + ")"), false
	case errors.As(err, &identities): // clause identity service API: it is for the client
		return fail(min(identities.Status, http.StatusBadGateway), identities.Code, identities.Text), false
	case errors.As(err, &mails):
		e := fail(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", mails.Error())
		e.After = mails.After
		return e, false
	case errors.Is(err, context.Canceled):
		return fail(499, "M_UNKNOWN", "the client went away"), false
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			text := err.Error()
			if k.status == http.StatusServiceUnavailable {
				return fail(k.status, k.code, "what the server needs is not available, try again"), true
			}
			return fail(k.status, k.code, text), false
		}
	}
	return fail(http.StatusInternalServerError, "M_UNKNOWN", "the server failed"), true
}

// Explain is an error as clients see it, as JSON.
func Explain(err error) []byte {
	e, _ := toError(err)
	text, _ := json.Marshal(e)
	return text
}

// MarshalJSON adds the further fields.
func (e *Error) MarshalJSON() ([]byte, error) {
	all := map[string]any{}
	if e.Code != "" { // an authentication that only began is no error
		all["errcode"], all["error"] = e.Code, e.Text
	}
	maps.Copy(all, e.More)
	if e.After > 0 {
		all["retry_after_ms"] = e.After.Milliseconds()
	}
	return json.Marshal(all)
}
