package api

import (
	"context"

	"orrery/matrix/contact"
)

// adminContacts is whose an address is.
func (a *API) adminContacts() {
	a.administer("GET v1/threepid/{medium}/users/{address}", func(q *request) (any, error) {
		of, err := contact.Parse(q.PathValue("medium"), q.PathValue("address"))
		if err != nil {
			return nil, err
		}
		user, err := a.Accounts.ByContact(q.Context(), of)
		if e, fault := toError(err); err != nil && !fault && e.Code == "M_THREEPID_NOT_FOUND" {
			return nil, notFound(e.Text)
		}
		return map[string]string{"user_id": user}, err
	})
}

// viewContacts are the addresses of a user, as clients and administrators see them.
func (a *API) viewContacts(ctx context.Context, user string) ([]any, error) {
	all, err := a.Accounts.Contacts(ctx, user)
	views := []any{}
	for _, c := range all {
		views = append(views, map[string]any{"medium": c.Medium, "address": c.Address, "validated_at": c.Validated, "added_at": c.Added})
	}
	return views, err
}

// threepid is an address that an administrator gives an account.
type threepid struct {
	Medium  string `json:"medium"`
	Address string `json:"address"`
}

// setContacts makes addresses those of an account, and no others.
func (a *API) setContacts(ctx context.Context, user string, all []threepid) error {
	var parsed []contact.Address
	for _, one := range all {
		of, err := contact.Parse(one.Medium, one.Address)
		if err != nil {
			return err
		}
		parsed = append(parsed, of)
	}
	return a.Accounts.SetContacts(ctx, user, parsed)
}
