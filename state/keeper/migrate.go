package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/state"
)

// MigrationPrefix is what the names of a component's migration files begin with; after it they are NUMBER-NAME.sql.
const MigrationPrefix = "migrations/"

// maxMigration bounds the size of a migration's script, which is read whole, in bytes.
const maxMigration = 64 << 20

var migrationName = regexp.MustCompile(`^([0-9]{1,9})[-_.]`)

func hasMigrations(c state.Component) bool {
	for name := range c.Files {
		if strings.HasPrefix(name, MigrationPrefix) {
			return true
		}
	}
	return false
}

// migrations are those that a component has files of, by number.
func migrations(c state.Component) ([]state.Migration, error) {
	var all []state.Migration
	for name, sum := range c.Files {
		base, ok := strings.CutPrefix(name, MigrationPrefix)
		if !ok {
			continue
		}
		m := migrationName.FindStringSubmatch(base)
		if m == nil {
			return nil, fmt.Errorf("%w: migration %q does not begin with its number, as in 0001-name.sql", state.ErrBadProperty, base)
		}
		number, err := strconv.Atoi(m[1])
		if err != nil || number == 0 {
			return nil, fmt.Errorf("%w: migration %q: numbers begin with 1", state.ErrBadProperty, base)
		}
		all = append(all, state.Migration{Number: number, Name: base, SHA256: sum})
	}
	slices.SortFunc(all, func(a, b state.Migration) int { return a.Number - b.Number })
	for i := 1; i < len(all); i++ {
		if all[i].Number == all[i-1].Number {
			return nil, fmt.Errorf("%w: migrations %s and %s have the same number", state.ErrBadProperty, all[i-1].Name, all[i].Name)
		}
	}
	return all, nil
}

// pending are those of wanted that were not carried out. What was carried out must be the same still, and no new one may
// come before it. That more was carried out than is wanted is no error: the component went back to a version before.
func pending(wanted, applied []state.Migration) ([]state.Migration, error) {
	last := 0
	by := map[int]state.Migration{}
	for _, m := range applied {
		by[m.Number] = m
		last = max(last, m.Number)
	}
	var left []state.Migration
	for _, m := range wanted {
		old, done := by[m.Number]
		switch {
		case done && old.SHA256 != m.SHA256:
			return nil, fmt.Errorf("%w: migration %s was changed after it was carried out, as %s at %s (bring the old file back, and write a new migration)",
				state.ErrBadProperty, m.Name, old.Name, old.Applied.Format("2006-01-02 15:04:05"))
		case done:
		case m.Number < last:
			return nil, fmt.Errorf("%w: migration %s comes before number %d, which was carried out already (give it a higher number)",
				state.ErrBadProperty, m.Name, last)
		default:
			left = append(left, m)
		}
	}
	return left, nil
}

// Migrate carries out a component's migrations; see state.Custodian.
func (k *Keeper) Migrate(ctx context.Context, r state.Ref, dryRun bool) (done []state.Migration, err error) {
	err = k.alter(ctx, "migrate", r, func(rec record) error {
		if rec.Phase != state.PhaseActive {
			return state.ErrInactive
		}
		if err := rec.changeable(); err != nil {
			return err
		}
		done, err = k.migrate(ctx, rec, dryRun)
		return err
	})
	return done, err
}

// migrate does so while the lock is held. Where one fails, the state is that of the snapshot from before.
func (k *Keeper) migrate(ctx context.Context, rec record, dryRun bool) ([]state.Migration, error) {
	module, target, err := k.reach(rec)
	if err != nil {
		return nil, err
	}
	wanted, err := migrations(rec.Component)
	if err != nil {
		return nil, err
	}
	migrator, ok := module.(state.Migrator)
	if !ok {
		return nil, fmt.Errorf("%w migrate a schema: %s", state.ErrNotAble, rec.Component.Module)
	}
	applied, err := migrator.Migrated(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("cannot read which migrations were carried out: %w", err)
	}
	left, err := pending(wanted, applied)
	if err != nil || dryRun || len(left) == 0 {
		return left, err
	}
	if err := k.free(ctx, rec); err != nil {
		return nil, err
	}
	scripts, err := k.scripts(left)
	if err != nil {
		return nil, err
	}
	before, err := k.snapshot(ctx, rec, reasonPreMigration)
	if err != nil {
		return nil, fmt.Errorf("cannot take a snapshot before the migration: %w", err)
	}
	for i, m := range left {
		if err := migrator.Migrate(ctx, target, m, scripts[i]); err != nil {
			err = fmt.Errorf("migration %s: %w", m.Name, err)
			if back := k.backTo(context.WithoutCancel(ctx), rec, before.Snapshot); back != nil {
				return nil, errors.Join(err, fmt.Errorf("the state before could not be brought back: %w (restore generation %d)", back, before.Number))
			}
			return nil, fmt.Errorf("%w (nothing was migrated: the state is that of generation %d)", err, before.Number)
		}
		k.log.InfoContext(ctx, "migrated", "component", rec.ref().String(), "migration", m.Name)
	}
	return left, nil
}

// backTo restores a snapshot unless the state is that already: a module that takes a failed migration back by itself is left
// alone, and its clients with it.
func (k *Keeper) backTo(ctx context.Context, rec record, id state.SnapshotID) error {
	_, _, err := k.compare(ctx, rec, id)
	if err == nil {
		return nil
	}
	k.log.InfoContext(ctx, "the state before a migration is brought back", "component", rec.ref().String(), "snapshot", string(id), "because", err)
	return k.restoreFrom(ctx, rec, id)
}

// scripts reads migrations' files.
func (k *Keeper) scripts(all []state.Migration) ([][]byte, error) {
	scripts := make([][]byte, len(all))
	for i, m := range all {
		path, err := k.artifact(m.SHA256)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", m.Name, err)
		}
		if info, err := os.Stat(path); err != nil {
			return nil, err
		} else if info.Size() > maxMigration {
			return nil, fmt.Errorf("%w: migration %s has %d bytes, at most %d are possible", state.ErrBadProperty, m.Name, info.Size(), maxMigration)
		}
		if scripts[i], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return scripts, nil
}

// unmigrated goes back after an activation whose migrations failed. A component that had no record before stays, out of
// service and with a record that says why: what there is of its state is not the keeper's to delete.
func (k *Keeper) unmigrated(ctx context.Context, rec, old record, existed, deactivated bool, cause error) error {
	if existed && old.Phase == state.PhaseActive && !deactivated {
		return k.save(old)
	}
	rec.Failure = fmt.Sprintf("it was activated and could not be migrated: %v", cause)
	if err := k.deactivate(ctx, rec); err != nil {
		return errors.Join(err, k.save(rec))
	}
	if existed && old.Phase == state.PhaseActive {
		return k.undo(ctx, rec.ref(), old, existed, deactivated)
	}
	if existed && old.Phase != state.PhaseStaged {
		old.Failure = rec.Failure
		return k.save(old)
	}
	rec.Phase, rec.Changed = state.PhaseInactive, time.Now().UTC()
	return k.save(rec)
}
