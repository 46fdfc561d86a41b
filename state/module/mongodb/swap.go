package mongodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// journal is the collection that has one document while parts are being moved: the move.
const journal = sidePrefix + "journal"

// move is what has to be moved so that new parts take the place of old ones.
type move struct {
	ID       string     `bson:"_id"`
	Steps    []step     `bson:"steps"`
	OldViews []bson.Raw `bson:"oldViews"` // definitions
	Views    []bson.Raw `bson:"views"`
}

// step concerns the collection of a name: the old one goes aside, the new one comes in.
type step struct {
	Name string `bson:"name"`
	Old  string `bson:"old,omitempty"` // where the old one is kept meanwhile; empty if there was none
	New  string `bson:"new,omitempty"` // where the new one was prepared; empty if there is none
}

// replace has load fill a loader and puts what it loaded in the place of all parts, or of the one part that is named.
// Until the journal is written, a context that ends has it undone. The move after that is not broken off: it takes moments,
// and a command that is given up may still be carried out.
func (d *database) replace(ctx context.Context, only string, load func(*loader) error) error {
	if err := d.recover(ctx); err != nil {
		return err
	}
	l := &loader{d: d, ctx: ctx, only: only}
	err := load(l)
	if err == nil {
		err = d.complete(ctx, &l.move, only)
	}
	if err == nil {
		err = ctx.Err()
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTimeout)
	defer cancel()
	if err != nil {
		return unfinished(err, d.sweep(late))
	}
	if _, err = d.db.Collection(journal).InsertOne(late, l.move); err != nil {
		return unfinished(err, d.recover(late))
	}
	if err = d.forward(late, l.move); err == nil {
		return nil
	}
	late, cancel = context.WithTimeout(context.WithoutCancel(ctx), moveTimeout)
	defer cancel()
	switch m, failed := d.begun(late); {
	case failed != nil:
		return unfinished(err, failed)
	case m == nil: // all is moved; what is left of the old parts is garbage that the next operation removes
		return nil
	default:
		return unfinished(err, d.backward(late, *m))
	}
}

// unfinished adds to an error that what was begun could not be undone.
func unfinished(err, undone error) error {
	if undone == nil {
		return err
	}
	return fmt.Errorf("%w; and what was begun cannot be undone now (the next operation will): %w", err, undone)
}

// complete adds the old parts to a move.
func (d *database) complete(ctx context.Context, m *move, only string) error {
	m.ID = "move"
	parts, _, err := d.inventory(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		switch {
		case only != "" && p.name != only:
		case p.view:
			m.OldViews = append(m.OldViews, p.definition)
		default:
			i := slices.IndexFunc(m.Steps, func(s step) bool { return s.Name == p.name })
			if i < 0 {
				i = len(m.Steps)
				m.Steps = append(m.Steps, step{Name: p.name})
			}
			m.Steps[i].Old = oldName(i)
		}
	}
	return nil
}

// recover undoes a move that was interrupted, and removes what no move refers to.
func (d *database) recover(ctx context.Context) error {
	side, err := d.settle(ctx)
	if err != nil || !side {
		return err
	}
	return d.sweep(ctx)
}

// recoverToRead is recover for who only reads: what no move refers to is nothing to it, and a server whose disk is full may
// not be able to remove it.
func (d *database) recoverToRead(ctx context.Context) error {
	side, err := d.settle(ctx)
	if err == nil && side {
		_ = d.sweep(ctx)
		err = ctx.Err()
	}
	return err
}

// settle undoes a move that was interrupted, or says whether there is something that no move refers to.
func (d *database) settle(ctx context.Context) (side bool, err error) {
	_, names, err := d.inventory(ctx)
	if err != nil || len(names) == 0 {
		return false, err
	}
	m, err := d.begun(ctx)
	if err != nil || m == nil {
		return true, err
	}
	return false, d.backward(ctx, *m)
}

// begun is the move that the journal has; nil if there is none.
func (d *database) begun(ctx context.Context) (*move, error) {
	var m move
	err := d.db.Collection(journal).FindOne(ctx, bson.D{{Key: "_id", Value: "move"}}).Decode(&m)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil //nolint:nilnil // as it says
	}
	return &m, err
}

// there is a set of the collections' and views' names.
func (d *database) there(ctx context.Context) (map[string]bool, error) {
	names, err := d.db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set, nil
}

