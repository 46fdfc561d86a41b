package adminpage

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"orrery/matrix"
	"orrery/matrix/admin"
	"orrery/matrix/page"
	"orrery/matrix/store"
)

// perPage is how many rows a list has.
const perPage = 50

// userFilters are which accounts are listed.
var userFilters = []choice{
	{"active", "in use"}, {"admins", "administrators"}, {"guests", "guests"}, {"locked", "locked"}, {"suspended", "suspended"}, {"deactivated", "deactivated"}, {"all", "all"},
}

func userQuery(v *visit) admin.UserQuery {
	q := admin.UserQuery{Search: v.FormValue("q"), Sort: v.FormValue("sort"), Descending: v.FormValue("dir") == "b", From: number(v.FormValue("from")), Limit: perPage}
	switch v.FormValue("show") {
	case "admins":
		q.Admin = new(true)
	case "guests":
		q.Guest = new(true)
	case "locked":
		q.Locked = new(true)
	case "suspended":
		q.Suspended = new(true)
	case "deactivated":
		q.Deactive = new(true)
	case "all":
	default:
		q.Deactive = new(false)
	}
	return q
}

func (p *Pages) users(v *visit) error {
	q := userQuery(v)
	shown, total, err := p.c.Admin.Users(v.Context(), q)
	if err != nil {
		return err
	}
	return v.render(http.StatusOK, "users", map[string]any{
		"Title": "Users", "Users": shown, "List": v.list(total, len(shown), q.From), "Filters": userFilters,
	})
}

func (p *Pages) user(v *visit) error {
	ctx, id := v.Context(), v.PathValue("user")
	u, err := p.c.Admin.User(ctx, id)
	if err != nil {
		return err
	}
	devices, err := p.c.Accounts.Devices(ctx, id)
	if err != nil {
		return err
	}
	contacts, err := p.c.Accounts.Contacts(ctx, id)
	if err != nil {
		return err
	}
	slices.SortFunc(devices, func(x, y store.Device) int { return int(y.Seen - x.Seen) })
	memberships, err := p.c.Admin.Memberships(ctx, id)
	if err != nil {
		return err
	}
	type place struct {
		admin.Room

		Is string
	}
	var places []place
	for _, room := range slices.Sorted(maps.Keys(memberships)) {
		if memberships[room] == matrix.Leave || len(places) >= 2*perPage {
			continue
		}
		r, err := p.c.Admin.Room(ctx, room)
		if err != nil {
			continue // it was removed meanwhile
		}
		places = append(places, place{r, memberships[room]})
	}
	uploads, err := p.c.Media.Of(ctx, id, time.Time{})
	if err != nil {
		return err
	}
	bytes := int64(0)
	for _, m := range uploads {
		bytes += m.Size
	}
	return v.render(http.StatusOK, "user", map[string]any{
		"Title": u.ID, "U": u, "Devices": devices, "Contacts": contacts, "Places": places, "All": len(memberships), "Uploads": len(uploads), "Bytes": bytes, "Self": u.ID == v.s.user,
	})
}

// other is the account in the path, which must not be that of who asks.
func (v *visit) other() (store.User, error) {
	u, err := v.p.c.Accounts.User(v.Context(), v.PathValue("user"))
	if err == nil && u.ID == v.s.user {
		err = &page.Problem{Status: http.StatusForbidden, Text: "You cannot do this to yourself."}
	}
	return u, err
}

func (p *Pages) userActions() map[string]action {
	back := of("users", "user")
	return map[string]action{
		"users/{user}/lock":         p.moderation("Lock the account", "is locked: all that their devices can do is log out", true, func(u *store.User, on bool) { u.Locked = on }),
		"users/{user}/unlock":       p.moderation("Unlock the account", "is not locked any more", false, func(u *store.User, on bool) { u.Locked = on }),
		"users/{user}/suspend":      p.moderation("Suspend the account", "is suspended: they read, and do nothing that others see", true, func(u *store.User, on bool) { u.Suspended = on }),
		"users/{user}/unsuspend":    p.moderation("End the suspension", "is not suspended any more", false, func(u *store.User, on bool) { u.Suspended = on }),
		"users/{user}/make-admin":   p.promotion("Make this user an administrator", true),
		"users/{user}/remove-admin": p.promotion("Take administration away", false),
		"users/{user}/logout": {
			title: "Log a device out", back: back,
			says: func(v *visit) ([]string, error) {
				d, err := p.c.Accounts.Device(v.Context(), v.PathValue("user"), v.FormValue("device"))
				return []string{"The device " + d.ID + " (" + called(d.Name) + ") of " + d.User + " is logged out.", "Its keys for encrypted messages go with it."}, err
			},
			do: func(v *visit) (string, error) {
				return "The device was logged out.", p.c.LogOut(v.Context(), v.PathValue("user"), v.FormValue("device"))
			},
		},
		"users/{user}/password": {
			title: "Give a new password", back: back,
			fields: []field{
				{Name: "password", Label: "The new password", Kind: "password", Hint: "Empty: one is made, and shown once."},
				{Name: "logout", Label: "Log all devices out", Kind: "checkbox", Checked: true, Hint: "Whoever has no backup of their keys cannot read older encrypted messages then."},
			},
			says: func(v *visit) ([]string, error) {
				u, err := p.c.Admin.User(v.Context(), v.PathValue("user"))
				return []string{u.ID + " gets another password.", fmt.Sprintf("Their visits to the server's own pages end, and, if you want, their %s.", count(u.Devices, "login"))}, err
			},
			do: p.newPassword,
		},
		"users/{user}/deactivate": {
			title: "Deactivate the account", back: back,
			fields: []field{
				{Name: "erase", Label: "Erase", Kind: "checkbox", Hint: "Hides what they wrote from whoever joins their rooms later, and forgets their profile and settings."},
				{Name: "media", Label: "Remove what they uploaded", Kind: "checkbox"},
			},
			says: p.saysDeactivate, do: p.deactivate,
		},
	}
}

