// Package appservice is the rules of application services (clause application service API): what their registrations say, which of them an id or a room
// concerns, what they are sent and when it is tried again. It takes values and returns values; what is sent over the network is in appservice/remote, what is
// kept until then in appservice/delivery.
package appservice

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"orrery/matrix"
)

// Service is an application service of a server.
type Service struct {
	Registration

	SenderID string // the id of its own user

	server string
	users  known
}

// Services are those of a server. A nil one has none.
type Services struct {
	all     []*Service
	byID    map[string]*Service
	byToken map[[sha256.Size]byte]*Service // of the hash, so that how long it takes says nothing of a token
}

// maxKnown is how many users are remembered to belong to a service, or not to.
const maxKnown = 50_000

// known remembers what users are to a service: members of rooms are asked about again and again.
type known struct {
	mu  sync.Mutex
	ids map[string]owned
}

type owned struct{ in, exclusive bool }

// New is the services of a server with these registrations, which have to go together.
func New(server string, all []*Registration) (*Services, error) {
	s := &Services{byID: map[string]*Service{}, byToken: map[[sha256.Size]byte]*Service{}}
	var errs []error
	for _, r := range all {
		one := &Service{Registration: *r, SenderID: "@" + r.Sender + ":" + server, server: server}
		wrong := func(field, format string, args ...any) {
			errs = append(errs, fmt.Errorf("%w: %s: %s: %s", ErrRegistration, r.File, field, fmt.Sprintf(format, args...)))
		}
		if err := matrix.ValidUser(one.SenderID); err != nil || strings.ContainsAny(r.Sender, "@:") {
			wrong("sender_localpart", "%q is not the name of a user without @ and server", r.Sender)
		}
		if other := s.byID[r.ID]; other != nil {
			wrong("id", "%q is that of %s", r.ID, other.File)
		}
		if other := s.ByToken(r.Token); other != nil {
			wrong("as_token", "it is that of %s", other.File)
		}
		for _, other := range s.all {
			if other.ServerToken == r.ServerToken {
				wrong("hs_token", "it is that of %s", other.File)
			}
			if other.Sender == r.Sender {
				wrong("sender_localpart", "%q is that of %s", r.Sender, other.File)
			}
			for _, why := range conflicts(one, other) {
				wrong(why[0], "%s", why[1])
			}
		}
		s.all, s.byID[r.ID], s.byToken[sha256.Sum256([]byte(r.Token))] = append(s.all, one), one, one
	}
	return s, errors.Join(errs...)
}

// conflicts are the fields of a service, and what is wrong, that claim for it alone what is another's.
func conflicts(s, other *Service) (all [][2]string) {
	for _, kind := range []struct {
		name         string
		mine, theirs []Namespace
	}{{"users", s.Users, other.Users}, {"rooms", s.Rooms, other.Rooms}, {"aliases", s.Aliases, other.Aliases}} {
		for i, n := range kind.mine {
			field := fmt.Sprintf("namespaces.%s[%d]", kind.name, i)
			for _, o := range kind.theirs {
				if !n.Exclusive || !o.Exclusive {
					continue
				}
				if example, both := overlap(n.Regex, o.Regex); both {
					all = append(all, [2]string{field, fmt.Sprintf("it is exclusive, and so is %q of %s: both have %q", o.Regex, other.File, example)})
				}
			}
			if kind.name == "users" && n.Exclusive && n.contains(other.SenderID) {
				all = append(all, [2]string{field, fmt.Sprintf("it is exclusive, and has %s, who is the sender of %s", other.SenderID, other.File)})
			}
		}
	}
	if _, exclusive := anyOf(other.Users, s.SenderID); exclusive {
		all = append(all, [2]string{"sender_localpart", fmt.Sprintf("%s is in an exclusive namespace of %s", s.SenderID, other.File)})
	}
	return all
}

// All are the services, in the order of their registrations.
func (s *Services) All() []*Service {
	if s == nil {
		return nil
	}
	return s.all
}

// ByID is the service with an id, nil if there is none.
func (s *Services) ByID(id string) *Service {
	if s == nil {
		return nil
	}
	return s.byID[id]
}

// ByToken is the service that has a token, nil if none has.
func (s *Services) ByToken(token string) *Service {
	if s == nil || len(s.all) == 0 {
		return nil
	}
	return s.byToken[sha256.Sum256([]byte(token))]
}

// UserOwner is the service that has a user for itself alone, nil if none has.
func (s *Services) UserOwner(user string) *Service {
	for _, one := range s.All() {
		if _, exclusive := one.user(user); exclusive {
			return one
		}
	}
	return nil
}

// AliasOwner is the service that has an alias for itself alone, nil if none has.
func (s *Services) AliasOwner(alias string) *Service {
	for _, one := range s.All() {
		if _, exclusive := anyOf(one.Aliases, alias); exclusive {
			return one
		}
	}
	return nil
}

// user says whether a user is one of the service's: its own, or in its namespaces if they are of this server.
func (s *Service) user(id string) (in, exclusive bool) {
	if id == s.SenderID {
		return true, true
	}
	if len(s.Users) == 0 || matrix.Domain(id) != s.server {
		return false, false
	}
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	o, ok := s.users.ids[id]
	if !ok {
		if len(s.users.ids) >= maxKnown || s.users.ids == nil {
			s.users.ids = map[string]owned{}
		}
		o.in, o.exclusive = anyOf(s.Users, id)
		s.users.ids[id] = o
	}
	return o.in, o.exclusive
}

// HasUser says whether a user is one of the service's.
func (s *Service) HasUser(id string) bool {
	in, _ := s.user(id)
	return in
}

// OwnsUser says whether a user is one of the service's, and nobody else's.
func (s *Service) OwnsUser(id string) bool {
	_, exclusive := s.user(id)
	return exclusive
}

// HasAlias says whether an alias is in the service's namespaces.
func (s *Service) HasAlias(alias string) bool {
	in, _ := anyOf(s.Aliases, alias)
	return in
}

// HasRoom says whether all that happens in a room is for the service, by the room's id or one of its aliases.
func (s *Service) HasRoom(id string, aliases []string) bool {
	in, _ := anyOf(s.Rooms, id)
	return in || slices.ContainsFunc(aliases, s.HasAlias)
}
