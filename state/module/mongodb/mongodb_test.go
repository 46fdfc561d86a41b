package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

var names atomic.Int64

// newTarget makes a component on FerretDB.
func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	return targetAt(t, testenv.MongoDB(t), name)
}

func targetAt(t *testing.T, port int, name string) state.Target {
	t.Helper()
	target := state.Target{
		Component: state.Component{Name: name, Module: Name, Container: "mongodb", Properties: state.Properties{"database": fmt.Sprintf("d%d-%.40s", names.Add(1), databaseName(name))}},
		Container: state.Container{Name: "mongodb", Module: Name, Directory: t.TempDir(), Properties: state.Properties{"port": port}},
		Directory: t.TempDir(),
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(target.Directory); err != nil || len(left) > 2 {
			t.Errorf("left in the component's folder: %v, %v", left, err)
		}
	})
	return target
}

// connect returns the target's database, as a client of its own.
func connect(t *testing.T, target state.Target) *database {
	t.Helper()
	d, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.close(context.WithoutCancel(t.Context())) })
	return d
}

func insert(t *testing.T, d *database, collection string, documents ...any) {
	t.Helper()
	if _, err := d.db.Collection(collection).InsertMany(t.Context(), documents); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, d *database, command bson.D) {
	t.Helper()
	if err := d.command(t.Context(), command); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New().Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(t *testing.T, target state.Target, content []byte) {
	t.Helper()
	if err := New().Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

// digest reads all by its own commands.
func digest(t *testing.T, target state.Target) string {
	t.Helper()
	d := connect(t, target)
	var b strings.Builder
	collections, err := d.db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for _, name := range collections {
		set[name] = true
	}
	for _, name := range sortedKeys(set) {
		var indexes []bson.Raw
		cursor, err := d.db.Collection(name).Indexes().List(t.Context())
		if err == nil {
			err = cursor.All(t.Context(), &indexes)
		}
		if err != nil {
			t.Fatal(err)
		}
		var documents []bson.Raw
		cursor, err = d.db.Collection(name).Find(t.Context(), bson.D{})
		if err == nil {
			err = cursor.All(t.Context(), &documents)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, name, len(documents), indexes, documents)
	}
	return b.String()
}

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	d := connect(t, target)
	k := names.Add(1)
	insert(t, d, "orders", bson.D{{Key: "_id", Value: k}, {Key: "n", Value: n}, {Key: "text", Value: "value\x00'\"$"}})
	if _, err := d.db.Collection("orders").UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "counter"}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: n}}}}); err != nil {
		t.Fatal(err)
	}
	insert(t, d, fmt.Sprint("collection ", n), bson.D{{Key: "_id", Value: bson.NewObjectID()}})
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: newTarget, Digest: digest, Change: change,
		Bad: []state.Properties{{"database": "a b"}, {"database": "a.b"}, {"database": "admin"}, {"database": strings.Repeat("x", 64)}, {"database": 1}, {"documents": "relative"}},
	})
}

func password(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPassword(t *testing.T) {
	const secret = "sesame's \"secret\"/@:%"
	port, _ := testenv.MongoDBWith(t, "keeper", secret)
	m, target := New(), targetAt(t, port, "secret")
	if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "authentication") {
		t.Errorf("without a user: %v", err)
	}
	with := func(file string) state.Target {
		target.Container.Properties = state.Properties{"port": port, "user": "keeper", "passwordFile": file}
		return target
	}
	if err := m.Activate(t.Context(), with(password(t, "hush-hush"))); err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), `refuses user "keeper"`) {
		t.Errorf("with a wrong password: %v", err)
	}
	target = with(password(t, secret))
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	change(t, target, 1)
	restore(t, target, snapshot(t, target))
	exports, err := m.Exports(target)
	if err != nil || strings.Contains(fmt.Sprint(exports), "sesame") {
		t.Errorf("%v, %v", exports, err)
	}
}

func TestMissingServer(t *testing.T) {
	target := targetAt(t, testenv.FreePort(t), "missing")
	m := New()
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrUnreachable) {
		t.Error(err)
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Error(err)
	}
	if err := m.Restore(t.Context(), target, strings.NewReader(magic)); !errors.Is(err, state.ErrUnreachable) {
		t.Error(err)
	}
}

// Collections with odd names, options and indexes come back as they were, and what was made since is gone.
func TestOddNames(t *testing.T) {
	target := newTarget(t, "odd.names@blue")
	d := connect(t, target)
	odd := []string{"a b", "ü'`;", // no ": FerretDB makes broken SQL of it
		"x.y.z", "-rf", "%s/..\\", "new\nline", "orrery-side", "end"}
	for i, name := range odd {
		insert(t, d, name, bson.D{{Key: "_id", Value: i}, {Key: "na'me", Value: name}})
		do(t, d, bson.D{{Key: "createIndexes", Value: name}, {Key: "indexes", Value: bson.A{
			bson.D{{Key: "key", Value: bson.D{{Key: "na'me", Value: -1}, {Key: "b", Value: 1}}}, {Key: "name", Value: "z 'index'"}, {Key: "unique", Value: true}},
			bson.D{{Key: "key", Value: bson.D{{Key: "c", Value: 1}}}, {Key: "name", Value: "a"}},
		}}})
	}
	do(t, d, bson.D{{Key: "create", Value: "log"}, {Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}})
	insert(t, d, "log", bson.D{{Key: "_id", Value: 3}}, bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}})
	do(t, d, bson.D{{Key: "create", Value: "empty"}})
	before, content := digest(t, target), snapshot(t, target)
	for _, name := range odd[:3] {
		if err := d.db.Collection(name).Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, d, "other", bson.D{{Key: "x", Value: 1}})
	insert(t, d, "empty", bson.D{{Key: "x", Value: 1}})
	restore(t, target, content)
	if after := digest(t, target); after != before || !bytes.Equal(snapshot(t, target), content) {
		t.Errorf("restored\n%s\nwas\n%s", after, before)
	}
}
