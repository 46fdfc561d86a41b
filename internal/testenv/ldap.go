package testenv

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// LDAP is an OpenLDAP server for tests, with an empty database.
type LDAP struct {
	URL, Suffix, User, Password string
	SecureURL                   string // ldaps://; with an authority only
}

// LDAPSettings say how a server is started; all may be empty.
type LDAPSettings struct {
	Data      string     // the folder of its database; empty: one of its own
	Authority *Authority // whose certificate the server has
}

const slapdConfig = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
sizelimit size.soft=50 size.hard=50 size.pr=20 size.prtotal=unlimited
database mdb
suffix "%[2]s"
rootdn "%[3]s"
rootpw "%[4]s"
directory "%[5]s"
dbnosync
access to attrs=userPassword by anonymous auth by * none
access to * by anonymous auth by * read
`

// OpenLDAP starts one for one test.
func OpenLDAP(tb testing.TB) LDAP {
	tb.Helper()
	return StartLDAP(tb, LDAPSettings{})
}

// StartLDAP starts one with settings.
func StartLDAP(tb testing.TB, s LDAPSettings) LDAP {
	tb.Helper()
	path := Need(tb, "slapd", "apt-get install slapd", "/usr/sbin/slapd")
	dir, err := os.MkdirTemp(fastFolder(), "orrery-ldap-") //nolint:usetesting // the server removes it when it has ended
	if err != nil {
		tb.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", FreePort(tb))
	l := LDAP{URL: "ldap://" + address, Suffix: "dc=example,dc=org", User: "cn=admin,dc=example,dc=org", Password: "sesame's secret"}
	if s.Data == "" {
		s.Data = filepath.Join(dir, "db")
		if err := os.Mkdir(s.Data, 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	config, urls := fmt.Sprintf(slapdConfig, dir, l.Suffix, l.User, l.Password, s.Data), l.URL
	if s.Authority != nil {
		certificate, key := s.Authority.Issue(tb, "slapd")
		config = fmt.Sprintf("TLSCACertificateFile %s\nTLSCertificateFile %s\nTLSCertificateKeyFile %s\n", s.Authority.File, certificate, key) + config
		l.SecureURL = fmt.Sprintf("ldaps://127.0.0.1:%d", FreePort(tb))
		urls += " " + l.SecureURL
	}
	if err := os.WriteFile(filepath.Join(dir, "slapd.conf"), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	alive := Start(tb, Daemon{
		Folder: dir, Path: path, Args: []string{"-f", filepath.Join(dir, "slapd.conf"), "-h", urls, "-d", "0"},
		Ready: func([]byte) bool {
			conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", address)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		},
	})
	tb.Cleanup(func() { _ = alive.Close() })
	return l
}
