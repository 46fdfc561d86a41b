// Package discovery finds nodes without being told an address, by several ways at once.
//
// The beacon is its own way: a Service announces its node's Beacon on every IPv4 interface, by UDP multicast (TTL 1) and by broadcast, by IPv6 multicast on every interface that has it, and asks
// when it starts, so that a newcomer learns at once; who hears an ask answers it directly. The others are Ways, given to it: DNS-SD over multicast DNS (mdns),
// DNS (srv), lists that people keep (roster). Where one cannot work it says so in the log, is tried again, and the others go on.
// Find asks for any node of one cluster and Look for all, and they announce nothing. Several clusters may share a network: a beacon names its cluster, and others are passed over.
//
// How a beacon came is in its Via: multicast, broadcast, loopback (127.255.255.255, which reaches all nodes of one machine even where
// its multicast does not), rendezvous (a folder that nodes of one machine or share have in common), seed (an address that was configured), or the name of a Way.
// Rendezvous and beacons of Config.Seeds are last resorts, and their first use is logged.
//
// Nothing that a beacon says is proven, so it decides only whom to talk to; TLS and the gossip key decide the rest.
// Datagrams are JSON of at most 1200 bytes with a version; what does not decode is dropped and
// counted. The sockets are bound to the multicast group and to broadcast addresses only, so no unicast datagram from elsewhere
// reaches the shared port. With Loopback nothing is bound to, or sent on, any interface but lo.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
)

// How a beacon came.
const (
	ViaMulticast  = "multicast"
	ViaBroadcast  = "broadcast"
	ViaLoopback   = "loopback"
	ViaRendezvous = "rendezvous"
	ViaSeed       = "seed"
)

// DefaultPort is the UDP port that all nodes share.
const DefaultPort = 7946 + 1

// group is of the organisation-local scope; TTL 1 keeps it on the link. That of IPv6 is of the link's scope, and one that nobody assigned.
var (
	group  = [4]byte{239, 255, 79, 82}
	group6 = netip.MustParseAddr("ff12::4f52:5259")
)

const (
	defaultInterval = 5 * time.Second
	firstAsk        = 250 * time.Millisecond
	lastAsk         = 30 * time.Second
	repeatAfter     = 30 * time.Second // an unchanged beacon is delivered again after this
	maxKnown        = 1024
)

// Config says what to announce and where.
type Config struct {
	// Loopback keeps everything on the machine's loopback interface.
	Loopback bool
	// Port is the shared UDP port; 0 means DefaultPort. Nodes with different ports do not see each other.
	Port int
	// Interval is the time between announcements, give or take a fifth; 0 means 5 seconds.
	Interval time.Duration
	// Rendezvous is a folder in which nodes leave their beacons for each other; empty: none.
	Rendezvous string
	// Seeds are nodes known by other means, such as those that a join answered with.
	Seeds []fabric.Beacon
	// NoBeacon switches the beacon off.
	NoBeacon bool
	// Ways are the other ways to use.
	Ways []Way
	// Resolve asks who listens at an RPC address, for ways that know no more. Its answer is used as it is. nil: such addresses are of no use to a Service.
	Resolve func(ctx context.Context, address string) (fabric.Beacon, error)
	Logger  *slog.Logger // nil discards
}

func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Interval == 0 {
		c.Interval = defaultInterval
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Service announces one node and hears of others.
type Service struct {
	config Config
	own    fabric.Beacon
	found  func(fabric.Beacon)

	answers bucket

	dropped  atomic.Uint64
	resolver *resolver

	mu    sync.Mutex
	known map[fabric.NodeID]sighting
	said  map[string]bool // last resorts that were logged
}

type sighting struct {
	beacon fabric.Beacon
	at     time.Time
}

// New returns a service that announces own. It calls found, from one goroutine at a time and never after Run has returned, for every node of own's cluster
// that it hears of: at once when it is new or changed, and again every half minute while it is heard.
func New(config Config, own fabric.Beacon, found func(fabric.Beacon)) (*Service, error) {
	if !valid(own) {
		return nil, fmt.Errorf("cannot announce node %q: its beacon needs a cluster, an id and an address", own.Name)
	}
	if _, err := encode(message{Kind: kindBeacon, Beacon: &own}); err != nil {
		return nil, fmt.Errorf("cannot announce node %q: %w", own.Name, err)
	}
	own.Via = ""
	s := &Service{
		config: config.withDefaults(), own: own, found: found, answers: bucket{rate: 20, burst: 40},
		known: map[fabric.NodeID]sighting{}, said: map[string]bool{},
	}
	s.resolver = newResolver(s.config, own.RPC, s.see)
	return s, nil
}

// Dropped counts, by way, the datagrams that were malformed or too many.
func (s *Service) Dropped() map[string]uint64 {
	all := map[string]uint64{}
	if !s.config.NoBeacon {
		all["beacon"] = s.dropped.Load()
	}
	for _, w := range s.config.Ways {
		if c, ok := w.(interface{ Dropped() uint64 }); ok {
			all[w.Name()] += c.Dropped()
		}
	}
	return all
}

// Run announces, asks and listens until ctx ends, and returns nil then. Interfaces that come
// and go are followed. That there is none, or that all sending is refused, is not an error: it is tried again.
func (s *Service) Run(ctx context.Context) error {
	ears := newEars(s.config, s.hear, &s.dropped)
	defer ears.close()
	ears.refresh(ctx)
	stop := s.start(ctx)
	defer func() {
		stop()
		for way, n := range s.Dropped() {
			if n > 0 {
				s.config.Logger.InfoContext(ctx, "datagrams were dropped: malformed, or too many", "way", way, "count", n)
			}
		}
	}()
	if s.config.Rendezvous != "" {
		defer s.forgetMe()
	}
	announce, ask, pause := time.NewTimer(0), time.NewTimer(0), firstAsk
	defer announce.Stop()
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ask.C:
			ears.send(ctx, message{Kind: kindAsk, Cluster: s.own.Cluster})
			ask.Reset(jitter(pause))
			pause = min(pause*2, lastAsk)
		case <-announce.C:
			ears.refresh(ctx)
			ears.send(ctx, message{Kind: kindBeacon, Beacon: &s.own})
			s.lastResorts(ctx)
			announce.Reset(jitter(s.config.Interval))
		}
	}
}

