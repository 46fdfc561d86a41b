// Package account knows who has an account on this server: passwords, devices and their tokens, profiles.
package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"orrery/internal/memory"
	"orrery/matrix"
	"orrery/matrix/contact/validation"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

var (
	// ErrTaken says that a name belongs to somebody.
	ErrTaken = errors.New("is taken")
	// ErrName says that a name cannot be a user's.
	ErrName = errors.New("cannot be a user's name")
	// ErrPassword says that a user or the password is wrong; it does not say which.
	ErrPassword = errors.New("user or password is wrong")
	// ErrDeactivated says that an account is not used any more.
	ErrDeactivated = errors.New("account is deactivated")
	// ErrToken says that a token is not known, or not any more.
	ErrToken = errors.New("token is not known")
	// ErrExpired says that a token was known and is too old; its device may get a new one.
	ErrExpired = errors.New("token has expired")
	// ErrNotFound says that there is no such user or device.
	ErrNotFound = errors.New("not found")
)

// Lifetime is how long an access token counts that can be refreshed.
const Lifetime = time.Hour

// Config says whose accounts these are.
type Config struct {
	Stream *store.Stream
	Server string
	Now    func() time.Time
	// Reserved is an error for a user whom only an application service can make; nil: there are none.
	Reserved func(user string) error
	// Speaker is the id of the user by whom the server itself speaks, and as whom nobody logs in; "": there is none.
	Speaker string
	// Memory is for passwords that are hashed.
	Memory *memory.Budget
}

// Accounts are those of a server.
type Accounts struct {
	c      Config
	hasher hasher

	mu        sync.Mutex
	known     map[[sha256.Size]byte]Login // by the hash of their token; forgotten when they grow too many
	acting    map[[2]string]Login         // by user and device, those as whom application services act
	forgotten int                         // how often some were
	forgets   func(user, device string)   // is told of it; nil: nobody is
	erased    map[string]bool             // users, once they were asked for; never changed
	seen      map[[2]string]int64         // when it was written, by user and device, that they are used; forgotten when they grow too many
}

// maxKnown is how many tokens are remembered.
const maxKnown = 20_000

// Login is a user on a device.
type Login struct {
	User              string
	Device            string
	Guest             bool
	Locked, Suspended bool
	Client            string // that came by OAuth; "": it came otherwise
	Expires           int64  // milliseconds since 1970; 0: never
}

// New is the accounts in a database.
func New(c Config) *Accounts {
	return &Accounts{c: c, hasher: newHasher(c.Memory), known: map[[sha256.Size]byte]Login{}, seen: map[[2]string]int64{}}
}

// Full is the id of a user of this server, of a localpart or a whole id.
func (a *Accounts) Full(name string) string {
	if strings.HasPrefix(name, "@") {
		return name
	}
	return "@" + name + ":" + a.c.Server
}

// Local says whether a user is of this server.
func (a *Accounts) Local(user string) bool { return matrix.Domain(user) == a.c.Server }

// ValidName says what is wrong with the localpart of a new user (clause appendices, user identifiers).
func (a *Accounts) ValidName(localpart string) error {
	if localpart == "" || strings.ContainsFunc(localpart, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("._=-/+", r)
	}) {
		return fmt.Errorf("%q %w (it has a to z, 0 to 9 and ._=-/+)", localpart, ErrName)
	}
	return a.fits(localpart)
}

// validServiceName is ValidName for a user of an application service. Bridges name their users after those of other networks, and themselves by chance, with
// capitals and brackets, and rely on homeservers to take that: what has these characters counts as a compliant user all the same (clause appendices, historical
// user ids).
func (a *Accounts) validServiceName(localpart string) error {
	if localpart == "" || strings.ContainsFunc(localpart, func(r rune) bool { return r < '!' || r > '~' || r == ':' }) {
		return fmt.Errorf("%q %w (that of a service has letters, digits and signs of ASCII but for a colon)", localpart, ErrName)
	}
	return a.fits(localpart)
}

