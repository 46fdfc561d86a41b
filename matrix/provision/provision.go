// Package provision takes what an external issuer of tokens says of accounts: who has one, how they are shown, by which addresses they are reached, which devices they have
// logged in, and that they may replace the identity of their keys.
//
// The requests are those that Matrix Authentication Service makes of a homeserver, below Path, as it and Synapse define them between each other. No specification has them; clients
// see nothing of it. Whoever may make them was found out before. What an issuer says counts: it asks again for what it got no answer to, so each request may come twice.
package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/store"
)

// Path is where the requests are.
const Path = "/_synapse/mas/"

var (
	// ErrUnknown says that there is no such request.
	ErrUnknown = errors.New("there is no such request")
	// ErrMissing says that something is missing in a request.
	ErrMissing = errors.New("is missing")
	// ErrMalformed says that something in a request cannot be what it is.
	ErrMalformed = errors.New("cannot be read")
)

// maxDevice is how long a device's id may be.
const maxDevice = 255

// Config is what is changed.
type Config struct {
	Accounts *account.Accounts

	// Show shows a change of a user's name or picture where the user is.
	Show func(ctx context.Context, user, field string) error
	// LogOut removes a device of a user's.
	LogOut func(ctx context.Context, user, device string) error
	// Deactivate ends an account.
	Deactivate func(ctx context.Context, user string, erase bool) error
	// AllowReset lets a user replace the identity of their keys, once and soon.
	AllowReset func(ctx context.Context, user string) error
}

// Accounts are those of which an issuer speaks.
type Accounts struct {
	c   Config
	all map[string]func(ctx context.Context, in input) (status int, answer any, err error)
}

// New is such accounts.
func New(c Config) *Accounts {
	a := &Accounts{c: c}
	a.all = map[string]func(context.Context, input) (int, any, error){
		"GET query_user":                  a.query,
		"GET is_localpart_available":      a.free,
		"POST provision_user":             a.provision,
		"POST delete_user":                a.delete,
		"POST reactivate_user":            a.reactivate,
		"POST set_displayname":            a.setName,
		"POST unset_displayname":          a.unsetName,
		"POST allow_cross_signing_reset":  a.allowReset,
		"POST upsert_device":              a.putDevice,
		"POST update_device_display_name": a.nameDevice,
		"POST delete_device":              a.deleteDevice,
		"POST sync_devices":               a.syncDevices,
	}
	return a
}

// input is what a request says.
type input struct {
	Localpart  *string   `json:"localpart"`
	Name       *string   `json:"displayname"`
	DeviceID   *string   `json:"device_id"`
	DeviceName *string   `json:"display_name"`
	Devices    *[]string `json:"devices"`
	Erase      *bool     `json:"erase"`
	profile
}

// Do does what is asked. A status of 204 has no answer. The errors are ErrUnknown, ErrMissing, ErrMalformed, and those of accounts.
func (a *Accounts) Do(ctx context.Context, method, name string, query url.Values, body []byte) (status int, answer any, err error) {
	do, ok := a.all[method+" "+name]
	if !ok {
		return 0, nil, fmt.Errorf("%w: %s %s%s", ErrUnknown, method, Path, name)
	}
	var in input
	switch {
	case method != http.MethodGet:
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&in); err != nil {
			return 0, nil, fmt.Errorf("the request %w: %w", ErrMalformed, err)
		}
	case query.Has("localpart"):
		in.Localpart = new(query.Get("localpart"))
	}
	if in.Localpart == nil {
		return 0, nil, fmt.Errorf("localpart %w", ErrMissing)
	}
	return do(ctx, in)
}

// user is the account that a request is about. The error is account.ErrNotFound if there is none.
func (a *Accounts) user(ctx context.Context, in input) (store.User, error) {
	return a.c.Accounts.User(ctx, a.c.Accounts.Full(*in.Localpart))
}

// done is the answer of what has nothing to say.
func done(err error) (int, any, error) { return http.StatusOK, struct{}{}, err }

func (a *Accounts) query(ctx context.Context, in input) (int, any, error) {
	u, err := a.user(ctx, in)
	if err != nil {
		return 0, nil, err
	}
	all, err := a.c.Accounts.Profile(ctx, u.ID)
	return http.StatusOK, map[string]any{
		"user_id": u.ID, "display_name": all[fieldName], "avatar_url": all[fieldPicture], "is_suspended": u.Suspended, "is_deactivated": u.Deactivated,
	}, err
}

