package influxdb

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"orrery/state"
)

// Side databases have names that begin so; see swap.go.
const (
	sidePrefix = "orrery-side-"
	maxName    = 200 // bytes: it names a folder of the server, after such a prefix
)

// properties configure a component.
type properties struct {
	Database string `json:"database"`
	Initial  string `json:"initial"`
}

// server configures a container.
type server struct {
	Endpoint     string `json:"endpoint"`
	User         string `json:"user"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	CA           string `json:"ca"`
}

func describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A database of an InfluxDB 1.x server: retention policies, continuous queries and points, but neither users nor subscriptions. " +
			"InfluxDB has no snapshots. A snapshot holds the points up to the newest timestamp that the database has when it begins, is read twice and counts if both were the same; " +
			"so clients may go on to write newer points, and one who writes or deletes older ones meanwhile makes it fail after a few attempts. " +
			"A restore loads a side database and compares it with the snapshot. Then the database is dropped, created anew and filled from there: until that is done it has no default retention policy, " +
			"so that clients get errors for what they write and read, and what those write that name a retention policy may be lost. A crash meanwhile is made up for by the next operation on the component. " +
			"InfluxDB cannot close a database for its clients: stop who writes before deactivating. Names with a backslash before a comma, a space or their end, and text that is not UTF-8, " +
			"cannot be read back from the server and are refused, and so are fields that have several types in one retention policy. " +
			"The portable form is what influx -import loads, into a database named " + portableName + ".",
		Properties: []state.Property{
			{Name: "database", Type: "string", Doc: "Name of the database; by default the component's."},
			{Name: "initial", Type: "string", Doc: "Path of a file of line protocol, usually ${file.NAME}, that is loaded when the database is created."},
		},
		Container: []state.Property{
			{Name: "endpoint", Type: "string", Default: "http://127.0.0.1:8086", Doc: "URL of the server's HTTP port, http or https."},
			{Name: "user", Type: "string", Doc: "An administrator, where the server asks for one."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "ca", Type: "string", Doc: "Path of the certificates that the server's is checked with; default: the system's."},
		},
		Exports: []state.Property{
			{Name: "endpoint", Type: "string", Doc: "URL of the server."},
			{Name: "database", Type: "string", Doc: "Name of the database."},
		},
		Stateful: true,
	}
}

func decodeComponent(c state.Component) (properties, error) {
	p := properties{Database: c.Name}
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	name := p.Database
	control := strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
	switch {
	case name == "" || len(name) > maxName || control || strings.ContainsAny(name, `/\`) || name == "." || name == "..":
		return p, fmt.Errorf("%s: %w: the server has no database %q", c.Ref(), state.ErrBadProperty, name)
	case name == "_internal" || name == placeholder || strings.HasPrefix(name, sidePrefix):
		return p, fmt.Errorf("%s: %w: database %q is for other purposes", c.Ref(), state.ErrBadProperty, name)
	}
	return p, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Endpoint: "http://127.0.0.1:8086"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	bad := func(what string) error { return fmt.Errorf("container %s: %w: %s", c.Name, state.ErrBadProperty, what) }
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "":
		return s, bad("endpoint is not http://HOST:PORT or https://HOST:PORT")
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return s, bad("passwordFile and passwordEnv exclude each other")
	case strings.Contains(s.User, ":"):
		return s, bad("user has a colon, which HTTP cannot express")
	}
	if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" {
		return s, bad("endpoint has no port")
	}
	s.Endpoint = strings.TrimSuffix(s.Endpoint, "/")
	return s, nil
}

// password finds the container's password; empty if it has none.
func (s server) password() (string, error) {
	switch {
	case s.PasswordFile != "":
		content, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	case s.PasswordEnv != "":
		value, ok := os.LookupEnv(s.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("%w: environment variable %s, which should hold the password, is not set for the node", state.ErrBadProperty, s.PasswordEnv)
		}
		return value, nil
	}
	return "", nil
}
