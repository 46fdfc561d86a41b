package account

import (
	"context"
	"encoding/json"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Profile is the fields of a user's profile, as JSON.
func (a *Accounts) Profile(ctx context.Context, id string) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}
	err := a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		if _, err := user(tx, id); err != nil {
			return err
		}
		for f, err := range store.ProfileFields.Scan(tx, table.Range{Prefix: []any{id}}) {
			if err != nil {
				return err
			}
			fields[f.Name] = f.Value
		}
		return nil
	})
	return fields, err
}

// SetProfile sets a field of a user's profile; nil removes it.
func (a *Accounts) SetProfile(ctx context.Context, id, name string, value json.RawMessage) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if _, err := user(tx, id); err != nil {
			return err
		}
		if value == nil {
			return store.ProfileFields.Delete(tx, id, name)
		}
		return store.ProfileFields.Put(tx, store.ProfileField{User: id, Name: name, Value: value})
	})
}
