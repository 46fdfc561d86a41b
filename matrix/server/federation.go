package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"orrery/matrix"
	"orrery/matrix/adminpage"
	"orrery/matrix/federation"
)

// federationPort is where other servers ask if nothing says another port.
const federationPort = "8448"

// federation is what other servers find of this one, for the admin page.
func (s *Server) federation() adminpage.Federation {
	c := s.config
	f := adminpage.Federation{Name: federation.Name, Version: c.Version, Listen: c.Federation.Listen, Address: c.Federation.Address, BaseURL: c.BaseURL, Keys: s.fed.VerifyKeys(), Requests: s.fed.Counts()}
	f.Host, f.Connect, f.Direct = c.reached()
	f.LooksAt = matrix.Host(c.ServerName)
	if u, err := url.Parse(c.BaseURL); err == nil && c.BaseURL != "" {
		f.ClientsElsewhere = !strings.EqualFold(u.Hostname(), strings.Trim(matrix.Host(c.ServerName), "[]"))
	}
	if c.Federation.Listen == "" || c.Federation.TLSCertificate == "" {
		return f
	}
	f.Certificate = &adminpage.Certificate{}
	read, err := c.readCertificate(c.serverCertificate())
	if err != nil {
		f.Certificate.Problems = []string{err.Error()}
		return f
	}
	*f.Certificate = read
	return f
}

// reached is the host for which other servers want a certificate, and the address to which they connect, as far as it does not depend on DNS. direct says that they ask
// nothing else first (clause server-server API, resolving server names: steps 1 and 2).
func (c *Config) reached() (host, address string, direct bool) {
	name := c.ServerName
	direct = pointsSomewhere(name)
	if c.Federation.Address != "" && !direct {
		name = c.Federation.Address
	}
	host = matrix.Host(name)
	port, explicit := strings.CutPrefix(name[len(host):], ":")
	if !explicit {
		port = federationPort
	}
	return host, net.JoinHostPort(strings.Trim(host, "[]"), port), direct
}

// pointsSomewhere says whether a server name has a port, or is an IP address.
func pointsSomewhere(name string) bool {
	host := matrix.Host(name)
	return len(host) < len(name) || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// certificateFiles are those of a certificate that the configuration names.
type certificateFiles struct {
	check     string // what the check of it is called
	cert, key string
	host      string // for which it must be, "" if that is not known
}

// clientCertificate is the one that clients see; without a file there is none.
func (c *Config) clientCertificate() certificateFiles {
	return certificateFiles{"certificate", c.TLSCertificate, c.TLSKey, ""}
}

// serverCertificate is the one that other servers see.
func (c *Config) serverCertificate() certificateFiles {
	host, _, _ := c.reached()
	return certificateFiles{"federation certificate", c.Federation.TLSCertificate, c.Federation.TLSKey, host}
}

// soon is how long before its end a certificate should have been renewed.
const soon = 7 * 24 * time.Hour

// readCertificate is what a certificate says, and what is wrong with it.
func (c *Config) readCertificate(f certificateFiles) (adminpage.Certificate, error) {
	pair, err := loadPair(c.path(f.cert), c.path(f.key))
	if err != nil {
		return adminpage.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return adminpage.Certificate{}, err
	}
	out := adminpage.Certificate{Names: leaf.DNSNames, Issuer: leaf.Issuer.String(), Until: leaf.NotAfter}
	for _, ip := range leaf.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	if left := time.Until(leaf.NotAfter); left < soon {
		out.Problems = append(out.Problems, fmt.Sprintf("%s ends at %s (renew it)", f.cert, leaf.NotAfter.Format(time.RFC3339)))
	}
	if f.host == "" {
		return out, nil
	}
	if leaf.VerifyHostname(f.host) != nil {
		out.Problems = append(out.Problems, fmt.Sprintf("%s is not for %s, as other servers want it (get one that names it, or set federation.address)", f.cert, f.host))
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if one, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(one)
		}
	}
	_, err = leaf.Verify(x509.VerifyOptions{Intermediates: between})
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		out.Problems = append(out.Problems, fmt.Sprintf("%s is signed by nobody whom this machine trusts, nor do other servers probably (put the certificates between into the file, too)", f.cert))
	}
	return out, nil
}

// checkCertificate is until when a certificate counts; the error is what is wrong with it.
func (c *Config) checkCertificate(f certificateFiles) (string, error) {
	read, err := c.readCertificate(f)
	if err != nil {
		return "", err
	}
	if len(read.Problems) > 0 {
		return "", errors.New(strings.Join(read.Problems, "; "))
	}
	return "until " + read.Until.Format(time.DateOnly), nil
}
