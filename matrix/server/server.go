package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	gosync "sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orrery/internal/memory"
	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/admin"
	"orrery/matrix/adminpage"
	"orrery/matrix/api"
	"orrery/matrix/appservice/delivery"
	"orrery/matrix/delayed"
	"orrery/matrix/federation"
	"orrery/matrix/keys"
	"orrery/matrix/media"
	"orrery/matrix/notice"
	"orrery/matrix/pusher"
	"orrery/matrix/room"
	"orrery/matrix/search"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/sqldb"
	"orrery/matrix/table/watch"
)

// Server is a homeserver that is ready to serve.
type Server struct {
	Accounts *account.Accounts
	Rooms    *room.Rooms
	Media    *media.Media
	Admin    *admin.Admin

	config *Config
	db     table.DB
	opened table.DB // without those who watch it
	api    *api.API
	fed    *federation.API
	logger *slog.Logger

	syncer   *sync.Syncer
	pushers  *pusher.Pushers
	search   *search.Index
	metrics  *prometheus.Registry
	unwatch  func() // ends watching the load, and waits for that
	delayed  *delayed.Events
	services *delivery.Delivery // nil: there are none
	notices  *notice.Notices    // nil: there are none
}

// OpenDatabase opens the database that a configuration names.
func OpenDatabase(ctx context.Context, c *Config, logger *slog.Logger) (table.DB, error) {
	kind, rest, _ := strings.Cut(c.Database, ":")
	switch kind {
	case "memory":
		if rest != "" {
			break
		}
		return pebbledb.Open(pebbledb.Config{Memory: true, Logger: logger})
	case "pebble":
		return pebbledb.Open(pebbledb.Config{Directory: c.path(rest), Logger: logger})
	case "sqlite":
		if rest == "" {
			break
		}
		db, err := sqldb.Open(ctx, "sqlite:"+c.path(rest))
		return openedSQL(db, err, "it is to be a file of SQLite, or none yet, in a folder that this user can write: "+c.path(rest))
	case "postgres", "postgresql":
		db, err := sqldb.Open(ctx, c.Database)
		return openedSQL(db, err, "is PostgreSQL running there, and has it this user and this database, with the password in PGPASSWORD or PGPASSFILE?")
	}
	return nil, fmt.Errorf("database %.40q is none of sqlite:PATH, pebble:FOLDER, postgres://user@host/database, memory", kind)
}

// openedSQL is a database, or the error with what helps.
func openedSQL(db *sqldb.DB, err error, what string) (table.DB, error) {
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, what)
	}
	return db, nil
}

func (c *Config) newSyncer(stream *store.Stream, db *watch.DB) *sync.Syncer {
	s := sync.New(stream, db)
	if c.Subscriptions {
		s.OfferSubscriptions()
	}
	return s
}

