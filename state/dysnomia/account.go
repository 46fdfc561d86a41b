package dysnomia

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"orrery/state/account"
)

// Accounts are the users and groups that components describe (see the package account), made and removed as Dysnomia
// does: what is there stays as it is, and what a component describes is removed, whoever made it.
type Accounts struct {
	Err    io.Writer
	System account.System
}

// NewAccounts returns the accounts of this machine.
func NewAccounts(complaints io.Writer) Accounts {
	return Accounts{Err: complaints, System: account.NewSystem("", nil)}
}

// checked reads what a path describes.
func checked[A any](path string, read func(string) ([]A, error)) ([]A, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, notFound("ERROR: The path: " + path + " is not valid!")
	}
	return read(path)
}

// there says whether an account exists, and complains if it has another number than it should.
func (a Accounts) there(ctx context.Context, kind, title, what, name string, want *int) (bool, error) {
	has, exists, err := a.System.Find(ctx, kind, name)
	if err != nil || !exists {
		return false, err
	}
	fmt.Fprintf(a.Err, "%s: %s already exists!\n", title, name)
	if want != nil && *want != has {
		fmt.Fprintf(a.Err, "%s already has %s: %d, while: %d was requested! Old %s will be retained!\n", name, what, has, *want, what)
	}
	return true, nil
}

// AddGroups creates groups that are not there.
func (a Accounts) AddGroups(ctx context.Context, path string) error {
	all, err := checked(path, account.ReadGroups)
	if err != nil {
		return err
	}
	for _, g := range all {
		exists, err := a.there(ctx, account.KindGroup, "Group", "gid", g.Name, g.GID)
		if err == nil && !exists {
			err = a.System.AddGroup(ctx, g)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddUsers creates users that are not there.
func (a Accounts) AddUsers(ctx context.Context, path string) error {
	all, err := checked(path, account.ReadUsers)
	if err != nil {
		return err
	}
	for _, u := range all {
		if err := a.addUser(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

func (a Accounts) addUser(ctx context.Context, u account.User) error {
	if u.CreateHomeOnly {
		if !u.CreateHome {
			return nil
		}
		return os.MkdirAll(u.Home, 0o755)
	}
	exists, err := a.there(ctx, account.KindUser, "User", "uid", u.Name, u.UID)
	if err != nil || exists {
		return err
	}
	u.Home = cmp.Or(u.Home, "/dev/null")
	if err := a.System.AddUser(ctx, u); err != nil {
		return errors.Join(err, a.System.Remove(context.WithoutCancel(ctx), account.KindUser, u.Name))
	}
	return nil
}

// DeleteUsers deletes users that are there.
func (a Accounts) DeleteUsers(ctx context.Context, path string) error {
	all, err := checked(path, account.ReadUsers)
	if err != nil {
		return err
	}
	for _, u := range all {
		if u.CreateHomeOnly {
			continue
		}
		if err := a.System.Remove(ctx, account.KindUser, u.Name); err != nil {
			return err
		}
	}
	return nil
}

// DeleteGroups deletes groups that are there.
func (a Accounts) DeleteGroups(ctx context.Context, path string) error {
	all, err := checked(path, account.ReadGroups)
	if err != nil {
		return err
	}
	for _, g := range all {
		if err := a.System.Remove(ctx, account.KindGroup, g.Name); err != nil {
			return err
		}
	}
	return nil
}
