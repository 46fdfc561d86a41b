package server

import (
	"errors"
	"fmt"

	"orrery/matrix"
	"orrery/matrix/rate"
)

// Running is a configuration's part about how the server runs.
type Running struct {
	TLSCertificate string `yaml:"tls_certificate"`
	TLSKey         string `yaml:"tls_key"`
	BehindProxy    bool   `yaml:"behind_proxy"`
	Limits         Limits `yaml:"limits"`
	Metrics        string `yaml:"metrics"`
	AdminPage      bool   `yaml:"admin_page"`

	Federation Federation `yaml:"federation"`
}

// Federation is where other servers ask.
type Federation struct {
	Listen         string `yaml:"listen"`
	Address        string `yaml:"address"`
	TLSCertificate string `yaml:"tls_certificate"`
	TLSKey         string `yaml:"tls_key"`
}

// Limits are how often clients may ask.
type Limits struct {
	Logins rate.Limit `yaml:"logins"`
	Writes rate.Limit `yaml:"writes"`
	Reads  rate.Limit `yaml:"reads"`
	Mails  rate.Limit `yaml:"mails"`
	SMS    rate.Limit `yaml:"sms"`
}

const runningDefaults = `
# Files of a certificate and its key, to serve TLS; "" serves none. They are read again when they change.
tls_certificate: ""
tls_key: ""

# Whether a proxy is before the server, which says in X-Forwarded-For where clients are. Without one anybody could say that.
behind_proxy: false

# How many requests a second are answered, and how many at once after a pause: logins of each address, requests of each user that change something, all others;
# and how many mails, and messages to telephones, are sent to each address, and for whoever is at an address of the network.
# per_second: 0 is no limit.
limits:
  logins: {per_second: 0.5, burst: 20}
  writes: {per_second: 20, burst: 200}
  reads: {per_second: 50, burst: 500}
  mails: {per_second: 0.005, burst: 5}
  sms: {per_second: 0.001, burst: 4}

# Where /metrics (for Prometheus) and /debug/pprof/ are served, on this machine only: 127.0.0.1:9008. "" is nowhere.
metrics: ""

# Whether administrators look after the server on pages below /admin/, where clients reach it. They log in there, as they could to use the admin API.
admin_page: true

# Where other servers ask for this one's keys and version: host:port or unix:PATH, usually port 8448; "" is nowhere. They ask by TLS: here are the files of a
# certificate for server_name and its key, which are read again when they change; without them a proxy is before it that has them.
# address is where other servers reach this one if that is not server_name: host or host:port, for which the certificate is then. They are told it at
# /.well-known/matrix/server, where clients ask, too; "" tells them nothing.
federation:
  listen: ""
  address: ""
  tls_certificate: ""
  tls_key: ""
`

// newRunning is the defaults.
func newRunning() Running {
	return Running{AdminPage: true, Limits: Limits{rate.Limit{PerSecond: 0.5, Burst: 20}, rate.Limit{PerSecond: 20, Burst: 200}, rate.Limit{PerSecond: 50, Burst: 500}, rate.Limit{PerSecond: 0.005, Burst: 5}, rate.Limit{PerSecond: 0.001, Burst: 4}}}
}

func (r *Running) check() error {
	if (r.TLSCertificate == "") != (r.TLSKey == "") || (r.Federation.TLSCertificate == "") != (r.Federation.TLSKey == "") {
		return errors.New("tls_certificate and tls_key belong together")
	}
	if r.Federation.Listen != "" && !isAddress(r.Federation.Listen) {
		return fmt.Errorf("federation: listen %q is not host:port, nor unix:PATH", r.Federation.Listen)
	}
	if f := r.Federation; f.Address != "" {
		if err := matrix.ValidServer(f.Address); err != nil {
			return fmt.Errorf("federation: address: %w", err)
		}
	}
	if r.Metrics != "" && !loopback(r.Metrics) {
		return fmt.Errorf("metrics %q is not a host:port of this machine only, such as 127.0.0.1:9008", r.Metrics)
	}
	return nil
}
