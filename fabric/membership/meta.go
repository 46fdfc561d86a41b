package membership

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// meta is what gossip carries of a node, in at most memberlist.MetaMaxSize bytes.
type meta struct {
	Name    string      `json:"n"`
	Role    fabric.Role `json:"r"`
	RPC     string      `json:"a"`
	Version string      `json:"v"`
	Zone    string      `json:"z,omitempty"`
	Roles   []string    `json:"t,omitempty"`
}

// versionRoom is kept for the version of a binary, which changes after the rest was chosen.
const versionRoom = 64

// CheckMeta says whether a node may have this zone and these roles, and whether they fit into gossip beside its name and
// the address of its mutual-TLS listener.
func CheckMeta(name, rpc, zone string, roles []string) error {
	if !isWord(zone) && zone != "" {
		return fmt.Errorf("zone %q is no name (use up to %d printable characters without spaces and commas)", zone, maxWord)
	}
	for _, r := range roles {
		if !isWord(r) {
			return fmt.Errorf("role %q is no name (use up to %d printable characters without spaces and commas)", r, maxWord)
		}
	}
	encoded, err := json.Marshal(meta{name, fabric.RoleNode, rpc, strings.Repeat("v", versionRoom), zone, sorted(roles)})
	if err != nil {
		return err
	}
	if over := len(encoded) - memberlist.MetaMaxSize; over > 0 {
		return fmt.Errorf("name, address, zone and roles are %d bytes too long together, for all that gossip carries of a node is %d bytes (use fewer or shorter roles)",
			over, memberlist.MetaMaxSize)
	}
	return nil
}

const maxWord = 64 // bytes of a zone or a role

func isWord(s string) bool {
	return s != "" && len(s) <= maxWord && !strings.ContainsFunc(s, func(r rune) bool {
		return r == ',' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

// says is what this node says of itself.
func (c Config) says() ([]byte, error) {
	if len(c.Version) > versionRoom {
		return nil, fmt.Errorf("version %.20s... takes %d bytes, and %d are possible", c.Version, len(c.Version), versionRoom)
	}
	if err := CheckMeta(c.Identity.Name, c.RPC, c.Zone, c.Roles); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(meta{c.Identity.Name, c.Identity.Role, c.RPC, c.Version, c.Zone, sorted(c.Roles)})
	if err == nil && len(encoded) > memberlist.MetaMaxSize {
		err = fmt.Errorf("version %q has characters that do not fit into gossip", c.Version)
	}
	return encoded, err
}

func readMeta(n *memberlist.Node) (meta, error) {
	var said meta
	if err := json.Unmarshal(n.Meta, &said); err != nil || said.Name == "" || said.Role != fabric.RoleNode {
		return said, fmt.Errorf("node %s at %s says nothing sensible of itself", n.Name, n.Address())
	}
	return said, nil
}

// sorted are the roles in order, each once; nil for none.
func sorted(roles []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(roles)))
}
