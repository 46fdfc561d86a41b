package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"orrery/state"
)

// groupFile says that a group is being saved, so that what a crash leaves of it is concluded or dropped. It is in the
// folder groups under the group's name.
type groupFile struct {
	Version int         `json:"version"`
	Members []state.Ref `json:"members"`
}

func (k *Keeper) groups() string { return filepath.Join(k.config.Directory, "groups") }

func (k *Keeper) groupFile(group string) string { return filepath.Join(k.groups(), group+".json") }

func (k *Keeper) beginGroup(group string, refs []state.Ref) error {
	if err := os.MkdirAll(k.groups(), 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(groupFile{Version: 1, Members: refs})
	if err != nil {
		return err
	}
	if err := replaceFile(k.groupFile(group), append(b, '\n')); err != nil {
		return fmt.Errorf("cannot record a group: %w", err)
	}
	return nil
}

// endGroup forgets a group that is settled.
func (k *Keeper) endGroup(group string) error {
	if err := os.Remove(k.groupFile(group)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// settleGroup concludes or drops what there is of a group, whose members are locked.
func (k *Keeper) settleGroup(ctx context.Context, group string, refs []state.Ref) ([]state.Generation, error) {
	all, err := k.config.Store.Settle(ctx, group, refs)
	if err != nil {
		return nil, err
	}
	return all, k.endGroup(group)
}

// sweepGroups settles the groups that nobody works on any more.
func (k *Keeper) sweepGroups(ctx context.Context) error {
	files, err := readFolder(k.groups())
	if err != nil {
		return err
	}
	var failed []error
	for _, f := range files {
		if group, ok := strings.CutSuffix(f.Name(), ".json"); ok {
			failed = append(failed, k.sweepGroup(ctx, group))
		}
	}
	return errors.Join(failed...)
}

func (k *Keeper) sweepGroup(ctx context.Context, group string) error {
	refs, err := k.readGroup(group)
	if err != nil || refs == nil {
		return err
	}
	for _, r := range refs {
		unlock, ok := k.locks.tryNow(r)
		if !ok {
			return nil // somebody works on it
		}
		defer unlock()
	}
	if refs, err = k.readGroup(group); err != nil || refs == nil {
		return err // it may have ended before it was locked
	}
	all, err := k.settleGroup(ctx, group, refs)
	if err == nil {
		k.log.InfoContext(ctx, "a group of snapshots that was interrupted is settled", "group", group, "generations", len(all))
	}
	return err
}

// readGroup returns a group's members; nil if it ended.
func (k *Keeper) readGroup(group string) ([]state.Ref, error) {
	b, err := os.ReadFile(k.groupFile(group))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var f groupFile
	if err := json.Unmarshal(b, &f); err != nil || f.Version != 1 {
		return nil, fmt.Errorf("%s: %w: not a group of version 1", k.groupFile(group), state.ErrCorrupt)
	}
	return f.Members, nil
}
