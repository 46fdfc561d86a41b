package mysql

import (
	"fmt"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

// forkMark says of a thin fork or replica what its component's properties cannot: it lies in the component's folder.
type forkMark struct {
	Method   string `json:"method"`
	Port     int    `json:"port"`     // of the fork's own server
	Database string `json:"database"` // the source's name of it
	Program  string `json:"program"`  // the server
	// User is the account of a replica's clients, which stays theirs when it is promoted.
	User string `json:"user,omitempty"`
	// Promoting says that a replica's promotion has begun.
	Promoting bool `json:"promoting,omitempty"`
}

// served says whether the component has a server of its own.
func (k forkMark) served() bool { return k.Method == state.ForkThin || k.Method == state.ForkReplica }

// resolve is a target's server and database as its clients find them.
func resolve(t state.Target) (s server, p properties, err error) {
	if s, err = decodeContainer(t.Container); err != nil {
		return s, p, err
	}
	if p, err = decodeComponent(t.Component); err != nil {
		return s, p, err
	}
	k, err := mark.Read[forkMark](t)
	if err != nil {
		return s, p, err
	}
	s, p = k.at(t, s, p)
	return s, p, nil
}

// at is a server and database as those of a thin fork or replica are found; the zero mark leaves them.
func (k forkMark) at(t state.Target, s server, p properties) (server, properties) {
	if k.Method == "" {
		return s, p
	}
	p.Database = k.Database
	if s.Socket != "" {
		s.Socket = thinCopy(t, s, k).Socket()
	}
	s.Host, s.Port = "127.0.0.1", k.Port
	s.replica, s.replicated = k.Method == state.ForkReplica, k.User != ""
	return s, p
}

// refuseReplica refuses what would change a replica.
func refuseReplica(t state.Target, what string) error {
	k, err := mark.Read[forkMark](t)
	if err == nil && k.Method == state.ForkReplica {
		err = fmt.Errorf("cannot %s database %s: %w", what, t.Component.Ref(), state.ErrReplica)
	}
	return err
}
