package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"orrery/matrix/contact/mail"
	"orrery/matrix/contact/validation"
	"orrery/matrix/store"
)

// Mail is a configuration's part about the server that delivers mails.
type Mail struct {
	Server     string `yaml:"server"`
	Encryption string `yaml:"encryption"`
	User       string `yaml:"user"`
	Password   string `yaml:"password_file"`
	From       string `yaml:"from"`
	CA         string `yaml:"ca_file"`
	Reveal     bool   `yaml:"reveal_addresses"`
}

const mailDefaults = `
# The server of mail, as smtp.example.org:587, by which users show that an address is theirs, and get a new password for one that they forgot; "" is none.
# base_url must be set: the mails have links.
mail:
  server: ""
  # How the connection is encrypted: starttls after it was opened, tls from its beginning (port 465), or none, where the server is on this machine.
  encryption: starttls
  user: ""
  password_file: ""
  # Who the mails are from, as in Chat <chat@example.org>.
  from: ""
  # A file of certificates by which the mail server's is signed; "": those that the system knows.
  ca_file: ""
  # Whether whoever asks is told whether an address is in somebody's account. Without this only a mail to that address says it.
  reveal_addresses: false
`

func (c *Config) checkMail() error {
	m := c.Mail
	switch {
	case m.Server == "" && c.NeedEmail:
		return errors.New("registration_needs_email is true, so mail.server must be set")
	case m.Server == "":
		return nil
	case c.BaseURL == "":
		return errors.New("mail.server is set, so base_url must say where the links of mails lead")
	case (m.User == "") != (m.Password == ""):
		return errors.New("mail.user and mail.password_file belong together")
	}
	_, err := mail.New(mail.Config{Server: m.Server, Encryption: m.Encryption, From: m.From})
	if err != nil {
		err = fmt.Errorf("mail: %w", err)
	}
	return err
}

// sender is what sends mails; nil if there is none.
func (c *Config) sender() (*mail.Sender, error) {
	m := mail.Config{Server: c.Mail.Server, Encryption: c.Mail.Encryption, User: c.Mail.User, From: c.Mail.From}
	if m.Server == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	var err error
	if c.Mail.Password != "" {
		if m.Password, err = c.read(c.Mail.Password); err != nil {
			return nil, err
		}
	}
	if c.Mail.CA != "" {
		text, err := os.ReadFile(c.path(c.Mail.CA))
		if err != nil {
			return nil, err
		}
		if m.Roots = x509.NewCertPool(); !m.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("file %s has no certificate", c.Mail.CA)
		}
	}
	return mail.New(m)
}

// validations are those of a server with this configuration.
func (c *Config) validations(stream *store.Stream, logger *slog.Logger) (*validation.Validations, error) {
	v := validation.Config{Stream: stream, Server: c.ServerName, URL: c.BaseURL, Reveal: c.Mail.Reveal, Limit: c.Limits.Mails, Messages: c.Limits.SMS, Daily: c.SMS.Daily, Now: c.Now, Logger: logger}
	sender, err := c.sender()
	if err != nil {
		return nil, err
	}
	gateway, err := c.gateway()
	if err != nil {
		return nil, err
	}
	if sender != nil && c.Outbound {
		v.Mailer = sender
	}
	if gateway != nil && c.Outbound {
		v.Messenger = gateway
	}
	v.Codes, err = c.codes()
	return validation.New(v), err
}

// checkSender connects to the server of mail, as for a mail.
func (c *Config) checkSender(ctx context.Context) error {
	sender, err := c.sender()
	if err != nil {
		return err
	}
	return sender.Check(ctx)
}
