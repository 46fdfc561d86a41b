package redis

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/state"
)

// The databases that are taken where nothing else is said: servers have 16 unless they are told otherwise.
const (
	defaultNeighbors = 14
	defaultScratch   = 15
)

// properties configure a component.
type properties struct {
	DB        *int   `json:"db"`
	Prefix    string `json:"prefix"`
	Commands  string `json:"commands"`
	Neighbors int    `json:"neighbors"`
}

// server configures a container.
type server struct {
	Host         string `json:"host"`
	Port         int    `json:"port"`
	Socket       string `json:"socket"`
	User         string `json:"user"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	Scratch      int    `json:"scratch"`
	Diskless     bool   `json:"diskless"`
}

func decode(c state.Component) (properties, error) {
	p := properties{Neighbors: defaultNeighbors}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	switch {
	case p.DB == nil:
		return p, fmt.Errorf("%w: db is missing (the number of the component's database; a component that shares it needs a prefix)", state.ErrBadProperty)
	case *p.DB < 0 || p.Neighbors < 0:
		return p, fmt.Errorf("%w: db and neighbors must not be negative", state.ErrBadProperty)
	case p.Prefix == "" && *p.DB == p.Neighbors:
		return p, fmt.Errorf("%w: database %d is where neighbors live (give the component a prefix, or set neighbors to another database)", state.ErrBadProperty, *p.DB)
	case strings.ContainsAny(p.Prefix, "\uFFFD\x00"): // JSON has no other bytes than those of UTF-8, and what was none became U+FFFD
		return p, fmt.Errorf("%w: prefix %q is not UTF-8, or has a zero byte", state.ErrBadProperty, p.Prefix)
	case strings.HasPrefix(marker, p.Prefix) && p.Prefix != "":
		return p, fmt.Errorf("%w: prefix %q is kept for what orrery itself stores", state.ErrBadProperty, p.Prefix)
	case p.Commands != "" && !filepath.IsAbs(p.Commands) && !strings.HasPrefix(p.Commands, "${"):
		return p, fmt.Errorf("%w: commands %q is not an absolute path (use ${file.NAME})", state.ErrBadProperty, p.Commands)
	}
	return p, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Host: "127.0.0.1", Port: 6379, Scratch: defaultScratch}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("container %s: %w: "+format, append([]any{c.Name, state.ErrBadProperty}, args...)...)
	}
	switch {
	case s.Host == "" || strings.ContainsRune(s.Host+s.Socket+s.User, 0):
		return s, bad("host is empty, or a value has a zero byte")
	case s.Port < 1 || s.Port > 65535:
		return s, bad("port %d is not from 1 to 65535", s.Port)
	case s.Socket != "" && !filepath.IsAbs(s.Socket):
		return s, bad("socket %q is not an absolute path", s.Socket)
	case s.Scratch < 0:
		return s, bad("scratch must not be negative")
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return s, bad("passwordFile and passwordEnv exclude each other")
	case s.User != "" && s.PasswordFile == "" && s.PasswordEnv == "":
		return s, bad("user %q needs passwordFile or passwordEnv", s.User)
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

// address is where the server listens.
func (s server) address() (network, address string) {
	if s.Socket != "" {
		return "unix", s.Socket
	}
	return "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
}