// fits is nil unless a user's id would be too long.
func (a *Accounts) fits(localpart string) error {
	if id := a.Full(localpart); len(id) > matrix.MaxIdentifier {
		return fmt.Errorf("%q %w: with the server's name it has %d bytes (at most %d)", localpart, ErrName, len(id), matrix.MaxIdentifier)
	}
	return nil
}

// reserved is nil unless only an application service can make a user.
func (a *Accounts) reserved(localpart string) error {
	if a.c.Reserved == nil {
		return nil
	}
	return a.c.Reserved(a.Full(localpart))
}

// mayMake says what is wrong with the name of a new user.
func (a *Accounts) mayMake(n NewUser) error {
	if n.Service != "" {
		return a.validServiceName(n.Name)
	}
	if err := a.ValidName(n.Name); err != nil {
		return err
	}
	return a.reserved(n.Name)
}

// Free says whether a localpart can be a new user's.
func (a *Accounts) Free(ctx context.Context, localpart string) error {
	if err := a.ValidName(localpart); err != nil {
		return err
	}
	if err := a.reserved(localpart); err != nil {
		return err
	}
	return a.c.Stream.DB().View(ctx, func(tx table.Tx) error { return a.free(tx, localpart) })
}

func (a *Accounts) free(tx table.Tx, localpart string) error {
	taken, err := store.Users.Has(tx, a.Full(localpart))
	if err == nil && taken {
		err = fmt.Errorf("%s %w", localpart, ErrTaken)
	}
	return err
}

// NewUser is an account that is to be made.
type NewUser struct {
	Name       string // the localpart
	Password   string // "": nobody can log in by one
	Shown      string // the display name; "": the localpart
	Admin      bool
	Guest      bool
	Invitation string             // a token that is used up by it; "": none
	External   *store.External    // by which its user logs in elsewhere; nil: none. Its User is set here
	Proofs     []validation.Proof // of addresses that it has, which are used up by it
	Service    string             // the id of the application service that makes it; "": none does
}

// Create makes an account. Without a password nobody can log in by one.
func (a *Accounts) Create(ctx context.Context, localpart, password string, admin, guest bool) (store.User, error) {
	return a.Make(ctx, NewUser{Name: localpart, Password: password, Admin: admin, Guest: guest})
}

// Make makes an account.
func (a *Accounts) Make(ctx context.Context, n NewUser) (store.User, error) {
	if err := a.mayMake(n); err != nil {
		return store.User{}, err
	}
	u := store.User{ID: a.Full(n.Name), Created: a.now(), Admin: n.Admin, Guest: n.Guest}
	if n.Password != "" {
		var err error
		if u.Password, err = a.hasher.hash(ctx, n.Password); err != nil {
			return u, err
		}
	}
	shown, err := json.Marshal(cmp.Or(n.Shown, n.Name))
	if err != nil {
		return u, err
	}
	return u, a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := a.free(tx, n.Name); err != nil {
			return err
		}
		if n.Invitation != "" {
			if err := a.takeInvitation(tx, n.Invitation); err != nil {
				return err
			}
		}
		if n.External != nil {
			n.External.User = u.ID
			if err := store.Externals.Put(tx, *n.External); err != nil {
				return err
			}
		}
		for _, p := range n.Proofs {
			if err := a.addProved(tx, u.ID, p); err != nil {
				return err
			}
		}
		if n.Service != "" {
			if err := store.ServiceUsers.Put(tx, store.ServiceUser{User: u.ID, Service: n.Service}); err != nil {
				return err
			}
		}
		return errors.Join(store.Users.Put(tx, u), store.ProfileFields.Put(tx, store.ProfileField{User: u.ID, Name: "displayname", Value: shown}))
	})
}

func (a *Accounts) now() int64 { return a.c.Now().UnixMilli() }

// User is an account.
func (a *Accounts) User(ctx context.Context, id string) (u store.User, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		u, err = user(tx, id)
		return err
	})
	return u, err
}

func user(tx table.Tx, id string) (store.User, error) {
	u, ok, err := store.Users.Get(tx, id)
	if err == nil && !ok {
		err = fmt.Errorf("user %s is %w", id, ErrNotFound)
	}
	return u, err
}

