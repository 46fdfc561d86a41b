package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/store"
)

// Fields of profiles that an issuer sets.
const (
	fieldName    = "displayname"
	fieldPicture = "avatar_url"
)

// profile is what a request says of how a user is shown and reached. Each is set, unset, or left as it is.
type profile struct {
	SetName      *string   `json:"set_displayname"`
	UnsetName    bool      `json:"unset_displayname"`
	SetPicture   *string   `json:"set_avatar_url"`
	UnsetPicture bool      `json:"unset_avatar_url"`
	SetEmails    *[]string `json:"set_emails"`
	UnsetEmails  bool      `json:"unset_emails"`
	Locked       *bool     `json:"locked"`
}

func (p profile) check() error {
	for what, both := range map[string]bool{
		fieldName: p.SetName != nil && p.UnsetName, fieldPicture: p.SetPicture != nil && p.UnsetPicture, "emails": p.SetEmails != nil && p.UnsetEmails,
	} {
		if both {
			return fmt.Errorf("%s %w: it is set and unset", what, ErrMalformed)
		}
	}
	return nil
}

// emails are the addresses that a user is to have; nil: those that they have.
func (p profile) emails() ([]contact.Address, error) {
	if p.UnsetEmails {
		return []contact.Address{}, nil
	}
	if p.SetEmails == nil {
		return nil, nil
	}
	all, err := addresses(*p.SetEmails)
	if all == nil {
		all = []contact.Address{}
	}
	return all, err
}

// provision makes an account, or changes how its user is shown and reached.
func (a *Accounts) provision(ctx context.Context, in input) (int, any, error) {
	emails, err := in.emails()
	if err = errors.Join(in.check(), err); err != nil {
		return 0, nil, err
	}
	u, err := a.user(ctx, in)
	status := http.StatusOK
	if errors.Is(err, account.ErrNotFound) {
		status = http.StatusCreated
		u, err = a.c.Accounts.Make(ctx, account.NewUser{Name: *in.Localpart, Shown: deref(in.SetName)})
	} else if err == nil {
		err = a.show(ctx, u.ID, fieldName, in.SetName, in.UnsetName)
	}
	if err == nil {
		err = a.show(ctx, u.ID, fieldPicture, in.SetPicture, in.UnsetPicture)
	}
	if err == nil && emails != nil && !u.Deactivated {
		err = a.c.Accounts.TakeContacts(ctx, u.ID, contact.Email, emails)
	}
	if err == nil && in.Locked != nil && *in.Locked != u.Locked {
		err = a.c.Accounts.Moderate(ctx, u.ID, func(u *store.User) { u.Locked = *in.Locked })
	}
	return status, struct{}{}, err
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// show sets a field of a user's profile, or removes it; "" removes it, too.
func (a *Accounts) show(ctx context.Context, user, field string, set *string, unset bool) error {
	if set == nil && !unset {
		return nil
	}
	var value json.RawMessage
	if deref(set) != "" {
		var err error
		if value, err = json.Marshal(*set); err != nil {
			return err
		}
	}
	if err := a.c.Accounts.SetProfile(ctx, user, field, value); err != nil {
		return err
	}
	return a.c.Show(ctx, user, field)
}

func (a *Accounts) setName(ctx context.Context, in input) (int, any, error) {
	if in.Name == nil {
		return 0, nil, fmt.Errorf("displayname %w", ErrMissing)
	}
	return a.rename(ctx, in)
}

func (a *Accounts) unsetName(ctx context.Context, in input) (int, any, error) {
	in.Name = nil
	return a.rename(ctx, in)
}

func (a *Accounts) rename(ctx context.Context, in input) (int, any, error) {
	u, err := a.user(ctx, in)
	if err == nil {
		err = a.show(ctx, u.ID, fieldName, in.Name, true)
	}
	return done(err)
}
