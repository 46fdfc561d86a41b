package oauth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// letters of the codes that people type: no vowels, so that there are no words, and nothing that looks like another (RFC 8628, section 6.1).
const letters = "BCDFGHJKLMNPQRSTVWXZ"

// userCode is a code that people type: eight letters, some 34 bits, of which an attacker has a few tries in a quarter of an hour.
func userCode() string {
	b := make([]byte, 0, 8)
	for len(b) < 8 {
		var raw [16]byte
		_, _ = rand.Read(raw[:])
		for _, r := range raw {
			if int(r) < 256/len(letters)*len(letters) && len(b) < 8 { // each letter as likely as another
				b = append(b, letters[int(r)%len(letters)])
			}
		}
	}
	return string(b[:4]) + "-" + string(b[4:])
}

// typed is such a code as somebody typed it.
func typed(code string) string {
	code = strings.Map(func(r rune) rune {
		if strings.ContainsRune(letters, r) {
			return r
		}
		return -1
	}, strings.ToUpper(code))
	if len(code) != 8 {
		return ""
	}
	return code[:4] + "-" + code[4:]
}

// linkDevice begins to let in a device that has no browser (RFC 8628, section 3.1).
func (i *Issuer) linkDevice(r *http.Request) (any, error) {
	c, err := i.asks(r)
	if err != nil {
		return nil, err
	}
	s, err := readScope(r.PostFormValue("scope"))
	if err != nil {
		return nil, err
	}
	code := rand.Text() + rand.Text()
	l := store.OAuthLink{Hash: digest(code), UserCode: userCode(), Client: c.id, Scope: s.text, Expires: i.c.Now().Add(linkLifetime).UnixMilli()}
	if err := i.c.Stream.DB().Update(r.Context(), func(tx table.Tx) error {
		old, err := store.OAuthLinks.All(tx, table.Range{Index: "expires", Before: i.c.Now().UnixMilli()})
		for _, o := range old {
			err = errors.Join(err, store.OAuthLinks.Delete(tx, o.Hash))
		}
		return errors.Join(err, store.OAuthLinks.Put(tx, l))
	}); err != nil {
		return nil, err
	}
	page := i.at("account/link")
	return map[string]any{
		"device_code": code, "user_code": l.UserCode, "verification_uri": page, "verification_uri_complete": page + "?user_code=" + url.QueryEscape(l.UserCode),
		"expires_in": int64(linkLifetime / time.Second), "interval": int64(linkInterval / time.Second),
	}, nil
}

// byLink is what came of it (RFC 8628, section 3.5).
func (i *Issuer) byLink(r *http.Request, c *client) (any, error) {
	var l store.OAuthLink
	var slow bool
	now := i.c.Now().UnixMilli()
	if err := i.c.Stream.DB().Update(r.Context(), func(tx table.Tx) (err error) {
		var ok bool
		if l, ok, err = store.OAuthLinks.Get(tx, digest(r.PostFormValue("device_code"))); err != nil || !ok {
			return err
		}
		if l.User != "" || l.Denied {
			return store.OAuthLinks.Delete(tx, l.Hash)
		}
		slow = now-l.Polled < (linkInterval - time.Second).Milliseconds()
		row := l
		row.Polled = now
		return store.OAuthLinks.Put(tx, row)
	}); err != nil {
		return nil, err
	}
	switch {
	case len(l.Hash) == 0 || l.Client != c.id || now >= l.Expires:
		return nil, fail("expired_token", "the device's code is not known, or too old")
	case l.Denied:
		return nil, fail("access_denied", "the user said no")
	case l.User != "":
		return i.grant(r, c, store.OAuthCode{User: l.User, Scope: l.Scope, Proved: now})
	case slow:
		return nil, fail("slow_down", "ask every five seconds at most")
	}
	return nil, fail("authorization_pending", "the user has not said yet")
}

// link is what a code that somebody typed stands for, while it waits.
func (i *Issuer) link(ctx context.Context, code string) (l store.OAuthLink, ok bool, err error) {
	err = i.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		l, ok, err = store.OAuthLinks.First(tx, table.Range{Index: "user_code", Prefix: []any{typed(code)}})
		return err
	})
	return l, ok && l.User == "" && !l.Denied && i.c.Now().UnixMilli() < l.Expires, err
}

// decide is what a user says of a device that waits.
func (i *Issuer) decide(ctx context.Context, hash []byte, user string, allow bool) error {
	return i.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		l, ok, err := store.OAuthLinks.Get(tx, hash)
		if err != nil || !ok || l.User != "" {
			return err
		}
		if l.Denied = !allow; allow {
			l.User = user
		}
		return store.OAuthLinks.Put(tx, l)
	})
}
