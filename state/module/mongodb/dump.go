package mongodb

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// errChanged says that the database was not the same from the beginning to the end.
var errChanged = errors.New("it changed while it was read (repeat, or stop its clients; a server that is a replica set is read as of one point in time)")

// sum stands for a set of documents, whatever their order.
type sum struct {
	count int64
	words [4]uint64
}

func (s *sum) add(doc []byte) {
	h := sha256.Sum256(doc)
	s.count++
	for i := range s.words {
		s.words[i] += binary.BigEndian.Uint64(h[8*i:])
	}
}

// snapshots says whether the server can read several collections as of one point in time: a replica set or cluster of
// version 5 or newer.
func (d *database) snapshots(ctx context.Context) (bool, error) {
	var hello struct {
		SetName string `bson:"setName"`
		Message string `bson:"msg"`
		Wire    int    `bson:"maxWireVersion"`
	}
	err := d.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello)
	const version5 = 13
	return (hello.SetName != "" || hello.Message == "isdbgrid") && hello.Wire >= version5, err
}

// view is how a database is read for one snapshot.
type view struct {
	d       *database
	ctx     context.Context //nolint:containedctx // carries the session, and lives as long as one snapshot
	plain   context.Context //nolint:containedctx // without the session
	session *mongo.Session  // nil where the server has no snapshots
}

func (d *database) newView(ctx context.Context) (*view, error) {
	able, err := d.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{d: d, ctx: ctx, plain: ctx}
	if able {
		if v.session, err = d.client.StartSession(options.Session().SetSnapshot(true)); err != nil {
			return nil, err
		}
		v.ctx = mongo.NewSessionContext(ctx, v.session)
	}
	return v, nil
}

func (v *view) close() {
	if v.session != nil {
		v.session.EndSession(context.WithoutCancel(v.plain))
	}
}

// fixed says whether all reads of a part are of one point in time. Capped collections have no such reads.
func (v *view) fixed(p part) bool { return v.session != nil && !p.capped }

func (v *view) scan(p part, ids bool, visit func(bson.Raw) error) error {
	ctx := v.plain
	if v.fixed(p) {
		ctx = v.ctx
	}
	return v.d.scan(ctx, p, ids, visit)
}

// look reads a part once, before the snapshot of it is written: what it holds, where the server cannot hold it still, and
// whether it comes in the order that a snapshot has.
func (v *view) look(p part) (s sum, sorted bool, err error) {
	sorted = true
	var last bsoncore.Value
	var kept []byte
	err = v.scan(p, v.fixed(p), func(doc bson.Raw) error {
		if err := check(doc); err != nil {
			return err
		}
		id, err := identity(doc)
		if err != nil {
			return err
		}
		if s.count > 0 && !p.capped && compare(last, id) >= 0 {
			sorted = false
		}
		kept = append(kept[:0], id.Data...)
		last = bsoncore.Value{Type: id.Type, Data: kept}
		s.add(doc)
		return nil
	})
	return s, sorted, err
}

// dump writes a snapshot. Where the server cannot read as of one point in time, all is read twice, one after the other:
// what is the same in both was so between them.
func (d *database) dump(ctx context.Context, w io.Writer) error {
	v, err := d.newView(ctx)
	if err != nil {
		return err
	}
	defer v.close()
	parts, _, err := d.inventory(ctx)
	if err != nil {
		return err
	}
	sums, sorted := make([]sum, len(parts)), make([]bool, len(parts))
	for i, p := range parts {
		if !p.view {
			if sums[i], sorted[i], err = v.look(p); err != nil {
				return err
			}
		}
	}
	out, err := newWriter(w)
	if err != nil {
		return err
	}
	for i, p := range parts {
		if err := v.write(out, p, sums[i], sorted[i]); err != nil {
			return err
		}
	}
	after, _, err := d.inventory(ctx)
	if err != nil {
		return err
	}
	if !equal(parts, after) {
		return errChanged
	}
	return out.end()
}

func (v *view) write(out *writer, p part, before sum, inOrder bool) error {
	if err := out.part(p); err != nil || p.view {
		return err
	}
	var now sum
	each := func(visit func(doc []byte) error) error {
		return v.scan(p, false, func(doc bson.Raw) error {
			now.add(doc)
			return visit(doc)
		})
	}
	var err error
	if inOrder {
		err = each(out.document)
	} else {
		err = sorted(v.plain, v.d.folder, v.d.memory, each, out.document)
	}
	if err != nil {
		return err
	}
	if now.count != before.count || !v.fixed(p) && now != before {
		return fmt.Errorf("collection %q: %w", p.name, errChanged)
	}
	return out.closeCollection()
}

// pass sends the snapshot that write makes to read, which is waited for.
func pass(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		done <- err
	}()
	err := read(r)
	r.CloseWithError(errStopped)
	if wrote := <-done; wrote != nil && !errors.Is(wrote, errStopped) {
		return wrote
	}
	return err
}

var errStopped = errors.New("the snapshot is not read on")
