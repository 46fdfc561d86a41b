package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrSpeaker says that an account is the one by which the server itself speaks.
var ErrSpeaker = errors.New("is the account of the server itself, by which nobody logs in")

// Speak makes the account by which the server itself speaks, unless it is there, and has it shown by a name and a picture; "" is none. An account that was made
// for anybody else is not taken.
func (a *Accounts) Speak(ctx context.Context, localpart, name, avatar string) error {
	id := a.Full(localpart)
	if err := a.ValidName(localpart); err != nil {
		return err
	}
	if err := a.reserved(localpart); err != nil {
		return err
	}
	shown, err := json.Marshal(name)
	if err != nil {
		return err
	}
	picture, err := json.Marshal(avatar)
	if err != nil {
		return err
	}
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		there, err := store.Users.Has(tx, id)
		if err != nil {
			return err
		}
		own, err := store.Speakers.Has(tx, id)
		switch {
		case err != nil:
			return err
		case there && !own:
			return fmt.Errorf("%s is somebody's account (choose another name)", id)
		case !there:
			err = errors.Join(store.Users.Put(tx, store.User{ID: id, Created: a.now()}), store.Speakers.Put(tx, store.Speaker{User: id}))
		}
		err = errors.Join(err, store.ProfileFields.Put(tx, store.ProfileField{User: id, Name: "displayname", Value: shown}))
		if avatar == "" {
			return errors.Join(err, store.ProfileFields.Delete(tx, id, "avatar_url"))
		}
		return errors.Join(err, store.ProfileFields.Put(tx, store.ProfileField{User: id, Name: "avatar_url", Value: picture}))
	})
}

// lets is nil unless a user is the server itself.
func (a *Accounts) lets(id string) error {
	if a.c.Speaker != "" && id == a.c.Speaker {
		return fmt.Errorf("%s %w", id, ErrSpeaker)
	}
	return nil
}