func called(name string) string {
	if name == "" {
		return "without a name"
	}
	return name
}

// moderation is an action that changes what an account may do.
func (p *Pages) moderation(title, effect string, on bool, set func(*store.User, bool)) action {
	return action{
		title: title, plain: !on, back: of("users", "user"),
		says: func(v *visit) ([]string, error) {
			u, err := v.other()
			return []string{u.ID + " " + effect + ".", "This can be taken back."}, err
		},
		do: func(v *visit) (string, error) {
			u, err := v.other()
			if err != nil {
				return "", err
			}
			if on && u.Admin {
				return "", &page.Problem{Status: http.StatusForbidden, Text: "Administrators are not locked or suspended. Take administration away first."}
			}
			return u.ID + " " + effect + ".", p.c.Accounts.Moderate(v.Context(), u.ID, func(u *store.User) { set(u, on) })
		},
	}
}

func (p *Pages) promotion(title string, on bool) action {
	text := "can do all that these pages can, and use the admin API"
	if !on {
		text = "is an ordinary user again"
	}
	return action{
		title: title, back: of("users", "user"),
		says: func(v *visit) ([]string, error) {
			u, err := v.other()
			return []string{u.ID + " " + text + "."}, err
		},
		do: func(v *visit) (string, error) {
			u, err := v.other()
			if err != nil {
				return "", err
			}
			return u.ID + " " + text + ".", p.c.Accounts.SetAdmin(v.Context(), u.ID, on)
		},
	}
}

func (p *Pages) newPassword(v *visit) (string, error) {
	u, err := p.c.Accounts.User(v.Context(), v.PathValue("user"))
	if err != nil {
		return "", err
	}
	password, said := v.PostFormValue("password"), "The password was changed."
	if password == "" {
		password = rand.Text()
		said = "The new password of " + u.ID + " is " + password
	}
	if err := p.c.Admin.Password(v.Context(), u.ID, password, v.on("logout")); err != nil {
		return "", err
	}
	if u.ID == v.s.user { // otherwise this browser would be logged out
		changed, err := p.c.Accounts.User(v.Context(), u.ID)
		p.visits.change(v.key, func(s *session) { s.password = digest(changed) })
		return said, err
	}
	return said, nil
}

func (p *Pages) saysDeactivate(v *visit) ([]string, error) {
	u, err := v.other()
	if err != nil {
		return nil, err
	}
	all, err := p.c.Admin.Memberships(v.Context(), u.ID)
	if err != nil {
		return nil, err
	}
	rooms := 0
	for _, is := range all {
		if is == matrix.Join {
			rooms++
		}
	}
	more, err := p.c.Admin.User(v.Context(), u.ID)
	if err != nil {
		return nil, err
	}
	uploads, err := p.c.Media.Of(v.Context(), u.ID, time.Time{})
	return []string{
		u.ID + " leaves " + count(rooms, "room") + " and is logged out of " + count(more.Devices, "device") + ".", "Nobody can log in to the account any more, and its name stays taken.",
		"What they uploaded (" + count(len(uploads), "upload") + ") stays, unless you have it removed.", "This cannot be taken back.",
	}, err
}

func (p *Pages) deactivate(v *visit) (string, error) {
	u, err := v.other()
	if err != nil {
		return "", err
	}
	if err := p.c.Deactivate(v.Context(), u.ID, v.on("erase")); err != nil {
		return "", err
	}
	if v.on("media") {
		if _, _, err := p.remove(v, u.ID, time.Time{}); err != nil {
			return "", err
		}
	}
	return u.ID + " was deactivated.", nil
}
