package ldap

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"orrery/state"
)

const (
	dialTimeout  = 10 * time.Second
	replyTimeout = time.Minute
	pageSize     = 20 // small enough for servers that limit it
)

// directory is one component's subtree during one operation.
type directory struct {
	server server
	props  properties
	base   string
	top    []string // the base's name, as names reads it
	folder string   // the component's own
	conn   *ldap.Conn
}

func open(ctx context.Context, t state.Target) (*directory, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decode(t.Component)
	if err != nil {
		return nil, err
	}
	d := &directory{server: s, props: p, base: p.Base, folder: t.Directory}
	if d.top, err = names(p.Base); err != nil {
		return nil, err
	}
	return d, d.connect(ctx)
}

// connect also ends when ctx does, whatever the server does.
func (d *directory) connect(ctx context.Context) error {
	secret, err := d.server.password()
	if err != nil {
		return err
	}
	config, err := d.server.tls()
	if err != nil {
		return err
	}
	conn, err := ldap.DialURL(d.server.URL, ldap.DialWithTLSConfig(config), ldap.DialWithDialer(&net.Dialer{Timeout: dialTimeout, Cancel: ctx.Done()})) //nolint:staticcheck // the library has no DialContext
	if err != nil {
		return d.explain(err)
	}
	conn.SetTimeout(replyTimeout)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if d.server.StartTLS {
		if err = conn.StartTLS(config); err != nil && !broken(err) {
			err = fmt.Errorf("cannot encrypt the connection to server %s: %w", d.server.URL, err)
		}
	}
	if err == nil {
		if err = conn.Bind(d.server.User, secret); err != nil && !broken(err) {
			err = fmt.Errorf("server %s refuses user %q: %w", d.server.URL, d.server.User, err)
		}
	}
	if err != nil {
		_ = conn.Close()
		return d.explain(err)
	}
	d.conn = conn
	return nil
}

// broken says whether an error is the connection's, rather than a refusal.
func broken(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error() // the library does not wrap all of it
	return strings.Contains(text, "unable to read LDAP response packet") || ldap.IsErrorWithCode(err, ldap.ErrorNetwork) && !strings.Contains(text, "TLS handshake failed")
}

// explain says what an error of a connection means, and leaves others.
func (d *directory) explain(err error) error {
	_, strange := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case strange || err != nil && strings.Contains(err.Error(), "failed to verify certificate"): // the library wraps it for ldaps alone
		return fmt.Errorf("the certificate of server %s is not to be trusted (see the container's ca): %w", d.server.URL, err)
	case broken(err) && !errors.Is(err, state.ErrUnreachable):
		return fmt.Errorf("%w: server %s (is it running, and is this its address?): %w", state.ErrUnreachable, d.server.URL, err)
	}
	return err
}

func (s server) tls() (*tls.Config, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if s.CA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the server's authority: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: there is no certificate in %s", state.ErrBadProperty, s.CA)
	}
	return config, nil
}

// names takes a DN apart, the top first, in a form that is the same for names that mean the same entry to nearly every
// directory: types and values in lower case.
func names(dn string) ([]string, error) {
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no name of an entry: %w", state.ErrCorrupt, dn, err)
	}
	all := make([]string, 0, len(parsed.RDNs))
	for _, rdn := range slices.Backward(parsed.RDNs) {
		var parts []string
		for _, a := range rdn.Attributes {
			parts = append(parts, strings.ToLower(a.Type)+"="+strings.ToLower(a.Value))
		}
		slices.Sort(parts)
		all = append(all, strings.Join(parts, "+"))
	}
	return all, nil
}

// known is an entry that the server has.
type known struct {
	dn    string
	names []string
	csn   string // what changes when the entry does
}

// list returns the entries of the subtree, parents first.
func (d *directory) list(ctx context.Context) ([]known, error) {
	var all []known
	paging := ldap.NewControlPaging(pageSize)
	for {
		request := ldap.NewSearchRequest(d.base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
			[]string{"entryCSN", "modifyTimestamp"}, []ldap.Control{paging, ldap.NewControlManageDsaIT(false)})
		result, err := d.conn.Search(request)
		if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		for _, e := range result.Entries {
			parts, err := names(e.DN)
			if err != nil {
				return nil, err
			}
			all = append(all, known{e.DN, parts, e.GetAttributeValue("entryCSN") + e.GetAttributeValue("modifyTimestamp")})
		}
		next, ok := ldap.FindControl(result.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			break
		}
		paging.SetCookie(next.Cookie)
	}
	slices.SortFunc(all, func(a, b known) int { return cmp.Or(slices.Compare(a.names, b.names), cmp.Compare(a.dn, b.dn)) })
	return all, nil
}

func (d *directory) exists(dn string) (bool, error) {
	request := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"1.1"}, nil)
	_, err := d.conn.Search(request)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return false, nil
	}
	return err == nil, err
}

// fetch reads one entry without what the server maintains.
func (d *directory) fetch(dn string) (entry, error) {
	request := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)",
		[]string{"*", "ref"}, []ldap.Control{ldap.NewControlManageDsaIT(false)})
	result, err := d.conn.Search(request)
	if err != nil {
		return entry{}, err
	}
	if len(result.Entries) != 1 {
		return entry{}, fmt.Errorf("entry %q: %w", dn, state.ErrNotFound)
	}
	e := entry{dn: result.Entries[0].DN}
	for _, a := range result.Entries[0].Attributes {
		e.attributes = append(e.attributes, attribute{a.Name, slices.Clone(a.Values)})
	}
	e.sort()
	return e, nil
}

// vendor is what the server says of itself.
func (d *directory) vendor() (string, error) {
	request := ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"objectClass", "vendorName", "vendorVersion"}, nil)
	result, err := d.conn.Search(request)
	if err != nil {
		return "", err
	}
	if len(result.Entries) == 1 {
		e := result.Entries[0]
		if name := strings.TrimSpace(e.GetAttributeValue("vendorName") + " " + e.GetAttributeValue("vendorVersion")); name != "" {
			return name, nil
		}
		if slices.Contains(e.GetAttributeValues("objectClass"), "OpenLDAProotDSE") {
			return "OpenLDAP", nil
		}
	}
	return "LDAP 3", nil
}

// create makes the subtree's first entries.
func (d *directory) create(ctx context.Context) error {
	if d.props.LDIF != "" {
		f, err := os.Open(d.props.LDIF)
		if err != nil {
			return fmt.Errorf("cannot read the first entries: %w", err)
		}
		err = readLDIF(f, func(e entry) error { return d.add(ctx, e) })
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("cannot load %s: %w", d.props.LDIF, err)
		}
		return nil
	}
	dn, err := ldap.ParseDN(d.base)
	if err != nil {
		return err
	}
	first := dn.RDNs[0].Attributes[0]
	class := map[string]string{"ou": "organizationalUnit", "o": "organization", "dc": "domain"}[strings.ToLower(first.Type)]
	if class == "" || len(dn.RDNs[0].Attributes) > 1 {
		return fmt.Errorf("%w: of which class %q is to be is not known (give the property ldif)", state.ErrBadProperty, d.base)
	}
	return d.add(ctx, entry{dn: d.base, attributes: []attribute{{"objectClass", []string{class}}, {first.Type, []string{first.Value}}}})
}
