package server

import (
	"context"
	"errors"
	"fmt"

	"orrery/matrix/contact"
	"orrery/matrix/contact/sms"
)

// SMS is a configuration's part about the gateway that sends messages to telephones.
type SMS struct {
	Gateway   string            `yaml:"gateway"`
	User      string            `yaml:"user"`
	Secret    string            `yaml:"secret_file"`
	Headers   map[string]string `yaml:"headers"`
	Encoding  string            `yaml:"encoding"`
	Body      map[string]any    `yaml:"body"`
	Taken     string            `yaml:"taken"`
	Countries []string          `yaml:"countries"`
	Daily     int64             `yaml:"messages_per_day"`
}

// defaultDaily is how many messages are sent in a day.
const defaultDaily = 100

const smsDefaults = `
# The gateway that sends messages to telephones (SMS), by which users show that a number is theirs: the address where a provider takes a message, by POST; "" is
# none. base_url must be set.
sms:
  gateway: ""
  # The secret that the provider gave. With a user both are sent as its name and password (basic authentication); {secret} stands for it in headers, the body
  # and the address.
  user: ""
  secret_file: ""
  # Headers, as in {Authorization: "Bearer {secret}"}
  headers: {}
  # What is sent, as json or as a form: {number} is the number, with the code of its country and without a plus, {text} the message.
  encoding: json
  body: {to: "+{number}", text: "{text}"}
  # What the provider's answer has in it if it took the message, where it answers 200 also if it did not; "": its status says it.
  taken: ""
  # The countries, as in [DE, AT], to whose calling codes messages are sent; [] is all. Several countries share the codes +1 and +7.
  countries: []
  # How many messages are sent in a day (UTC), whoever asks, since each of them costs; 0 is no limit.
  messages_per_day: 100
`

func newSMS() SMS {
	return SMS{Encoding: sms.JSON, Daily: defaultDaily}
}

func (c *Config) checkSMS() error {
	m := c.SMS
	for _, name := range m.Countries {
		if _, err := contact.CallingCode(name); err != nil {
			return fmt.Errorf("sms.countries: %w", err)
		}
	}
	switch {
	case m.Gateway == "" && c.NeedNumber:
		return errors.New("registration_needs_number is true, so sms.gateway must be set")
	case m.Gateway == "":
		return nil
	case c.BaseURL == "":
		return errors.New("sms.gateway is set, so base_url must say where clients give the codes of messages")
	case m.User != "" && m.Secret == "":
		return errors.New("sms.user needs sms.secret_file")
	case m.Daily < 0:
		return fmt.Errorf("sms.messages_per_day %d is not a number of messages", m.Daily)
	}
	g := c.gatewayConfig()
	if m.Secret != "" {
		g.Secret = m.Secret // what is in the file is read later
	}
	if _, err := sms.New(g); err != nil {
		return fmt.Errorf("sms: %w", err)
	}
	return nil
}

func (c *Config) gatewayConfig() sms.Config {
	m := c.SMS
	if m.Body == nil { // the default would be mixed with what is configured otherwise
		m.Body = map[string]any{"to": "+{number}", "text": "{text}"}
	}
	return sms.Config{URL: m.Gateway, User: m.User, Headers: m.Headers, Encoding: m.Encoding, Body: m.Body, Taken: m.Taken}
}

// gateway is what sends messages; nil if there is none.
func (c *Config) gateway() (*sms.Gateway, error) {
	if c.SMS.Gateway == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	g := c.gatewayConfig()
	if c.SMS.Secret != "" {
		var err error
		if g.Secret, err = c.read(c.SMS.Secret); err != nil {
			return nil, err
		}
	}
	return sms.New(g)
}

// codes are the calling codes to which messages are sent.
func (c *Config) codes() (all []string, err error) {
	for _, name := range c.SMS.Countries {
		code, err := contact.CallingCode(name)
		if err != nil {
			return nil, err
		}
		all = append(all, code)
	}
	return all, nil
}

// checkGateway looks whether the gateway answers, and sends no message.
func (c *Config) checkGateway(ctx context.Context) error {
	g, err := c.gateway()
	if err != nil {
		return err
	}
	return g.Check(ctx)
}