// hear takes a datagram in; the answer to it, if any, goes back where it came from.
func (s *Service) hear(m message, via string) *message {
	switch m.Kind {
	case kindAsk:
		if m.Cluster == s.own.Cluster && s.answers.take(time.Now()) {
			return &message{Kind: kindBeacon, Beacon: &s.own, Via: via}
		}
	case kindBeacon:
		b := *m.Beacon
		b.Via = via
		s.see(b)
	}
	return nil
}

// see delivers a beacon of our cluster that is news.
func (s *Service) see(b fabric.Beacon) {
	if b.Cluster != s.own.Cluster || b.ID == s.own.ID {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, before := time.Now(), s.known[b.ID]
	same := before.beacon.RPC == b.RPC && before.beacon.Gossip == b.Gossip
	if same && now.Sub(before.at) < repeatAfter {
		return
	}
	if _, ok := s.known[b.ID]; !ok && len(s.known) >= maxKnown {
		s.forgetOld(now)
		if len(s.known) >= maxKnown {
			return
		}
	}
	s.known[b.ID] = sighting{b, now}
	s.found(b)
}

func (s *Service) forgetOld(now time.Time) {
	for id, k := range s.known {
		if now.Sub(k.at) > 2*repeatAfter {
			delete(s.known, id)
		}
	}
}

// heard says whether a node was heard of lately by a better way than a last resort.
func (s *Service) heard(id fabric.NodeID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[id]
	return ok && k.beacon.Via != ViaRendezvous && k.beacon.Via != ViaSeed && time.Since(k.at) < 2*repeatAfter
}

// lastResorts looks into the rendezvous folder and at the seeds for nodes that the network does not show.
func (s *Service) lastResorts(ctx context.Context) {
	found := withVia(s.config.Seeds, ViaSeed)
	if s.config.Rendezvous != "" {
		if err := leave(s.config.Rendezvous, s.own); err != nil {
			s.config.Logger.WarnContext(ctx, "beacon not left in the rendezvous folder", "error", err)
		}
		found = append(found, look(s.config.Rendezvous, s.own.Cluster, time.Now())...)
	}
	for _, b := range found {
		if b.Cluster != s.own.Cluster || b.ID == s.own.ID || s.heard(b.ID) {
			continue
		}
		s.mu.Lock()
		first := !s.said[b.Via]
		s.said[b.Via] = true
		s.mu.Unlock()
		if first {
			s.config.Logger.WarnContext(ctx, "node found by a last resort, not by multicast or broadcast", "via", b.Via, "node", b.ID, "name", b.Name)
		}
		s.see(b)
	}
}

func (s *Service) forgetMe() {
	if err := unleave(s.config.Rendezvous, s.own); err != nil {
		s.config.Logger.Warn("beacon not taken from the rendezvous folder", "error", err)
	}
}

func withVia(beacons []fabric.Beacon, via string) []fabric.Beacon {
	out := make([]fabric.Beacon, 0, len(beacons))
	for _, b := range beacons {
		b.Via = via
		out = append(out, b)
	}
	return out
}

func offerLast(config Config, cluster string, offer func(fabric.Beacon)) {
	if config.Rendezvous != "" {
		for _, b := range look(config.Rendezvous, cluster, time.Now()) {
			offer(b)
		}
	}
	for _, b := range withVia(config.Seeds, ViaSeed) {
		offer(b)
	}
}

// jitter spreads what many nodes do at the same interval.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(rand.Int64N(int64(d)*2/5+1))
}

// bucket bounds how often something happens. Its own lock: several sockets share it.
type bucket struct {
	rate, burst float64 // per second, at once

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.burst, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
