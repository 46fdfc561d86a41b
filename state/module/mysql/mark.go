package mysql

import (
	"orrery/state"
	"orrery/state/module/internal/mark"
)

// forkMark says of a thin fork what its component's properties cannot: it lies in the component's folder.
type forkMark struct {
	Method   string `json:"method"`
	Port     int    `json:"port"`     // of the fork's own server
	Database string `json:"database"` // the source's name of it
	Program  string `json:"program"`  // the server
}

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

// at is a server and database as those of a thin fork are found; the zero mark leaves them.
func (k forkMark) at(t state.Target, s server, p properties) (server, properties) {
	if k.Method == "" {
		return s, p
	}
	p.Database = k.Database
	if s.Socket != "" {
		s.Socket = thinCopy(t, s, k).Socket()
	}
	s.Host, s.Port = "127.0.0.1", k.Port
	return s, p
}
