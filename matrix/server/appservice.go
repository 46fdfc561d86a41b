package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/appservice"
	"orrery/matrix/appservice/delivery"
	"orrery/matrix/appservice/remote"
	"orrery/matrix/keys"
	"orrery/matrix/room"
	"orrery/matrix/store"
)

// Bridges is a configuration's part about application services.
type Bridges struct {
	Services []string `yaml:"application_services"`
}

const bridgesDefaults = `
# Application services, such as bridges to other networks: files of their registrations, or folders with such files (*.yaml, *.yml). They are read again on
# SIGHUP. See docs/matrix-appservices.md.
application_services: []
`

// registrations are the files of registrations that the configuration names.
func (c *Config) registrations() (files []string, err error) {
	for _, name := range c.Services {
		path := c.path(name)
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("application_services: %w", err)
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		all, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("application_services: %w", err)
		}
		for _, f := range all { // in the order of their names
			if kind := filepath.Ext(f.Name()); !f.IsDir() && (kind == ".yaml" || kind == ".yml") && !strings.HasPrefix(f.Name(), ".") {
				files = append(files, filepath.Join(path, f.Name()))
			}
		}
	}
	return files, nil
}

// ReadServices reads the registrations of application services, and says what is wrong with them.
func (c *Config) ReadServices() (*appservice.Services, error) {
	files, err := c.registrations()
	if err != nil {
		return nil, err
	}
	var all []*appservice.Registration
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r, err := appservice.Read(file, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !c.Outbound { // it acts here all the same
			r.URL = ""
		}
		all = append(all, r)
	}
	services, err := appservice.New(c.ServerName, all)
	return services, errors.Join(append(errs, err)...)
}

// openServices reads the services; nil if the configuration names none, so that they cost nothing.
func (c *Config) openServices(stream *store.Stream, logger *slog.Logger) (*delivery.Delivery, error) {
	if len(c.Services) == 0 {
		return nil, nil //nolint:nilnil // there are none
	}
	services, err := c.ReadServices()
	if err != nil {
		return nil, err
	}
	return delivery.New(delivery.Config{Stream: stream, Remote: remote.New(c.Now), Logger: logger, Now: c.Now}, services), nil
}

// reserved says whether a name is an application service's, for account.Config.
func reserved(d *delivery.Delivery, user string) error {
	if s := d.Services().UserOwner(user); s != nil {
		return fmt.Errorf("%s %w", user, account.ErrReserved)
	}
	return nil
}

// makeSenders makes the accounts of the services' own users, which must not be somebody's.
func makeSenders(ctx context.Context, accounts *account.Accounts, services *appservice.Services) error {
	var errs []error
	for _, s := range services.All() {
		if err := accounts.Adopt(ctx, s.ID, s.Sender); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: sender_localpart: %w", appservice.ErrRegistration, s.File, err))
		}
	}
	return errors.Join(errs...)
}

// openRooms opens the rooms, and has the services, if there are any, hear of what happens there.
func (s *Server) openRooms(ctx context.Context, c room.Config, deviceKeys *keys.Keys) error {
	if s.services == nil {
		s.Rooms = room.New(c)
		s.syncer.Serve(s.Rooms)
		return nil
	}
	c.Writing = s.services.Write
	s.syncer.Follow(s.services)
	deviceKeys.Follow(s.services)
	s.Rooms = room.New(c)
	s.syncer.Serve(s.Rooms)
	s.services.Serve(s.Rooms, s.syncer)
	return makeSenders(ctx, s.Accounts, s.services.Services())
}

// Reload reads the registrations of application services again. If they cannot be used those of before count.
func (s *Server) Reload(ctx context.Context) error {
	if s.services == nil {
		return nil
	}
	services, err := s.config.ReadServices()
	if err == nil {
		err = makeSenders(ctx, s.Accounts, services)
	}
	if err != nil {
		return err
	}
	s.services.Change(services)
	s.logger.InfoContext(ctx, "the registrations of application services were read", "services", len(services.All()))
	return nil
}

// BeginServices sends to application services what concerns them. Only one process may do that for a database.
func (s *Server) BeginServices(ctx context.Context) {
	if s.services != nil {
		s.services.Begin(ctx)
	}
}

// PingService asks an application service whether it is there and knows the server's token.
func PingService(ctx context.Context, c *Config, id string) (time.Duration, error) {
	services, err := c.ReadServices()
	if err != nil {
		return 0, err
	}
	s := services.ByID(id)
	switch {
	case s == nil:
		return 0, fmt.Errorf("application service %s is %w", id, account.ErrNotFound)
	case s.URL == "":
		return 0, fmt.Errorf("application service %s has no url: nothing is sent to it", id)
	}
	client := remote.New(c.Now)
	defer client.Close()
	took, err := client.Ping(ctx, s, "")
	if status, ok := errors.AsType[*remote.StatusError](err); ok {
		err = fmt.Errorf("%w: %s (is its hs_token the same?)", err, status.Body)
	}
	return took, err
}
