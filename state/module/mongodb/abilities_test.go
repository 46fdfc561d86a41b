package mongodb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/internal/testenv"
	"orrery/state"
)

// filled is an active component with a few collections.
func filled(t *testing.T, name string) state.Target {
	t.Helper()
	target := newTarget(t, name)
	if err := New().Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	d := connect(t, target)
	insert(t, d, "users", bson.D{{Key: "_id", Value: "b"}}, bson.D{{Key: "_id", Value: "a"}, {Key: "mail", Value: "a@b"}}, bson.D{{Key: "_id", Value: 1}})
	do(t, d, bson.D{{Key: "createIndexes", Value: "users"}, {Key: "indexes", Value: bson.A{
		bson.D{{Key: "key", Value: bson.D{{Key: "mail", Value: 1}}}, {Key: "name", Value: "mail_1"}},
	}}})
	insert(t, d, "fs.chunks/ü", bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "data", Value: bytes.Repeat([]byte{0, 1}, 500)}})
	do(t, d, bson.D{{Key: "create", Value: "log"}, {Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}})
	insert(t, d, "log", bson.D{{Key: "_id", Value: 2}}, bson.D{{Key: "_id", Value: 1}})
	return target
}

func TestAbilities(t *testing.T) {
	m, target := New(), filled(t, "abilities")
	if v, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(v, "FerretDB ") {
		t.Errorf("%q, %v", v, err)
	}
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Error(err)
	}
	if size, err := m.Size(t.Context(), target); err != nil || size < 1000 {
		t.Errorf("%d, %v", size, err)
	}
	var got []string
	err := m.Items(t.Context(), bytes.NewReader(snapshot(t, target)), func(i state.Item) error {
		got = append(got, fmt.Sprintf("%s %s %v", i.Part, i.Key, i.Content != nil))
		return nil
	})
	want := []string{"log  false", `log {"$numberInt":"2"} true`, `log {"$numberInt":"1"} true`, "users  false", `users {"$numberInt":"1"} true`, `users "a" true`, `users "b" true`}
	if err != nil || strings.Join(got[2:], "\n") != strings.Join(want, "\n") {
		t.Errorf("%q, %v", got, err)
	}
	beside := m.Beside(target.Component, "other")
	if p, err := decodeComponent(beside); err != nil || p.Database != "other" {
		t.Errorf("%+v, %v", p, err)
	}
}

// The shell gets its URL, with the password, in the environment, and says so where there is none.
func TestShell(t *testing.T) {
	const secret = "sesame's \"secret\""
	target := newTarget(t, "shell")
	target.Container.Properties = state.Properties{"user": "keeper", "passwordFile": password(t, secret)}
	t.Setenv("PATH", t.TempDir())
	if _, err := New().Shell(t.Context(), target, ""); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	program := filepath.Join(os.Getenv("PATH"), "mongosh")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := New().Shell(t.Context(), target, "db.x.drop()")
	if err != nil || c.Path != program || strings.Contains(strings.Join(c.Args, " "), "sesame") || c.Args[len(c.Args)-1] != "db.x.drop()" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRestorePart(t *testing.T) {
	m, target := New(), filled(t, "part")
	content := snapshot(t, target)
	d := connect(t, target)
	insert(t, d, "users", bson.D{{Key: "_id", Value: "c"}})
	insert(t, d, "log", bson.D{{Key: "_id", Value: 3}})
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "users"); err != nil {
		t.Fatal(err)
	}
	count := func(collection string) int64 {
		n, err := d.db.Collection(collection).CountDocuments(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if count("users") != 3 || count("log") != 3 {
		t.Errorf("%d users, %d entries", count("users"), count("log"))
	}
	before := digest(t, target)
	for _, part := range []string{"none", "", "orrery-side-journal"} {
		if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), part); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%q: %v", part, err)
		}
	}
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content[:len(content)-1]), "log"); !errors.Is(err, state.ErrCorrupt) || digest(t, target) != before {
		t.Error(err)
	}
}

func TestPortable(t *testing.T) {
	m, target := New(), filled(t, "portable")
	content := snapshot(t, target)
	var plain, again bytes.Buffer
	if err := m.Export(t.Context(), bytes.NewReader(content), &plain); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(plain.Bytes())
	if err := m.Import(t.Context(), &plain, &again); err != nil || !bytes.Equal(again.Bytes(), content) {
		t.Errorf("imported another snapshot: %v", err)
	}
	for at := 0; at < len(whole); at += 128 { // also between two files
		if err := m.Import(t.Context(), bytes.NewReader(whole[:at]), io.Discard); !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("imported %d of %d bytes: %v", at, len(whole), err)
		}
	}
	for _, bad := range [][]byte{[]byte(strings.Repeat("x", 2000)), bytes.Replace(whole, []byte("log.bson"), []byte("log.gson"), 1)} {
		if err := m.Import(t.Context(), bytes.NewReader(bad), io.Discard); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("imported %.20q: %v", bad, err)
		}
	}
	if err := m.Export(t.Context(), bytes.NewReader(content[:len(content)-1]), &plain); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}

func TestDocuments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "documents")
	write := func(lines ...string) {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, target := New(), newTarget(t, "documents")
	target.Component.Properties["documents"] = file
	write(`{"collection": "users", "index": {"key": {"mail": 1}, "unique": true}}`, `{"collection": "users", "document": {"_id": 1, "mail": "a@b"}}`, `{"collection": "users", "document": {"mail": {}}}`,
		"", `{"collection": "log", "options": {"capped": true, "size": 4096}}`, `{"collection": "broken"`)
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) || !strings.Contains(err.Error(), "line 6") || digest(t, target) != "" {
		t.Errorf("%v, %s", err, digest(t, target))
	}
	write(`{"collection": "users", "index": {"key": {"mail": 1}, "unique": true}}`, `{"collection": "users", "document": {"_id": 1, "mail": "a@b"}}`, `{"collection": "users", "document": {"mail": {}}}`,
		"", `{"collection": "log", "options": {"capped": true, "size": 4096}}`)
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	d := connect(t, target)
	if got := digest(t, target); !strings.Contains(got, "users 2 ") || !strings.Contains(got, "mail_1") || !strings.Contains(got, "log 0 ") {
		t.Error(got)
	}
	empty := newTarget(t, "empty")
	restore(t, target, snapshot(t, empty)) // what was restored as empty is not new
	if err := m.Activate(t.Context(), target); err != nil || digest(t, target) != "" {
		t.Errorf("%v: %s", err, digest(t, target))
	}
	insert(t, d, "mine", bson.D{{Key: "_id", Value: 1}})
	before := digest(t, target)
	if err := m.Activate(t.Context(), target); err != nil || digest(t, target) != before {
		t.Errorf("%v: %s", err, digest(t, target))
	}
}

// Two servers have the same snapshot of the same state.
func TestElsewhere(t *testing.T) {
	target := filled(t, "here")
	content := snapshot(t, target)
	port, _ := testenv.MongoDBWith(t, "", "")
	other := targetAt(t, port, "there")
	restore(t, other, content)
	if !bytes.Equal(snapshot(t, other), content) {
		t.Error("another server has another snapshot of the same state")
	}
}
