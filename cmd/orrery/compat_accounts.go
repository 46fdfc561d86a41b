package main

import (
	"context"

	"orrery/state/dysnomia"
)

const accountsUsage = "DIR\nFILE"

func (c *compat) onAccounts(ctx context.Context, do func(dysnomia.Accounts, context.Context, string) error) error {
	if len(c.rest) == 0 {
		return dysnomia.Said("ERROR: The path:  is not valid!")
	}
	return do(dysnomia.NewAccounts(c.stderr), ctx, c.rest[0])
}

func (c *compat) addGroups(ctx context.Context) error {
	return c.onAccounts(ctx, dysnomia.Accounts.AddGroups)
}

func (c *compat) addUsers(ctx context.Context) error {
	return c.onAccounts(ctx, dysnomia.Accounts.AddUsers)
}

func (c *compat) deleteUsers(ctx context.Context) error {
	return c.onAccounts(ctx, dysnomia.Accounts.DeleteUsers)
}

func (c *compat) deleteGroups(ctx context.Context) error {
	return c.onAccounts(ctx, dysnomia.Accounts.DeleteGroups)
}
