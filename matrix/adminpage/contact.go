package adminpage

import (
	"cmp"

	"orrery/matrix/contact"
	"orrery/matrix/store"
)

// contactActions are those about the addresses of an account. Nobody is asked whether an address is theirs: the administrator says so.
func (p *Pages) contactActions() map[string]action {
	back := of("users", "user")
	return map[string]action{
		"users/{user}/add-address": {
			title: "Add an address", back: back,
			fields: []field{{Name: "address", Label: "Address", Kind: "text", Hint: "Of mail, or a number of a telephone with the code of its country, such as +44 7700 900001."}},
			says: func(v *visit) ([]string, error) {
				u, err := p.c.Accounts.User(v.Context(), v.PathValue("user"))
				return []string{u.ID + " can log in by the address.", "If it is one of mail, whoever reads its mails can get a new password for the account. Nobody is asked whether it is theirs."}, err
			},
			do: func(v *visit) (string, error) {
				of, err := contact.Any(v.PostFormValue("address"))
				if err == nil {
					err = p.c.Accounts.SetContact(v.Context(), v.PathValue("user"), of)
				}
				return of.Text + " is an address of the account.", wrong(err)
			},
		},
		"users/{user}/remove-address": {
			title: "Remove the address", back: back,
			says: func(v *visit) ([]string, error) {
				of, err := p.contactOf(v)
				return []string{of.Address + " is no address of " + of.User + " any more.", "Nobody logs in by it, and no new password is sent there."}, err
			},
			do: func(v *visit) (string, error) {
				of, err := p.contactOf(v)
				if err == nil {
					err = p.c.Accounts.RemoveContact(v.Context(), of.User, contact.Address{Medium: of.Medium, Text: of.Address})
				}
				return of.Address + " was removed.", err
			},
		},
	}
}

// contactOf is the address that the request names, which must be one of the account in the path.
func (p *Pages) contactOf(v *visit) (store.Contact, error) {
	user, medium, address := v.PathValue("user"), cmp.Or(v.FormValue("medium"), contact.Email), v.FormValue("address")
	all, err := p.c.Accounts.Contacts(v.Context(), user)
	for _, one := range all {
		if one.Medium == medium && one.Address == address {
			return one, nil
		}
	}
	return store.Contact{}, cmp.Or(err, contact.ErrUnknown)
}
