package contact_test

import (
	"errors"
	"strings"
	"testing"

	"orrery/matrix/contact"
)

// TestParse: an address has one form, and what is none is refused, above all what would be more than an address in the header of a mail.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"bob@Example.com": "bob@example.com", "Strauß@Example.com": "strauss@example.com", " Anne.B+c@example.org ": "anne.b+c@example.org",
	} {
		if a, err := contact.Parse(contact.Email, text); err != nil || a.Text != want || a.Medium != contact.Email {
			t.Errorf("%q: %v %v", text, a, err)
		}
	}
	for _, text := range []string{
		"", "anne", "@example.org", "anne@", "anne@example", "Anne <anne@example.org>", "mailto:anne@example.org", "anne@example.org, bob@example.org", "a b@example.org",
		"anne@example.org\r\nBcc: bob@example.org", "anne@example.org\nX: y", "anne\x00@example.org", `"a b"@example.org`, "anne@exa mple.org", "anne@[127.0.0.1]", "a@b@example.org",
		"anne..b@example.org", ".anne@example.org", strings.Repeat("a", 65) + "@example.org", "a@" + strings.Repeat("b", 250) + ".org", "an\u2028ne@example.org", "anne@example.org(c)",
	} {
		if a, err := contact.Parse(contact.Email, text); !errors.Is(err, contact.ErrAddress) {
			t.Errorf("%q is %v, %v", text, a, err)
		}
	}
	for text, want := range map[string]string{"447700900001": "447700900001", "+44 7700 900-001": "447700900001", "0044 (7700) 900001": "447700900001"} {
		if a, err := contact.Parse(contact.MSISDN, text); err != nil || a.Text != want {
			t.Errorf("%q: %v %v", text, a, err)
		}
	}
	for _, text := range []string{"", "07700 900001", "123", "+44x7700900001", "1234567890123456", "++447700900001", "+0447700900001"} {
		if a, err := contact.Parse(contact.MSISDN, text); !errors.Is(err, contact.ErrAddress) {
			t.Errorf("%q is %v, %v", text, a, err)
		}
	}
	if _, err := contact.Parse("pigeon", "anne"); !errors.Is(err, contact.ErrMedium) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("Strauß@Example.com")
	f.Add("a@b.c\r\nBcc: d@e.f")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := contact.Parse(contact.Email, text)
		if err != nil {
			return
		}
		if strings.ContainsAny(a.Text, "\r\n\x00<>, ") {
			t.Errorf("%q becomes %q", text, a.Text)
		}
		again, err := contact.Parse(contact.Email, a.Text)
		if len(a.Text) <= 254 && err == nil && again != a {
			t.Errorf("%q becomes %q, then %q", text, a.Text, again.Text)
		}
	})
}

// TestHashed: the examples of the specification (identity service API, association lookup).
func TestHashed(t *testing.T) {
	for _, c := range [][3]string{
		{contact.Email, "alice@example.com", "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"},
		{contact.Email, "bob@example.com", "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8"},
		{contact.MSISDN, "18005552067", "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I"},
	} {
		if got := (contact.Address{Medium: c[0], Text: c[1]}).Hashed("matrixrocks"); got != c[2] {
			t.Errorf("%s: %s, not %s", c[1], got, c[2])
		}
	}
}

func TestSecret(t *testing.T) {
	for _, s := range []string{"a", "monkeys_are_GREAT", "a.b=c-d", strings.Repeat("x", 255)} {
		if err := contact.ValidSecret(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "a b", "a/b", "ä", strings.Repeat("x", 256)} {
		if err := contact.ValidSecret(s); !errors.Is(err, contact.ErrSecret) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestSession: a session goes on by the tokens of its mails only, not for ever, and counts for what it is for.
func TestSession(t *testing.T) {
	const start = 1_000_000
	hour, of := int64(3_600_000), contact.Address{Medium: contact.Email, Text: "anne@example.org"}
	s := contact.Begin(contact.Reset, of, "", "secret", "", start).WithToken("one", start).Sent(1).WithToken("two", start+hour).Sent(2)
	if s.Attempt != 2 {
		t.Error(s.Attempt)
	}
	if err := s.Prove(contact.Reset, "", "secret", start); !errors.Is(err, contact.ErrNotYet) {
		t.Error(err)
	}
	if _, err := s.Submit("one", start+25*hour); !errors.Is(err, contact.ErrExpired) {
		t.Error(err)
	}
	for _, token := range []string{"one", "two"} {
		if _, err := s.Submit(token, start+2*hour); err != nil {
			t.Error(token, err)
		}
	}
	more := s.WithToken("three", start).WithToken("four", start)
	if _, err := more.Submit("one", start); !errors.Is(err, contact.ErrToken) {
		t.Error("the token of an old mail counts for ever", err)
	}
	proved, err := s.Submit("two", start+2*hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p            contact.Purpose
		user, secret string
		now          int64
		want         error
	}{
		{contact.Reset, "", "secret", start + 3*hour, nil},
		{contact.Register, "", "secret", start + 3*hour, contact.ErrSession},
		{contact.Reset, "", "other", start + 3*hour, contact.ErrSession},
		{contact.Reset, "", "secret", start + 27*hour, contact.ErrExpired},
	} {
		if err := proved.Prove(c.p, c.user, c.secret, c.now); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	of1 := proved
	of1.User = "@anne:example.org"
	if err := of1.Prove(contact.Reset, "@bob:example.org", "secret", start+3*hour); !errors.Is(err, contact.ErrSession) {
		t.Error("somebody uses another's session", err)
	}
	for range contact.MaxTries {
		if s, err = s.Submit("wrong", start); !errors.Is(err, contact.ErrToken) {
			t.Fatal(err)
		}
	}
	if _, err := s.Submit("two", start); !errors.Is(err, contact.ErrTries) {
		t.Error("tokens can be guessed", err)
	}
}
