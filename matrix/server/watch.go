package server

import (
	"context"
	"fmt"
	"strings"
	gosync "sync"
	"time"

	"orrery/matrix/adminpage"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// lookAgain is after how long what costs something is looked at again.
const lookAgain = time.Minute

// remembered is a value that is looked up again after a while.
type remembered[T any] struct {
	mu    gosync.Mutex
	until time.Time
	value T
}

func (r *remembered[T]) get(look func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.After(r.until) {
		r.value, r.until = look(), now.Add(lookAgain)
	}
	return r.value
}

// sizer is a database that knows how large it is.
type sizer interface {
	Size(ctx context.Context) (int64, error)
}

// watched is how the server is, for the admin page. Its load is watched until the server is closed.
func (s *Server) watched(ctx context.Context) *adminpage.Watch {
	load := adminpage.NewLoad(s.metrics, s.syncer.Waiting, s.config.Now)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var ended gosync.WaitGroup
	ended.Go(func() { load.Run(ctx) })
	s.unwatch = func() {
		cancel()
		ended.Wait()
	}
	var size remembered[int64]
	var warned remembered[[]string]
	kind, _, _ := strings.Cut(s.config.Database, ":")
	return &adminpage.Watch{
		Load: load, Began: s.config.Now(),
		Stores: func(ctx context.Context) (string, int64) {
			return databaseNames[kind], size.get(func() int64 {
				n, err := int64(0), error(nil)
				if db, ok := s.opened.(sizer); ok {
					n, err = db.Size(ctx)
				}
				if err != nil {
					s.logger.WarnContext(ctx, "the size of the database is not known", "error", err)
				}
				return n
			})
		},
		Federation: s.federation,
		Warnings:   func() []string { return warned.get(s.config.warnings) },
		Check: func(ctx context.Context) (all []adminpage.Finding) {
			for _, f := range s.config.inspect(ctx, func() error {
				return s.db.View(ctx, func(tx table.Tx) error {
					_, err := store.Position(tx)
					return err
				})
			}) {
				all = append(all, adminpage.Finding(f))
			}
			return all
		},
	}
}

// databaseNames are kinds of databases, for people.
var databaseNames = map[string]string{"memory": "in memory only", "pebble": "Pebble", "sqlite": "SQLite", "postgres": "PostgreSQL", "postgresql": "PostgreSQL"}

// warnings are what whoever runs the server should know, and may have wanted so.
func (c *Config) warnings() (all []string) {
	if c.OpenRegistration && !c.NeedInvitation {
		all = append(all, "Anybody may make an account, without a token (open_registration).")
	}
	if c.Limits.Logins.PerSecond <= 0 {
		all = append(all, "Nothing limits how often somebody may try passwords (limits.logins).")
	}
	if strings.HasPrefix(c.Database, "memory") {
		all = append(all, "All is kept in memory, and gone when the server ends (database).")
	}
	if c.TLSCertificate != "" {
		if _, err := c.checkCertificate(c.clientCertificate()); err != nil {
			all = append(all, fmt.Sprintf("The certificate: %v.", err))
		}
	} else if !c.BehindProxy && !strings.HasPrefix(c.Listen, "unix:") && !loopback(c.Listen) {
		all = append(all, "Clients are served without TLS, at "+c.Listen+" (tls_certificate, or behind_proxy if a proxy is before the server).")
	}
	return all
}