func (a *Accounts) free(ctx context.Context, in input) (int, any, error) {
	return done(a.c.Accounts.Free(ctx, *in.Localpart))
}

// delete ends an account; one that has ended is made to be forgotten, if that is wanted now.
func (a *Accounts) delete(ctx context.Context, in input) (int, any, error) {
	if in.Erase == nil {
		return 0, nil, fmt.Errorf("erase %w", ErrMissing)
	}
	u, err := a.user(ctx, in)
	if err == nil {
		err = a.c.Deactivate(ctx, u.ID, *in.Erase)
	}
	return done(err)
}

func (a *Accounts) reactivate(ctx context.Context, in input) (int, any, error) {
	u, err := a.user(ctx, in)
	if err == nil && u.Deactivated {
		err = a.c.Accounts.Reactivate(ctx, u.ID)
	}
	return done(err)
}

func (a *Accounts) allowReset(ctx context.Context, in input) (int, any, error) {
	u, err := a.user(ctx, in)
	if err == nil {
		err = a.c.AllowReset(ctx, u.ID)
	}
	return done(err)
}

// putDevice makes a device, or names one that is there.
func (a *Accounts) putDevice(ctx context.Context, in input) (int, any, error) {
	u, id, err := a.device(ctx, in)
	if err != nil {
		return 0, nil, err
	}
	made, err := a.c.Accounts.PutDevice(ctx, u.ID, id, in.DeviceName)
	if made {
		return http.StatusCreated, struct{}{}, err
	}
	return done(err)
}

func (a *Accounts) nameDevice(ctx context.Context, in input) (int, any, error) {
	u, id, err := a.device(ctx, in)
	if err == nil && in.DeviceName == nil {
		err = fmt.Errorf("display_name %w", ErrMissing)
	}
	if err == nil {
		err = a.c.Accounts.NameDevice(ctx, u.ID, id, *in.DeviceName)
	}
	return done(err)
}

func (a *Accounts) deleteDevice(ctx context.Context, in input) (int, any, error) {
	u, id, err := a.device(ctx, in)
	if err == nil {
		err = a.c.LogOut(ctx, u.ID, id)
	}
	return http.StatusNoContent, nil, err
}

// device is the account and the device's id that a request is about.
func (a *Accounts) device(ctx context.Context, in input) (u store.User, id string, err error) {
	if in.DeviceID == nil {
		return u, "", fmt.Errorf("device_id %w", ErrMissing)
	}
	if id = *in.DeviceID; !validDevice(id) {
		return u, "", fmt.Errorf("device_id %w: it has 1 to %d bytes", ErrMalformed, maxDevice)
	}
	u, err = a.user(ctx, in)
	return u, id, err
}

func validDevice(id string) bool { return id != "" && len(id) <= maxDevice }

// syncDevices makes devices those of a user, and no others. Dehydrated ones are none of them.
func (a *Accounts) syncDevices(ctx context.Context, in input) (int, any, error) {
	if in.Devices == nil {
		return 0, nil, fmt.Errorf("devices %w", ErrMissing)
	}
	for _, id := range *in.Devices {
		if !validDevice(id) {
			return 0, nil, fmt.Errorf("devices %w: an id has 1 to %d bytes", ErrMalformed, maxDevice)
		}
	}
	u, err := a.user(ctx, in)
	if err != nil {
		return 0, nil, err
	}
	has, err := a.c.Accounts.Devices(ctx, u.ID)
	for _, d := range has {
		if !slices.Contains(*in.Devices, d.ID) {
			err = errors.Join(err, a.c.LogOut(ctx, u.ID, d.ID))
		}
	}
	for _, id := range *in.Devices {
		if err == nil {
			_, err = a.c.Accounts.PutDevice(ctx, u.ID, id, nil)
		}
	}
	return done(err)
}

// addresses are those of mail that an issuer speaks of.
func addresses(all []string) (parsed []contact.Address, err error) {
	for _, text := range all {
		of, err := contact.Parse(contact.Email, text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(parsed, of) {
			parsed = append(parsed, of)
		}
	}
	return parsed, nil
}
