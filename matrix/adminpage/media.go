package adminpage

import (
	"cmp"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/internal/amount"
	"orrery/matrix/page"
	"orrery/matrix/store"
)

// upload is what somebody uploaded, as it is listed.
type upload struct {
	store.Media

	Picture bool // there may be a thumbnail of it
}

func (p *Pages) media(v *visit) error {
	if user := v.FormValue("user"); user != "" {
		return p.uploads(v, p.c.Accounts.Full(user))
	}
	all, err := p.c.Media.Stats(v.Context())
	if err != nil {
		return err
	}
	total, n := int64(0), 0
	for _, u := range all {
		total += u.Bytes
		n += u.Count
	}
	slices.SortStableFunc(all, func(x, y usage) int { return cmp.Compare(y.Bytes, x.Bytes) })
	from := min(number(v.FormValue("from")), len(all))
	shown := all[from:min(from+perPage, len(all))]
	return v.render(http.StatusOK, "media", map[string]any{
		"Title": "Media", "Usage": shown, "Bytes": total, "Count": n, "Keep": int(p.c.KeepMedia / (24 * time.Hour)), "List": v.list(len(all), len(shown), from),
	})
}

func (p *Pages) uploads(v *visit, user string) error {
	all, err := p.c.Media.Of(v.Context(), user, time.Time{})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(x, y store.Media) int { return cmp.Compare(y.Created, x.Created) })
	from := min(number(v.FormValue("from")), len(all))
	var shown []upload
	for _, m := range all[from:min(from+perPage, len(all))] {
		shown = append(shown, upload{m, m.Hash != "" && !m.Quarantined && strings.HasPrefix(m.Type, "image/")})
	}
	return v.render(http.StatusOK, "uploads", map[string]any{"Title": "Uploads of " + user, "Of": user, "Uploads": shown, "List": v.list(len(all), len(shown), from)})
}

// picture is a small copy of a picture, which is made anew of what was uploaded, and never what was.
func (p *Pages) picture(v *visit) error {
	row, err := p.c.Media.Find(v.Context(), v.PathValue("media"))
	if err != nil {
		return err
	}
	f, kind, err := p.c.Media.Thumbnail(v.Context(), row, 96, 96, true)
	if err != nil {
		return &page.Problem{Status: http.StatusNotFound, Text: "There is no small copy of this."}
	}
	defer func() { _ = f.Close() }()
	v.w.Header().Set("Content-Type", kind)
	_, _ = io.Copy(v.w, f)
	return nil
}

func (p *Pages) mediaActions() map[string]action {
	owner := func(v *visit) string {
		if m, err := p.c.Media.Info(v.Context(), v.PathValue("media")); err == nil {
			return at("media") + "?user=" + escape(m.User)
		}
		return at("media") + "?user=" + escape(v.FormValue("user"))
	}
	return map[string]action{
		"media/{media}/quarantine": {
			title: "Quarantine the upload", plain: true, back: owner,
			do: func(v *visit) (string, error) {
				return "Nobody gets the upload any more.", p.c.Media.Quarantine(v.Context(), v.PathValue("media"), true)
			},
		},
		"media/{media}/release": {
			title: "Release the upload", plain: true, back: owner,
			do: func(v *visit) (string, error) {
				return "The upload can be got again.", p.c.Media.Quarantine(v.Context(), v.PathValue("media"), false)
			},
		},
		"media/{media}/delete": {
			title: "Delete the upload", back: owner,
			says: func(v *visit) ([]string, error) {
				m, err := p.c.Media.Info(v.Context(), v.PathValue("media"))
				return []string{"The upload " + cmp.Or(m.Name, m.ID) + " of " + m.User + " (" + amount.Bytes(m.Size) + ") is removed.", "Messages that show it show nothing then. This cannot be taken back."}, err
			},
			do: func(v *visit) (string, error) {
				return "The upload was removed.", p.c.Media.Delete(v.Context(), v.PathValue("media"))
			},
		},
		"media-purge": {
			title: "Remove uploads", back: same("media"),
			says: func(v *visit) ([]string, error) {
				user, before, err := p.purgeOf(v)
				if err != nil {
					return nil, err
				}
				all, err := p.c.Media.Of(v.Context(), user, before)
				bytes := int64(0)
				for _, m := range all {
					bytes += m.Size
				}
				whose := "of everybody"
				if user != "" {
					whose = "of " + user
				}
				return []string{count(len(all), "upload") + " " + whose + " of before " + before.UTC().Format("2 January 2006 15:04 UTC") + " are removed: " + amount.Bytes(bytes) + ".", "Messages that show them show nothing then. This cannot be taken back."}, err
			},
			do: func(v *visit) (string, error) {
				user, before, err := p.purgeOf(v)
				if err != nil {
					return "", err
				}
				n, bytes, err := p.remove(v, user, before)
				return count(n, "upload") + " of " + amount.Bytes(bytes) + " were removed.", err
			},
		},
	}
}

// purgeOf is of which user, or of "" all, and of before when uploads are to be removed.
func (p *Pages) purgeOf(v *visit) (user string, before time.Time, err error) {
	if s := strings.TrimSpace(v.FormValue("user")); s != "" {
		user = p.c.Accounts.Full(s)
	}
	days, err := strconv.Atoi(v.FormValue("days"))
	if err != nil || days < 0 || user == "" && days == 0 {
		return "", before, &page.Problem{Status: http.StatusBadRequest, Text: "Say after how many days uploads are removed; of everybody's, at least one."}
	}
	return user, p.c.Now().AddDate(0, 0, -days), nil
}

// remove removes the uploads of a user, or of "" everybody's, of before a time.
func (p *Pages) remove(v *visit, user string, before time.Time) (n int, bytes int64, err error) {
	all, err := p.c.Media.Of(v.Context(), user, before)
	if err != nil {
		return 0, 0, err
	}
	for _, m := range all {
		if err := p.c.Media.Delete(v.Context(), m.ID); err != nil {
			return n, bytes, err
		}
		n++
		bytes += m.Size
	}
	return n, bytes, nil
}
