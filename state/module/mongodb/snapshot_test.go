package mongodb

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"orrery/state"
)

func raw(tb testing.TB, doc bson.D) bson.Raw {
	tb.Helper()
	b, err := bson.Marshal(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func decimal(tb testing.TB, text string) bson.Decimal128 {
	tb.Helper()
	d, err := bson.ParseDecimal128(text)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// ordered are ids of all types in MongoDB's order, as its manual has it.
func ordered(tb testing.TB) []any {
	tb.Helper()
	return []any{
		bson.MinKey{},
		nil, math.NaN(), math.Inf(-1), int64(math.MinInt64), -1.5, int32(-1), decimal(tb, "-0.1"), 0.0, decimal(tb, "0.1"), 0.1, int32(1), int64(2), decimal(tb, "2.5"),
		float64(1 << 53), int64(1<<53 + 1), float64(math.MaxInt64), decimal(tb, "1E400"), math.Inf(1),
		"", "A", "a", "a\x00b", "ab", "ü",
		bson.D{},
		bson.D{{Key: "a", Value: 1}},
		bson.D{{Key: "a", Value: 1}, {Key: "b", Value: 1}},
		bson.D{{Key: "a", Value: 2}},
		bson.D{{Key: "b", Value: 0}},
		bson.D{{Key: "a", Value: "x"}},
		bson.D{{Key: "a", Value: bson.A{1, 2}}},
		bson.Binary{Data: []byte{}},
		bson.Binary{Data: []byte{2}},
		bson.Binary{Subtype: 4, Data: []byte{1}},
		bson.Binary{Data: []byte{0, 0}},
		bson.ObjectID{1},
		bson.ObjectID{1, 2},
		false, true, bson.DateTime(-1), bson.DateTime(1),
		bson.Timestamp{T: 1, I: 2},
		bson.Timestamp{T: 2, I: 1},
		bson.JavaScript("x"),
		bson.MaxKey{},
	}
}

func TestOrder(t *testing.T) {
	var all []bson.Raw
	for _, id := range ordered(t) {
		doc := raw(t, bson.D{{Key: "_id", Value: id}})
		if err := check(doc); err != nil {
			t.Fatal(err)
		}
		all = append(all, doc)
	}
	for i := range all {
		for j := range all {
			got := before(all[i], all[j])
			if got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%v and %v: %d", all[i], all[j], got)
			}
		}
	}
}

// sample is a snapshot that no server wrote, with a view.
func sample(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := newWriter(&b)
	if err != nil {
		tb.Fatal(err)
	}
	ok := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	users, err := newPart("users", false, raw(tb, bson.D{{Key: "validator", Value: bson.D{{Key: "z", Value: 1}, {Key: "a", Value: 1}}}, {Key: "collation", Value: bson.D{{Key: "locale", Value: "de"}}}}),
		[]bson.Raw{raw(tb, bson.D{{Key: "v", Value: 2}, {Key: "unique", Value: true}, {Key: "key", Value: bson.D{{Key: "b", Value: 1}}}, {Key: "name", Value: "b_1"}}), raw(tb, bson.D{{Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "_id_"}})})
	ok(err)
	ok(w.part(users))
	for _, id := range ordered(tb) {
		ok(w.document(raw(tb, bson.D{{Key: "_id", Value: id}, {Key: "x", Value: bson.A{bson.D{{Key: "y", Value: nil}}}}})))
	}
	ok(w.closeCollection())
	named, err := newPart("named", true, raw(tb, bson.D{{Key: "viewOn", Value: "users"}, {Key: "pipeline", Value: bson.A{}}}), nil)
	ok(err)
	ok(w.part(named))
	ok(w.end())
	return b.Bytes()
}

type nothing struct{}

func (nothing) part(part) error        { return nil }
func (nothing) document([]byte) error  { return nil }
func (nothing) closeCollection() error { return nil }

func TestHostile(t *testing.T) {
	good := sample(t)
	if err := read(bytes.NewReader(good), nothing{}); err != nil {
		t.Fatal(err)
	}
	for at := range good {
		if err := read(bytes.NewReader(good[:at]), nothing{}); !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", at, err)
		}
	}
	if err := read(bytes.NewReader(append(bytes.Clone(good), 0)), nothing{}); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	deep := []byte{5, 0, 0, 0, 0}
	for range 100_000 {
		next := bsoncore.AppendDocumentElement(nil, "_id", deep)
		if len(next) > 20_000 {
			break
		}
		deep = bsoncore.BuildDocument(nil, next)
	}
	if err := check(deep); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("deep: %v", err)
	}
	for _, options := range []bson.D{{{Key: "create", Value: "x"}}, {{Key: "$db", Value: "admin"}}, {{Key: "viewOn", Value: "x"}}, {{Key: "timeseries", Value: bson.D{}}}} {
		if _, err := newPart("x", false, raw(t, options), nil); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%v: %v", options, err)
		}
	}
	for _, name := range []string{"", "system.users", sidePrefix + "journal", "a$b", "a\x00b", ".a", "\xff"} {
		if validCollection(name) {
			t.Errorf("%q is a collection", name)
		}
	}
}

// FuzzSnapshot reads what claims to be a snapshot; what is one is written as it was.
func FuzzSnapshot(f *testing.F) {
	f.Add(sample(f))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, content []byte) {
		var again bytes.Buffer
		w, err := newWriter(&again)
		if err != nil {
			t.Fatal(err)
		}
		if read(bytes.NewReader(content), w) != nil {
			return
		}
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), content) {
			t.Errorf("read %q, wrote %q", content, again.Bytes())
		}
		if err := New().Export(t.Context(), bytes.NewReader(content), io.Discard); err != nil {
			t.Error(err)
		}
	})
}

// FuzzPortable reads tar files from elsewhere; what is made of them is a snapshot.
func FuzzPortable(f *testing.F) {
	var b bytes.Buffer
	if err := New().Export(f.Context(), bytes.NewReader(sample(f)), &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		var made bytes.Buffer
		if New().Import(t.Context(), bytes.NewReader(content), &made) != nil {
			return
		}
		if err := read(&made, nothing{}); err != nil {
			t.Error(err)
		}
	})
}