// active is nil if an account can be used.
func active(tx table.Tx, id string) error {
	u, err := user(tx, id)
	if err == nil && u.Deactivated {
		err = ErrDeactivated
	}
	return err
}

// CheckPassword is nil if the password is the user's.
func (a *Accounts) CheckPassword(ctx context.Context, id, password string) error {
	u, err := a.User(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	ok, hashErr := a.hasher.check(ctx, u.Password, password) // also for nobody, so that it takes as long
	switch {
	case hashErr != nil:
		return hashErr
	case !ok, a.lets(id) != nil:
		return ErrPassword
	case u.Deactivated:
		return ErrDeactivated
	}
	return nil
}

// SetPassword changes a user's password, and ends their visits to the server's own pages.
func (a *Accounts) SetPassword(ctx context.Context, id, password string) error {
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error { return setPassword(tx, id, hash) })
}

func setPassword(tx table.Tx, id, hash string) error {
	u, err := user(tx, id)
	if err != nil {
		return err
	}
	u.Password = hash
	return errors.Join(store.Users.Put(tx, u), store.Browsers.DeleteAll(tx, table.Range{Index: "user", Prefix: []any{id}}))
}

// Moderate changes an account, and what its devices may do from now on.
func (a *Accounts) Moderate(ctx context.Context, id string, with func(*store.User)) error {
	err := a.change(ctx, id, with)
	a.forget(id, "")
	return err
}

// SetAdmin makes a user an administrator, or no more.
func (a *Accounts) SetAdmin(ctx context.Context, id string, admin bool) error {
	return a.change(ctx, id, func(u *store.User) { u.Admin = admin })
}

func (a *Accounts) change(ctx context.Context, id string, with func(*store.User)) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		u, err := user(tx, id)
		if err != nil {
			return err
		}
		with(&u)
		return store.Users.Put(tx, u)
	})
}

// Deactivate ends an account: it has no password and no device any more, and its name stays taken.
func (a *Accounts) Deactivate(ctx context.Context, id string) error {
	if err := a.change(ctx, id, func(u *store.User) { u.Deactivated, u.Password = true, "" }); err != nil {
		return err
	}
	a.forget(id, "")
	return errors.Join(a.LogoutAll(ctx, id, ""), a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		of := table.Range{Index: "user", Prefix: []any{id}}
		return errors.Join(store.Externals.DeleteAll(tx, of), store.Browsers.DeleteAll(tx, of), store.Contacts.DeleteAll(tx, of))
	}))
}

// Erase takes away what an account that was deactivated says of its user, and has their events shown redacted to whoever had not seen them (clause
// client-server API, POST /account/deactivate).
func (a *Accounts) Erase(ctx context.Context, id string) error {
	err := a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		u, err := user(tx, id)
		if err != nil {
			return err
		}
		u.Erased = true
		of := table.Range{Prefix: []any{id}}
		return errors.Join(store.Users.Put(tx, u), store.ProfileFields.DeleteAll(tx, of), store.AllAccountData.DeleteAll(tx, of), store.Subscriptions.DeleteAll(tx, of),
			store.Filters.DeleteAll(tx, of), store.BackupVersions.DeleteAll(tx, of), store.BackupKeys.DeleteAll(tx, of), store.Bindings.DeleteAll(tx, of))
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.erased = nil // to be read again
	return err
}

// Erased says whether a user's events are shown redacted to whoever had not seen them.
func (a *Accounts) Erased(ctx context.Context, id string) (bool, error) {
	a.mu.Lock()
	known := a.erased
	a.mu.Unlock()
	if known == nil {
		known = map[string]bool{}
		all, err := a.Users(ctx)
		if err != nil {
			return false, err
		}
		for _, u := range all {
			if u.Erased {
				known[u.ID] = true
			}
		}
		a.mu.Lock()
		a.erased = known
		a.mu.Unlock()
	}
	return known[id], nil
}

// Users are all accounts, in the order of their ids.
func (a *Accounts) Users(ctx context.Context) (all []store.User, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Users.All(tx, table.Range{})
		return err
	})
	return all, err
}

// secret is a new token.
func secret(kind string) string { return kind + "_" + rand.Text() + rand.Text() }
