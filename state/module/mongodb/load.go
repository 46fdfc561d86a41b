package mongodb

import (
	"bytes"
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	batchDocuments = 1000
	batchBytes     = 4 << 20
)

// loader writes parts into collections of its own beside the component's.
type loader struct {
	d     *database
	ctx   context.Context //nolint:containedctx // of the one operation it is made for
	only  string          // the part to load; empty: all
	move  move            // what will be moved in, so far
	what  part            // that is being loaded
	to    string          // into the collection of this name
	skip  bool
	batch []any
	size  int
	sum   sum
}

func newName(i int) string { return fmt.Sprintf("%snew-%d", sidePrefix, i) }
func oldName(i int) string { return fmt.Sprintf("%sold-%d", sidePrefix, i) }

func (l *loader) part(p part) error {
	if l.skip = l.only != "" && p.name != l.only; l.skip {
		return nil
	}
	if p.view {
		l.move.Views = append(l.move.Views, p.definition)
		return nil
	}
	to := newName(len(l.move.Steps))
	l.move.Steps = append(l.move.Steps, step{Name: p.name, New: to})
	return l.begin(p, to)
}

// begin makes a collection that is loaded next.
func (l *loader) begin(p part, to string) error {
	l.what, l.to, l.sum = p, to, sum{}
	if err := l.d.create(l.ctx, p, to); err != nil {
		return fmt.Errorf("cannot make collection %q: %w", p.name, err)
	}
	return nil
}

// create makes a collection or view with the options that it has in a snapshot.
func (d *database) create(ctx context.Context, p part, name string) error {
	elements, err := p.options().Elements()
	if err != nil {
		return err
	}
	command := bson.D{{Key: "create", Value: name}}
	for _, e := range elements {
		command = append(command, bson.E{Key: e.Key(), Value: e.Value()})
	}
	return d.command(ctx, command)
}

func (l *loader) document(doc []byte) error {
	if l.skip {
		return nil
	}
	l.sum.add(doc)
	l.batch = append(l.batch, bson.Raw(bytes.Clone(doc)))
	if l.size += len(doc); l.size < batchBytes && len(l.batch) < batchDocuments {
		return nil
	}
	return l.flush()
}

func (l *loader) flush() error {
	if len(l.batch) == 0 {
		return nil
	}
	_, err := l.d.db.Collection(l.to).InsertMany(l.ctx, l.batch, options.InsertMany().SetOrdered(true).SetBypassDocumentValidation(true))
	l.batch, l.size = nil, 0
	if err != nil {
		return fmt.Errorf("cannot write documents of %q: %w", l.what.name, err)
	}
	return nil
}

// closeCollection makes the indexes and reads all back.
func (l *loader) closeCollection() error {
	if l.skip {
		return nil
	}
	if err := l.flush(); err != nil {
		return err
	}
	indexes, err := l.what.indexes()
	if err != nil {
		return err
	}
	if len(indexes) > 0 {
		if err := l.d.command(l.ctx, bson.D{{Key: "createIndexes", Value: l.to}, {Key: "indexes", Value: indexes}}); err != nil {
			return fmt.Errorf("cannot make the indexes of %q: %w", l.what.name, err)
		}
	}
	return l.verify()
}

// verify finds that the server did not keep what it was given: it may know less than the one that the snapshot is from.
func (l *loader) verify() error {
	side, err := l.d.describeAs(l.ctx, l.to, l.what.name)
	if err != nil {
		return err
	}
	if !l.what.same(side) {
		return fmt.Errorf("this server does not keep collection %q with the options and indexes that it had", l.what.name)
	}
	side.name = l.to
	var there sum
	err = l.d.scan(l.ctx, side, false, func(doc bson.Raw) error {
		there.add(doc)
		return nil
	})
	if err == nil && there != l.sum {
		err = fmt.Errorf("this server does not keep the documents of collection %q as they were", l.what.name)
	}
	return err
}
