// Package account makes the users and groups that components run as, and removes them.
//
// User and Group say what should be. A Platform turns that into the command lines of one operating system by
// tables (pure, in platform.go); a Manager looks at what is there, runs them, and remembers which accounts it made and which
// components use them. An account that exists is kept as it is; one with another number is an error unless it is
// adopted. Only accounts that the Manager made are removed, and only when no component uses them any more. Home folders are
// never removed, and no password, not even a hash, is in an argument or an error.
package account

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"orrery/state"
)

// ErrMismatch says that an account exists with another number than it should have.
var ErrMismatch = errors.New("exists with another number")

// Group is a group that should exist.
type Group struct {
	Name  string `json:"name"`
	GID   *int   `json:"gid,omitempty"` // nil: the system chooses
	Adopt bool   `json:"adopt,omitempty"`
}

// User is a user that should exist.
type User struct {
	Name        string   `json:"name"`
	UID         *int     `json:"uid,omitempty"`   // nil: the system chooses
	Group       string   `json:"group,omitempty"` // its first group; empty: one of its own name
	Groups      []string `json:"groups,omitempty"`
	Description string   `json:"description,omitempty"`
	Home        string   `json:"home,omitempty"`
	CreateHome  bool     `json:"createHome,omitempty"`
	// CreateHomeOnly makes the home folder and no user, which needs no privileges.
	CreateHomeOnly bool   `json:"createHomeOnly,omitempty"`
	Shell          string `json:"shell,omitempty"`
	// PasswordFile is a file that holds the hash of the password, as in the shadow file. Empty: no password fits.
	PasswordFile string `json:"passwordFile,omitempty"`
	Adopt        bool   `json:"adopt,omitempty"` // take an existing user although its number is another one

	Hash string `json:"-"` // of the password, where it does not come from a file
}

// Properties are those that modules embed for the accounts of a component.
type Properties struct {
	Users          []User  `json:"users"`
	Groups         []Group `json:"groups"`
	RemoveAccounts bool    `json:"removeAccounts"`
}

// Describe lists the properties for a module's description.
func Describe() []state.Property {
	return []state.Property{
		{Name: "groups", Type: "[]object", Doc: "Groups that are made before activation where they are missing: name, gid, adopt. One that exists with another gid is an error, unless adopt is true."},
		{Name: "users", Type: "[]object", Doc: "Users that are made before activation where they are missing: name, uid, group, groups, description, home, createHome, createHomeOnly, shell, passwordFile (a file that holds the password's hash), adopt. Needs root."},
		{Name: "removeAccounts", Type: "bool", Default: "false", Doc: "Remove, at deactivation, those of these accounts that Orrery made and that no other component uses. Home folders stay."},
	}
}

// Empty says whether there is nothing to do.
func (p Properties) Empty() bool { return len(p.Users) == 0 && len(p.Groups) == 0 }

var validName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}[$]?$`)

// Check finds what is wrong without looking at the machine; state.ErrBadProperty.
func (p Properties) Check() error {
	seen := map[string]bool{}
	for _, g := range p.Groups {
		if err := g.check(); err != nil {
			return err
		}
		if seen["group "+g.Name] {
			return bad("group %q is there twice", g.Name)
		}
		seen["group "+g.Name] = true
	}
	for _, u := range p.Users {
		if err := u.check(); err != nil {
			return err
		}
		if seen["user "+u.Name] {
			return bad("user %q is there twice", u.Name)
		}
		seen["user "+u.Name] = true
	}
	return nil
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{state.ErrBadProperty}, args...)...)
}

func (g Group) check() error {
	switch {
	case !validName.MatchString(g.Name):
		return bad("%q cannot name a group (lower-case letters, digits, '-' and '_', at most 32)", g.Name)
	case g.GID != nil && *g.GID < 0:
		return bad("gid of group %s is negative", g.Name)
	}
	return nil
}

func (u User) check() error {
	if !validName.MatchString(u.Name) {
		return bad("%q cannot name a user (lower-case letters, digits, '-' and '_', at most 32)", u.Name)
	}
	for _, g := range append(slices.Clone(u.Groups), u.Group) {
		if g != "" && !validName.MatchString(g) {
			return bad("%q, a group of user %s, cannot name a group", g, u.Name)
		}
	}
	for what, path := range map[string]string{"home": u.Home, "shell": u.Shell, "passwordFile": u.PasswordFile} {
		if path != "" && !filepath.IsAbs(path) && !strings.HasPrefix(path, "${") || strings.ContainsAny(path, ":\n\x00") {
			return bad("%s %q of user %s is not an absolute path", what, path, u.Name)
		}
	}
	switch {
	case u.UID != nil && *u.UID < 0:
		return bad("uid of user %s is negative", u.Name)
	case strings.ContainsAny(u.Description, ":\n\x00"):
		return bad("description of user %s has a colon or line break", u.Name)
	case strings.ContainsAny(u.Hash, ":\n\x00"):
		return bad("password hash of user %s is malformed", u.Name)
	case (u.CreateHome || u.CreateHomeOnly) && u.Home == "":
		return bad("home of user %s is to be made, and is not given", u.Name)
	}
	return nil
}