// forward moves the old parts aside and the new ones in.
func (d *database) forward(ctx context.Context, m move) error {
	if err := d.dropViews(ctx, m.OldViews); err != nil {
		return err
	}
	for _, s := range m.Steps {
		if s.Old != "" {
			if err := d.moveAside(ctx, s.Name, s.Old); err != nil {
				return fmt.Errorf("cannot put collection %q aside: %w", s.Name, err)
			}
		}
		if s.New != "" {
			if err := d.moveIn(ctx, s.New, s.Name); err != nil {
				return err
			}
		}
	}
	if err := d.createViews(ctx, m.Views); err != nil {
		return err
	}
	return d.finish(ctx)
}

// backward moves the old parts in again, however far forward or an earlier way back has come.
func (d *database) backward(ctx context.Context, m move) error {
	if err := d.dropViews(ctx, m.Views); err != nil {
		return err
	}
	is, err := d.there(ctx)
	if err != nil {
		return err
	}
	for _, s := range m.Steps {
		if s.Old == "" {
			err = d.db.Collection(s.Name).Drop(ctx)
		} else if is[s.Old] {
			err = d.moveIn(ctx, s.Old, s.Name)
		}
		if err != nil {
			return err
		}
	}
	if err := d.createViews(ctx, m.OldViews); err != nil {
		return err
	}
	return d.finish(ctx)
}

// cannotRename says whether the server refuses a name to be renamed: FerretDB 1 does where there is a point in it.
func cannotRename(err error) bool {
	const invalidNamespace = 73
	refused, ok := errors.AsType[mongo.CommandError](err)
	return ok && refused.Code == invalidNamespace
}

// moveAside renames a collection; or it copies it, whole before anything sees the copy, and drops it.
func (d *database) moveAside(ctx context.Context, name, old string) error {
	err := d.rename(ctx, name, old)
	if !cannotRename(err) {
		return err
	}
	const copied = sidePrefix + "copy"
	if err := d.copy(ctx, name, copied, name); err != nil {
		return err
	}
	if err := d.rename(ctx, copied, old); err != nil {
		return err
	}
	return d.db.Collection(name).Drop(ctx)
}

// copy makes a collection like another. As is what it is called for the user.
func (d *database) copy(ctx context.Context, from, to, as string) error {
	if err := d.db.Collection(to).Drop(ctx); err != nil {
		return err
	}
	p, err := d.describeAs(ctx, from, as)
	if err != nil {
		return err
	}
	l := &loader{d: d, ctx: ctx}
	if err := l.begin(p, to); err != nil {
		return err
	}
	p.name = from
	if err := d.scan(ctx, p, false, func(doc bson.Raw) error { return l.document(doc) }); err != nil {
		return err
	}
	return l.closeCollection()
}

// moveIn gives a collection its name. A client that writes makes a collection of that name in the moment in which there is
// none; its writes are to the state that is being replaced.
func (d *database) moveIn(ctx context.Context, from, to string) error {
	const attempts, namespaceExists = 100, 48
	for i := range attempts {
		err := d.rename(ctx, from, to)
		if cannotRename(err) {
			if err = d.copy(ctx, from, to, to); err == nil {
				err = d.db.Collection(from).Drop(ctx)
			}
		}
		if refused, ok := errors.AsType[mongo.CommandError](err); !ok || refused.Code != namespaceExists || i == attempts-1 {
			if err != nil {
				return fmt.Errorf("cannot move collection %q in: %w", to, err)
			}
			return nil
		}
		if err := d.db.Collection(to).Drop(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) dropViews(ctx context.Context, views []bson.Raw) error {
	parts, _, err := d.inventory(ctx)
	if err != nil {
		return err
	}
	for _, definition := range views {
		v, err := parsePart(definition, true)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(parts, func(p part) bool { return p.view && p.name == v.name }) {
			if err := d.db.Collection(v.name).Drop(ctx); err != nil {
				return fmt.Errorf("cannot drop view %q: %w", v.name, err)
			}
		}
	}
	return nil
}

func (d *database) createViews(ctx context.Context, views []bson.Raw) error {
	if err := d.dropViews(ctx, views); err != nil { // of an attempt before
		return err
	}
	for _, definition := range views {
		v, err := parsePart(definition, true)
		if err != nil {
			return err
		}
		if err := d.create(ctx, v, v.name); err != nil {
			return fmt.Errorf("cannot make view %q: %w", v.name, err)
		}
	}
	return nil
}

// finish ends a move: without the journal, what is beside is garbage.
func (d *database) finish(ctx context.Context) error {
	if err := d.db.Collection(journal).Drop(ctx); err != nil {
		return err
	}
	return d.sweep(ctx)
}

func (d *database) sweep(ctx context.Context) error {
	is, err := d.there(ctx)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(is) {
		if strings.HasPrefix(name, sidePrefix) {
			if err := d.db.Collection(name).Drop(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
