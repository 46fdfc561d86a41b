package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/discovery/roster"
	"orrery/fabric/embed"
	"orrery/fabric/membership"
	"orrery/fabric/shared"
	"orrery/fabric/table"
	"orrery/internal/hostport"
)

// Init creates a cluster in dir with this machine as its first node. It starts nothing.
func Init(ctx context.Context, dir, cluster string, s Settings) (fabric.Identity, error) {
	s, err := complete(ctx, dir, s)
	if err != nil {
		return fabric.Identity{}, err
	}
	a, err := authority.Create(filepath.Join(dir, "identity"), s.Name)
	if err != nil {
		return fabric.Identity{}, fmt.Errorf("cannot create a cluster in %s: %w", dir, err)
	}
	s.Cluster = cluster
	identity := a.Identity()
	err = table.Create(table.Config{Self: identity.ID, Directory: filepath.Join(dir, "table")}, s.reachable(s.Listen), shared.First())
	if err == nil {
		err = saveJSON(filepath.Join(dir, settingsFile), s) // last: with it the folder is a node's
	}
	if err != nil {
		return fabric.Identity{}, errors.Join(fmt.Errorf("cannot create a cluster in %s: %w", dir, err), authority.Remove(filepath.Join(dir, "identity")))
	}
	return identity, nil
}

// Joined says what a token made of this machine.
type Joined struct {
	Identity fabric.Identity `json:"identity"`
	Via      string          `json:"via"` // how the cluster was found
}

// Join redeems a token: for a node with role node, for a login with any other one.
func Join(ctx context.Context, dir, token, address string, role fabric.Role, s Settings) (Joined, error) {
	t, err := authority.ParseToken(token)
	if err != nil {
		return Joined{}, err
	}
	asNode := role == fabric.RoleNode
	if asNode != (t.Role == fabric.RoleNode) {
		return Joined{}, fmt.Errorf("the token is for a %s (a node uses orrery node join, a person orrery login)", t.Role)
	}
	if s, err = completeJoin(ctx, dir, s, asNode); err != nil {
		return Joined{}, err
	}
	candidate, err := authority.NewCandidate(filepath.Join(dir, "identity"), s.Name, t)
	if err != nil {
		return Joined{}, fmt.Errorf("cannot join with %s: %w", dir, err)
	}
	var addresses []string
	if address != "" {
		addresses = []string{address}
	}
	way, _, err := s.discoveryOf(dir, nil)
	if err != nil {
		return Joined{}, err
	}
	a, peers, via, err := embed.Redeem(ctx, candidate, addresses, way, sentinels())
	if err != nil {
		return Joined{}, fmt.Errorf("cannot join (--address gives one's host:port): %w", err)
	}
	return Joined{a.Identity(), via}, keepJoined(dir, asNode, s, peers)
}

// keepJoined writes down what a later start needs.
func keepJoined(dir string, asNode bool, s Settings, peers []fabric.Beacon) error {
	if !asNode {
		return saveJSON(filepath.Join(dir, loginFile), login{Peers: peers})
	}
	book := roster.Load(filepath.Join(dir, addressesFile))
	for _, b := range peers {
		book.Add(b)
	}
	if err := book.Save(); err != nil {
		return err
	}
	return saveJSON(filepath.Join(dir, settingsFile), s)
}

func completeJoin(ctx context.Context, dir string, s Settings, asNode bool) (Settings, error) {
	if asNode {
		return complete(ctx, dir, s)
	}
	if s.Name == "" {
		s.Name = userName()
	}
	return s, os.MkdirAll(dir, 0o700)
}

// complete fills in what the settings leave open: the name, free ports for 0, and the address that
// others reach this machine at.
func complete(ctx context.Context, dir string, s Settings) (Settings, error) {
	if isNode(dir) {
		return s, fmt.Errorf("%s is a node's folder already (choose another with --dir, or remove it)", dir)
	}
	if _, _, err := s.discoveryOf(dir, nil); err != nil {
		return s, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	if err := forgetTable(dir); err != nil {
		return s, err
	}
	if s.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return s, err
		}
		s.Name = label(host)
	}
	if !authority.ValidName(s.Name) {
		return s, fmt.Errorf("node name %q: %w", s.Name, authority.ErrBadName)
	}
	addresses := []*string{&s.Listen, &s.Gossip, &s.Dashboard}
	for _, address := range addresses {
		if s.Loopback {
			*address = hostport.OnLoopback(*address)
		}
	}
	if err := hostport.Choose(ctx, addresses); err != nil {
		return s, err
	}
	if s.Advertise == "" {
		s.Advertise = hostport.Own(s.Loopback)
	}
	return s, membership.CheckMeta(s.Name, s.reachable(s.Listen), s.Zone, s.Roles)
}

// forgetTable removes what the node in dir has of a cluster that it left. Without an identity it is of no use, and chains of another cluster, which has the
// same numbers for its own, must not be taken for them.
func forgetTable(dir string) error {
	_, err := authority.Open(filepath.Join(dir, "identity"))
	if !errors.Is(err, authority.ErrNoIdentity) {
		return nil // somebody's, or cannot be told: whoever comes next says so
	}
	var errs []error
	for _, name := range []string{"table", "chains", "events", sharedFile} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// reachable is a listener's address as others dial it.
func (s Settings) reachable(listen string) string { return hostport.Reachable(listen, s.Advertise) }
