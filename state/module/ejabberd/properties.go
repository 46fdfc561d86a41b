package ejabberd

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"orrery/state"
)

// properties configure a component.
type properties struct {
	Host string `json:"host"`
}

// server configures a container.
type server struct {
	Node         string   `json:"node"`
	Port         int      `json:"port"`
	EPMDPort     int      `json:"epmdPort"`
	CookieFile   string   `json:"cookieFile"`
	Erl          string   `json:"erl"`
	HostsFile    string   `json:"hostsFile"`
	IgnoreTables []string `json:"ignoreTables"`
}

var (
	validHost = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	validNode = regexp.MustCompile(`^[A-Za-z0-9_-]+@[A-Za-z0-9.-]+$`)
)

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// decode returns the name of the component's virtual host.
func decode(c state.Component) (string, error) {
	var p properties
	if err := c.Properties.Decode(&p); err != nil {
		return "", fmt.Errorf("%s: %w", c.Ref(), err)
	}
	if p.Host == "" {
		p.Host = strings.NewReplacer("@", "-", "_", "-").Replace(c.Name)
	}
	if !validHost.MatchString(p.Host) || len(p.Host) > 253 {
		return "", fmt.Errorf("%s: %w: host %q is no name of a virtual host in lower case, such as chat.example.org (names with other letters: in their xn-- form)", c.Ref(), state.ErrBadProperty, p.Host)
	}
	return p.Host, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Node: "ejabberd@localhost", EPMDPort: 4369, CookieFile: "/var/lib/ejabberd/.erlang.cookie", Erl: "erl"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	bad := func(what string) error { return fmt.Errorf("container %s: %w: %s", c.Name, state.ErrBadProperty, what) }
	switch {
	case !validNode.MatchString(s.Node):
		return s, bad("node is not NAME@HOST")
	case s.Port < 0 || s.Port > 65535 || s.EPMDPort < 1 || s.EPMDPort > 65535:
		return s, bad("port and epmdPort are not ports")
	case !filepath.IsAbs(s.CookieFile):
		return s, bad("cookieFile is not an absolute path")
	case s.HostsFile != "" && !filepath.IsAbs(s.HostsFile):
		return s, bad("hostsFile is not an absolute path")
	case s.Erl != "erl" && !filepath.IsAbs(s.Erl):
		return s, bad("erl is not an absolute path")
	}
	return s, nil
}

// cookie is the word by which nodes of Erlang let each other in.
func (s server) cookie() (string, error) {
	content, err := os.ReadFile(s.CookieFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the cookie of ejabberd's node (run as root or as its account, or set cookieFile): %w", err)
	}
	word := strings.TrimRight(string(content), "\r\n")
	if word == "" || len(word) > 255 {
		return "", fmt.Errorf("%w: file %s holds no cookie", state.ErrBadProperty, s.CookieFile)
	}
	return word, nil
}

// at is the host part of the node's name.
func (s server) at() string {
	_, host, _ := strings.Cut(s.Node, "@")
	return host
}
