package mysql

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"orrery/state"
)

// maxName is the longest name of a database, in characters.
const maxName = 64

// sidePrefix begins the names of side databases.
const sidePrefix = "orrery-side-"

// migrations is the table that the component's migrations are recorded in.
const migrations = "orrery_migration"

// properties configure a component.
type properties struct {
	Schema   string `json:"schema"`
	Database string `json:"database"`
}

// server configures a container.
type server struct {
	Host         string `json:"host"`
	Port         int    `json:"port"`
	Socket       string `json:"socket"`
	User         string `json:"user"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	Tools        string `json:"tools"`
	Forks        string `json:"forks"`

	replica    bool // it is that of a replica, which nothing but its source changes
	replicated bool // it is, or was
}

func decodeComponent(c state.Component) (properties, error) {
	var p properties
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	if p.Database == "" {
		p.Database = c.Name
		if len(p.Database) > maxName {
			p.Database = p.Database[:maxName-17] + "-" + digest(c.Name)
		}
	}
	if p.Schema != "" && !filepath.IsAbs(p.Schema) && !strings.HasPrefix(p.Schema, "${") {
		return p, fmt.Errorf("%w: schema %q is not an absolute path (use ${file.NAME})", state.ErrBadProperty, p.Schema)
	}
	name := p.Database
	if utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) || strings.ContainsAny(name, "\x00\r\n") || strings.TrimSpace(name) != name {
		return p, fmt.Errorf("%w: database %q is longer than %d characters, or has a zero byte, a line end or space around it", state.ErrBadProperty, name, maxName)
	}
	if strings.ContainsAny(name, `'"\`) { // mariadb-dump then asks for another name when the database has routines or events
		return p, fmt.Errorf("%w: database %q has a quote or a backslash, which the dump tool cannot handle", state.ErrBadProperty, name)
	}
	reserved := []string{"mysql", "information_schema", "performance_schema", "sys"}
	if slices.Contains(reserved, strings.ToLower(name)) || strings.HasPrefix(strings.ToLower(name), sidePrefix) {
		return p, fmt.Errorf("%w: database %q is reserved (choose another name)", state.ErrBadProperty, name)
	}
	return p, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Host: "127.0.0.1", Port: 3306, User: "root"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("container %s: %w: "+format, append([]any{c.Name, state.ErrBadProperty}, args...)...)
	}
	switch {
	case s.Host == "" || s.User == "":
		return s, bad("host and user must not be empty")
	case s.Port < 1 || s.Port > 65535:
		return s, bad("port %d is not from 1 to 65535", s.Port)
	case s.Forks != "" && !filepath.IsAbs(s.Forks):
		return s, bad("forks %q is not an absolute path", s.Forks)
	case s.Socket != "" && !filepath.IsAbs(s.Socket):
		return s, bad("socket %q is not an absolute path", s.Socket)
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return s, bad("passwordFile and passwordEnv exclude each other")
	case strings.ContainsRune(s.Host+s.Socket+s.User+s.Tools+s.Forks, 0):
		return s, bad("a value has a zero byte")
	}
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

func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// quote quotes an identifier.
func quote(identifier string) string { return "`" + strings.ReplaceAll(identifier, "`", "``") + "`" }