// Open opens a homeserver. Without a logger it logs nothing.
func Open(ctx context.Context, c *Config, logger *slog.Logger) (*Server, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	key, err := c.key()
	if err != nil {
		return nil, err
	}
	secret, err := c.secret()
	if err != nil {
		return nil, err
	}
	entry, err := c.entry()
	if err != nil {
		return nil, err
	}
	turn, err := c.turn()
	if err != nil {
		return nil, err
	}
	opened, guarded, usable, err := c.openGuarded(ctx, logger)
	if err != nil {
		return nil, err
	}
	db := watch.New(guarded) // and nothing writes but through it
	stream, err := store.NewStream(ctx, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	services, err := c.openServices(stream, logger)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	syncer := c.newSyncer(stream, db)
	momentary := memory.NewBudget(memory.Share())
	accounts := c.accounts(stream, services, momentary)
	s := &Server{
		config: c, db: db, opened: opened, logger: logger, syncer: syncer, services: services,
		Accounts: accounts,
		search:   search.Open(ctx, stream, logger), metrics: newMetrics(), unwatch: func() {},
	}
	deviceKeys := keys.New(stream, syncer)
	rooms := room.Config{Stream: stream, Server: c.ServerName, Key: key, Now: c.Now, Watch: s.watch, Committed: s.committed, Redacting: search.Remove, Erased: accounts.Erased}
	if err := errors.Join(s.openRooms(ctx, rooms, deviceKeys), s.openPushers(ctx, stream, syncer), s.openNotices(ctx, stream)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if c.Presence {
		syncer.ShowPresence(ctx)
	}
	s.Media, err = media.Open(media.Config{DB: db, Folder: c.path(c.Media), MaxSize: c.MaxUpload << 20, Memory: momentary, Now: c.Now})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the media: %w", err), s.Close())
	}
	s.Admin = admin.New(ctx, admin.Config{Rooms: s.Rooms, Accounts: s.Accounts, Syncer: syncer, Uploads: s.Media, Stream: stream, Now: c.Now, Logger: logger})
	previews, err := c.previews(s.Media)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	validations, err := c.validations(stream, logger)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	identities, err := c.identities(key)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.fed = federation.New(federation.Config{Server: c.ServerName, Key: key, Address: c.Federation.Address, Version: c.Version, Now: c.Now})
	var watch *adminpage.Watch
	if c.AdminPage {
		watch = s.watched(ctx)
	}
	s.delayed = delayed.Open(ctx, delayed.Config{Stream: stream, Rooms: s.Rooms, May: s.maySend, Explain: api.Explain, Now: c.Now, Logger: logger})
	s.api = api.New(api.Config{
		Server: c.ServerName, BaseURL: c.BaseURL, Accounts: s.Accounts, Rooms: s.Rooms, Syncer: syncer, Keys: deviceKeys, Services: services, Media: s.Media, Admin: s.Admin, Pushers: s.pushers, Delayed: s.delayed, Notices: s.notices, Search: s.search, Stream: stream, Usable: usable, Now: c.Now, Logger: logger,
		Validations: validations, Identity: identities, Previews: previews, KeepMedia: time.Duration(c.KeepMedia) * 24 * time.Hour, OpenMedia: c.OpenMedia, Turn: turn, Contacts: c.Contacts, SupportPage: c.SupportPage,
		Transports: c.Transports, Subscriptions: c.Subscriptions, AdminPage: watch, Servers: s.fed, RoomVersion: c.RoomVersion, SharedSecret: secret, LogIn: entry, Limits: api.Limits{Logins: c.Limits.Logins, Writes: c.Limits.Writes, Reads: c.Limits.Reads}, BehindProxy: c.BehindProxy,
	})
	s.metrics.MustRegister(s.api, s.fed)
	if services != nil {
		s.metrics.MustRegister(services)
	}
	if err := s.goOn(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (c *Config) accounts(stream *store.Stream, services *delivery.Delivery, m *memory.Budget) *account.Accounts {
	return account.New(account.Config{Stream: stream, Server: c.ServerName, Now: c.Now, Speaker: c.speaker(), Memory: m, Reserved: func(user string) error { return reserved(services, user) }})
}

// goOn begins what goes on by itself, with what the server before left. A command leaves that to the server that may run beside it, which would send it, too.
func (s *Server) goOn(ctx context.Context) error {
	if s.config.Command {
		return nil
	}
	s.pushers.Begin()
	s.delayed.Begin()
	return s.Admin.Resume(ctx)
}

// Handler is the API.
func (s *Server) Handler() http.Handler { return s.api }

// How long a request's header may take, and what is under way at the end.
const (
	headerTimeout = 30 * time.Second
	endTimeout    = 10 * time.Second
)

// Serve serves until the context ends; then those who wait are answered, and what is under way comes to its end. ready is called with the address.
func (s *Server) Serve(ctx context.Context, ready func(net.Addr)) error {
	requests, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	clients, err := s.listen(ctx, requests, s.config.Listen, s.config.TLSCertificate, s.config.TLSKey, s.api)
	if err != nil {
		return err
	}
	all := []*listener{clients}
	if f := s.config.Federation; f.Listen != "" {
		servers, err := s.listen(ctx, requests, f.Listen, f.TLSCertificate, f.TLSKey, s.fed)
		if err != nil {
			return errors.Join(fmt.Errorf("federation: %w", err), clients.Close())
		}
		all = append(all, servers)
	}
	operator, err := s.listenOperator(ctx, requests)
	if operator != nil {
		all = append(all, operator)
	}
	observed := func() error { return nil }
	if err == nil {
		observed, err = s.observe(ctx)
	}
	if err != nil {
		for _, l := range all {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	failed := make(chan error, len(all))
	for _, l := range all {
		go l.serve(failed)
	}
	var swept gosync.WaitGroup
	swept.Go(func() { s.sweep(requests) })
	defer swept.Wait()
	defer end()
	s.BeginServices(ctx)
	ready(clients.Addr())
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	end() // those who wait get their answers
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	for _, l := range all {
		err = errors.Join(err, l.shutdown(last))
	}
	return errors.Join(err, observed())
}

// sweep removes what is not needed any more, now and then.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := s.api.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.logger.ErrorContext(ctx, "what is not needed any more was not removed (the next try is in an hour)", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// maySend is nil for a user whose account may send events.
func (s *Server) maySend(ctx context.Context, user string) error {
	u, err := s.Accounts.User(ctx, user)
	if err == nil && (u.Deactivated || u.Locked || u.Suspended) {
		err = fmt.Errorf("%w: the account of %s sends nothing", matrix.ErrForbidden, user)
	}
	return err
}

// Close ends the server.
func (s *Server) Close() error {
	s.unwatch()
	if s.delayed != nil {
		s.delayed.Close()
	}
	if s.Admin != nil {
		s.Admin.Close()
	}
	if s.pushers != nil {
		s.pushers.Close()
	}
	s.services.Close()
	s.search.Close()
	s.syncer.Close()
	return s.db.Close()
}
