package postgresql

import (
	"fmt"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

// forkMark says of a fork or replica what its component's properties cannot: it lies in the component's folder.
type forkMark struct {
	Method string `json:"method"`
	User   string `json:"user,omitempty"` // of clients, where that is not the container's
	Port   int    `json:"port,omitempty"` // of the fork's own server
	Bin    string `json:"bin,omitempty"`  // of that server's programs
	// Database is its name where that is the source's, as in a replica.
	Database string `json:"database,omitempty"`
	// Source is the port of a replica's source where that is a server of a fork.
	Source int `json:"source,omitempty"`
	// Promoting says that a replica's promotion has begun.
	Promoting bool `json:"promoting,omitempty"`
}

// served says whether the component has a server of its own.
func (k forkMark) served() bool { return k.Method == state.ForkThin || k.Method == state.ForkReplica }

// at is the server as the fork's clients find it.
func (k forkMark) at(s server) server {
	if k.User != "" {
		s.User = k.User
	}
	return atPort(s, k.Port)
}

// atPort is a fork's server, or without a port the container's.
func atPort(s server, port int) server {
	if port != 0 {
		s.Host, s.Port, s.SSLMode = "127.0.0.1", port, "disable"
	}
	return s
}

// named is the name of the component's database.
func (k forkMark) named(p properties) string {
	if k.Database != "" {
		return k.Database
	}
	return p.Database
}

// refuse refuses what a layer over another database has no form for, and what would change a replica.
func refuse(t state.Target, what string) error {
	k, err := mark.Read[forkMark](t)
	switch {
	case err != nil:
		return err
	case k.Method == state.ForkLayered:
		return fmt.Errorf("cannot %s database %s: it is a layer over another database: %w do that (make a fork by another method, or reset it)",
			what, t.Component.Ref(), state.ErrNotAble)
	case k.Method == state.ForkReplica:
		return fmt.Errorf("cannot %s database %s: %w", what, t.Component.Ref(), state.ErrReplica)
	}
	return nil
}
