package mail_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/internal/testenv/postbox"
	"orrery/matrix/contact/mail"
)

// TestSend: mails go to a real server, encrypted in both ways, by a password.
func TestSend(t *testing.T) {
	ca := testenv.NewAuthority(t)
	for _, encryption := range []string{mail.StartTLS, mail.TLS} {
		t.Run(encryption, func(t *testing.T) {
			box := postbox.Start(t, postbox.Options{CA: ca, Implicit: encryption == mail.TLS, User: "chat", Password: "pw"})
			c := mail.Config{Server: box.Address, Encryption: encryption, User: "chat", Password: "pw", From: "Büro <chat@example.org>", Roots: roots(t, ca)}
			s, err := mail.New(c)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Send(t.Context(), "anne@example.org", "Grüße", "line one\r\n\r\nhttps://example.org/?a=b&c="+strings.Repeat("d", 100)+"\r\n"); err != nil {
				t.Fatal(err)
			}
			m := box.Next(t)
			if m.Helo != "example.org" || !strings.HasSuffix(m.Header.Get("Message-ID"), "@example.org>") {
				t.Errorf("the mail says of this machine %q, %q", m.Helo, m.Header.Get("Message-ID"))
			}
			if m.From != "chat@example.org" || m.To != "anne@example.org" || !strings.Contains(m.Text, "/?a=b&c="+strings.Repeat("d", 100)) || m.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Errorf("%+v", m)
			}
			box.Refuse("nobody@example.org")
			if err := s.Send(t.Context(), "nobody@example.org", "s", "t"); !errors.Is(err, mail.ErrRefused) {
				t.Error(err)
			}
			for what, wrong := range map[string]func(*mail.Config){
				"a password":    func(c *mail.Config) { c.Password = "other" },
				"a certificate": func(c *mail.Config) { c.Roots = nil },
				"an encryption": func(c *mail.Config) {
					c.Encryption = map[string]string{mail.TLS: mail.StartTLS, mail.StartTLS: mail.TLS}[encryption]
				},
			} {
				other := c
				if wrong(&other); what == "an encryption" && encryption == mail.TLS {
					continue // that would wait for a greeting until it gives up
				}
				s, err := mail.New(other)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Check(t.Context()); err == nil {
					t.Errorf("%s that is wrong does", what)
				}
			}
		})
	}
}

// TestExplained: what is configured otherwise than the server is, is said, with what to do; also by a server that waits for TLS, and says nothing until then.
func TestExplained(t *testing.T) {
	ca := testenv.NewAuthority(t)
	plain, starts, begins := postbox.Start(t, postbox.Options{}), postbox.Start(t, postbox.Options{CA: ca}), postbox.Start(t, postbox.Options{CA: ca, Implicit: true})
	for _, c := range []struct {
		config mail.Config
		want   string
	}{
		{mail.Config{Server: begins.Address, Encryption: mail.StartTLS, Timeout: time.Second}, "waits for TLS from the beginning (set encryption: tls"},
		{mail.Config{Server: begins.Address, Encryption: mail.None, Timeout: time.Second}, "waits for TLS from the beginning (set encryption: tls"},
		{mail.Config{Server: starts.Address, Encryption: mail.TLS}, "does not begin with TLS (set encryption: starttls"},
		{mail.Config{Server: plain.Address, Encryption: mail.TLS}, "does not begin with TLS (set encryption: starttls"},
		{mail.Config{Server: plain.Address, Encryption: mail.StartTLS}, "does not offer STARTTLS"},
		{mail.Config{Server: starts.Address, Encryption: mail.StartTLS}, "has a certificate that nobody signed whom this machine trusts (name who did by ca_file)"},
		{mail.Config{Server: begins.Address, Encryption: mail.TLS}, "has a certificate that nobody signed whom this machine trusts (name who did by ca_file)"},
	} {
		c.config.From = "chat@example.org"
		s, err := mail.New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{"check": s.Check(t.Context()), "send": s.Send(t.Context(), "anne@example.org", "s", "t")} {
			if err == nil || !strings.Contains(err.Error(), "server of mail "+c.config.Server+" "+c.want) {
				t.Errorf("%s, %s at %s: %v", what, c.config.Encryption, c.config.Server, err)
			}
		}
	}
}

// TestRefused: only what is said of an address or a mailbox means that nothing can be sent there, and of that the code is told; a server that takes nothing from this
// one, or not now, says nothing about the address.
func TestRefused(t *testing.T) {
	box := postbox.Start(t, postbox.Options{})
	s, err := mail.New(mail.Config{Server: box.Address, Encryption: mail.None, From: "chat@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		code     int
		enhanced []int
		refused  bool
	}{
		{550, []int{5, 1, 1}, true},
		{552, []int{5, 2, 2}, true},
		{450, []int{4, 2, 0}, false},
		{553, []int{5, 1, 8}, false},
		{554, []int{5, 7, 1}, false},
	} {
		to := fmt.Sprintf("number%d@example.org", i)
		box.Answer(to, c.code, c.enhanced...)
		err := s.Send(t.Context(), to, "s", "t")
		if err == nil || errors.Is(err, mail.ErrRefused) != c.refused {
			t.Errorf("%d %v: %v", c.code, c.enhanced, err)
		}
		if want := fmt.Sprintf("no mail can be sent to this address: the server of mail answered %d %d.%d.%d", c.code, c.enhanced[0], c.enhanced[1], c.enhanced[2]); c.refused && err.Error() != want {
			t.Errorf("%v", err)
		}
	}
}

// TestUnencrypted: where the connection must be encrypted, nothing is sent without; and a password never is.
func TestUnencrypted(t *testing.T) {
	box := postbox.Start(t, postbox.Options{})
	s, err := mail.New(mail.Config{Server: box.Address, Encryption: mail.StartTLS, From: "chat@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), "anne@example.org", "s", "t"); err == nil || len(box.Mails) > 0 {
		t.Error("a mail was sent to a server that does not encrypt")
	}
	if s, err = mail.New(mail.Config{Server: box.Address, Encryption: mail.None, From: "chat@example.org"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), "anne@example.org", "s", "t"); err != nil {
		t.Fatal(err)
	}
	box.Next(t)
	if s, err = mail.New(mail.Config{Server: box.Address, Encryption: mail.None, From: "chat@example.org", User: "chat", Password: "pw"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), "anne@example.org", "s", "t"); err == nil || len(box.Mails) > 0 {
		t.Error("a password was said where others can hear it")
	}
}

// TestDown: a server that is not there is an error.
func TestDown(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	s, err := mail.New(mail.Config{Server: l.Addr().String(), Encryption: mail.None, From: "chat@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), "anne@example.org", "s", "t"); err == nil || errors.Is(err, mail.ErrRefused) {
		t.Error(err)
	}
}

func roots(t *testing.T, ca *testenv.Authority) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(ca.File)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal("no authority", err)
	}
	return pool
}

func TestConfig(t *testing.T) {
	for _, c := range []mail.Config{
		{Server: "localhost", Encryption: mail.TLS, From: "a@example.org"},
		{Server: "localhost:0", Encryption: mail.TLS, From: "a@example.org"},
		{Server: ":25", Encryption: mail.TLS, From: "a@example.org"},
		{Server: "localhost:25", Encryption: "ssl", From: "a@example.org"},
		{Server: "localhost:25", Encryption: mail.TLS, From: "nobody"},
		{Server: "localhost:25", Encryption: mail.TLS, From: "a@example.org\r\nBcc: b@example.org"},
	} {
		if _, err := mail.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
