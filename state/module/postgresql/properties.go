package postgresql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
)

// maxName is the longest identifier, in bytes, that PostgreSQL does not cut silently.
const maxName = 63

// properties configure a component.
type properties struct {
	Schema     string `json:"schema"`
	Database   string `json:"database"`
	Owner      string `json:"owner"`
	Privileges bool   `json:"privileges"`
	RowOrder   string `json:"rowOrder"`
}

// How a snapshot orders the rows of a table.
const (
	orderKey      = "key"
	orderPhysical = "physical"
)

// server configures a container.
type server struct {
	Host         string `json:"host"`
	Port         int    `json:"port"`
	User         string `json:"user"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	Database     string `json:"database"`
	SSLMode      string `json:"sslmode"`
	Tools        string `json:"tools"`
	Forks        string `json:"forks"`
}

func decodeComponent(c state.Component) (properties, error) {
	p := properties{Privileges: true, RowOrder: orderKey}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	if p.Database == "" {
		p.Database = shorten(c.Name)
	}
	if p.Schema != "" && !filepath.IsAbs(p.Schema) && !strings.HasPrefix(p.Schema, "${") {
		return p, fmt.Errorf("%w: schema %q is not an absolute path (use ${file.NAME})", state.ErrBadProperty, p.Schema)
	}
	if p.RowOrder != orderKey && p.RowOrder != orderPhysical {
		return p, fmt.Errorf("%w: rowOrder %q is neither %s nor %s", state.ErrBadProperty, p.RowOrder, orderKey, orderPhysical)
	}
	for property, name := range map[string]string{"database": p.Database, "owner": p.Owner} {
		if len(name) > maxName || strings.ContainsRune(name, 0) {
			return p, fmt.Errorf("%w: %s %q is longer than %d bytes or has a zero byte", state.ErrBadProperty, property, name, maxName)
		}
	}
	if slices.Contains([]string{"postgres", "template0", "template1"}, p.Database) || strings.HasPrefix(p.Database, sidePrefix) {
		return p, fmt.Errorf("%w: database %q is reserved (choose another name)", state.ErrBadProperty, p.Database)
	}
	return p, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Host: "127.0.0.1", Port: 5432, User: "postgres", Database: "postgres", SSLMode: "prefer"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("container %s: %w: "+format, append([]any{c.Name, state.ErrBadProperty}, args...)...)
	}
	switch {
	case s.Host == "" || s.User == "" || s.Database == "":
		return s, bad("host, user and database must not be empty")
	case s.Port < 1 || s.Port > 65535:
		return s, bad("port %d is not from 1 to 65535", s.Port)
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return s, bad("passwordFile and passwordEnv exclude each other")
	case !slices.Contains([]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}, s.SSLMode):
		return s, bad("sslmode %q is unknown", s.SSLMode)
	case s.Forks != "" && !filepath.IsAbs(s.Forks):
		return s, bad("forks %q is not an absolute path", s.Forks)
	case strings.ContainsRune(s.Host+s.User+s.Database+s.Tools+s.Forks, 0):
		return s, bad("a value has a zero byte")
	}
	return s, nil
}

// shorten keeps a name that PostgreSQL would cut different from others that begin like it.
func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	return name[:maxName-17] + "-" + digest(name)
}

func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// sidePrefix begins the names of side databases.
const sidePrefix = "orrery-side-"

// sideNames are the database that is being filled and the one that was replaced.
func sideNames(database string) (next, previous string) {
	return sidePrefix + digest(database) + "-next", sidePrefix + digest(database) + "-previous"
}
