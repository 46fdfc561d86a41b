package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/discovery"
	"orrery/fabric/discovery/mdns"
	"orrery/fabric/discovery/roster"
	"orrery/fabric/discovery/srv"
)

// DefaultDiscovery is what a node uses that was told nothing: all ways that need no value. On loopback alone it is the same without mdns, which is for
// other machines.
const DefaultDiscovery = "mdns,beacon,remembered,file"

// nodesFile is the list of nodes that file without a path means.
const nodesFile = "nodes.txt"

// discoveryOf reads a setting such as "mdns,beacon,srv=example.org,seed=10.1.2.3:7373" into the ways of a node in dir; default
// stands for the ways that an empty setting means. remembered says whether the addresses of the last run are used.
func (s Settings) discoveryOf(dir string, log *slog.Logger) (c discovery.Config, remembered bool, err error) {
	c = discovery.Config{Loopback: s.Loopback, NoBeacon: true, Logger: log}
	seeds := &roster.Seeds{}
	var seen []string
	for _, item := range s.discoveryItems() {
		if item = strings.TrimSpace(item); slices.Contains(seen, item) {
			continue
		}
		seen = append(seen, item)
		way, value, valued := strings.Cut(item, "=")
		switch {
		case way == "beacon" && !valued:
			c.NoBeacon = false
		case way == "remembered" && !valued:
			remembered = true
		case way == "mdns" && !valued && s.Loopback:
			return c, false, fmt.Errorf("discovery by mdns is for other machines, and this cluster is on loopback alone (leave mdns out)")
		case way == "mdns" && !valued:
			c.Ways = append(c.Ways, &mdns.Way{Logger: log})
		case way == "srv" && value != "":
			c.Ways = append(c.Ways, &srv.Way{Domain: value})
		case way == "seed" && value != "":
			if _, err := roster.Parse([]byte(value)); err != nil {
				return c, false, fmt.Errorf("discovery by seed: %w", err)
			}
			seeds.Addresses = append(seeds.Addresses, value)
		case way == "file" && !valued:
			c.Ways = append(c.Ways, &roster.File{Path: filepath.Join(dir, nodesFile), Optional: true})
		case way == "file" && value != "":
			c.Ways = append(c.Ways, &roster.File{Path: value})
		default:
			return c, false, fmt.Errorf("discovery by %q is not known (use some of mdns, beacon, remembered, file, file=PATH, seed=HOST:PORT, srv=DOMAIN, default, separated by commas)", item)
		}
	}
	if len(seeds.Addresses) > 0 {
		c.Ways = append(c.Ways, seeds)
	}
	return c, remembered, nil
}

// discoveryItems are the parts of the setting, with the defaults in the place of "default".
func (s Settings) discoveryItems() []string {
	defaults := strings.Split(DefaultDiscovery, ",")
	if s.Loopback {
		defaults = defaults[1:]
	}
	if strings.TrimSpace(s.Discovery) == "" {
		return defaults
	}
	var all []string
	for item := range strings.SplitSeq(s.Discovery, ",") {
		if strings.TrimSpace(item) == "default" {
			all = append(all, defaults...)
		} else {
			all = append(all, item)
		}
	}
	return all
}

// Seen is a node as one way shows it. Of a list or DNS only the address is known.
type Seen struct {
	Cluster string        `json:"cluster,omitempty"`
	ID      fabric.NodeID `json:"id,omitempty"`
	Name    string        `json:"name,omitempty"`
	RPC     string        `json:"rpc"`
	Gossip  string        `json:"gossip,omitempty"`
	Via     string        `json:"via"`
}

// Sight is what can be seen now, and why ways do not work.
type Sight struct {
	Nodes    []Seen   `json:"nodes"`
	Problems []string `json:"problems"`
}

// Look lists the nodes that can be seen from this machine: of one cluster, or of all. Where dir is a node's its settings count, and
// s overrides them; the node need not run.
func Look(ctx context.Context, dir string, s Settings, cluster string, long time.Duration) (Sight, error) {
	var own Settings
	if loadJSON(filepath.Join(dir, settingsFile), &own) == nil {
		s.Loopback = s.Loopback || own.Loopback
		if s.Discovery == "" {
			s.Discovery = own.Discovery
		}
	}
	config, remembered, err := s.discoveryOf(dir, nil)
	if err != nil {
		return Sight{}, err
	}
	if remembered && cluster != "" {
		config.Seeds = roster.Load(filepath.Join(dir, addressesFile)).Seeds(cluster)
	}
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	found, problems := discovery.Look(ctx, config, cluster)
	sight := Sight{Nodes: []Seen{}, Problems: []string{}}
	for _, b := range found {
		sight.Nodes = append(sight.Nodes, Seen(b))
	}
	slices.SortFunc(sight.Nodes, func(a, b Seen) int {
		return strings.Compare(a.Cluster+"\x00"+a.Name+"\x00"+a.RPC+"\x00"+a.Via, b.Cluster+"\x00"+b.Name+"\x00"+b.RPC+"\x00"+b.Via)
	})
	for _, p := range problems {
		sight.Problems = append(sight.Problems, p.Error())
	}
	return sight, nil
}
