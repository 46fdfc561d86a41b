package server

import (
	"context"
	"time"

	"orrery/matrix/outside"
	"orrery/matrix/pusher"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
)

// Limits of requests to gateways of notifications.
const (
	gatewayTimeout   = 30 * time.Second
	gatewayRedirects = 0
)

// policy says what users may let the server reach.
func (c *Config) policy() (p outside.Policy, err error) {
	p.Allowed, err = outside.ParseNetworks(c.Reachable)
	return p, err
}

func (s *Server) openPushers(ctx context.Context, stream *store.Stream, syncer *sync.Syncer) error {
	policy, err := s.config.policy()
	if err != nil {
		return err
	}
	s.pushers, err = pusher.Open(ctx, pusher.Config{
		Stream: stream, Syncer: syncer, Client: outside.Client(policy, gatewayTimeout, gatewayRedirects), Logger: s.logger, Now: s.config.Now, Silent: !s.config.Outbound,
	})
	return err
}

// watch tells all who watch rooms of new events.
func (s *Server) watch(r *room.Room, events []*room.Entry) {
	s.syncer.Watch(r, events)
	s.pushers.Watch(r, events)
	if s.services != nil {
		s.services.Watch(r)
	}
}

// committed is told of new events before they count as seen.
func (s *Server) committed(r *room.Room, events []*room.Entry) {
	s.syncer.Committed(r, events)
	s.search.Add(r, events)
}
