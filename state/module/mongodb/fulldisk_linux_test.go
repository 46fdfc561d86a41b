package mongodb

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// noise are documents that take room however they are kept.
func noise(n int) []any {
	r := rand.NewChaCha8([32]byte{})
	all := make([]any, n)
	for i := range all {
		data := make([]byte, 10_000)
		_, _ = r.Read(data)
		all[i] = bson.D{{Key: "_id", Value: i}, {Key: "data", Value: data}}
	}
	return all
}

// Where this machine has no room for what is sorted, exported or imported, that fails and nothing of it stays.
func TestFullDisk(t *testing.T) {
	m, target := New(), filled(t, "full")
	d := connect(t, target)
	insert(t, d, "noise", noise(20)...)
	content := snapshot(t, target)
	var plain bytes.Buffer
	if err := m.Export(t.Context(), bytes.NewReader(content), &plain); err != nil {
		t.Fatal(err)
	}
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "64k")
	d.folder, d.memory = disk, 1
	v, err := d.newView(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := newWriter(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.describeAs(t.Context(), "noise", "noise")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.write(out, p, sum{}, false); !errors.Is(err, unix.ENOSPC) { // as if the server had another order
		t.Errorf("sort: %v", err)
	}
	t.Setenv("TMPDIR", disk)
	if err := m.Export(t.Context(), bytes.NewReader(content), io.Discard); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("export: %v", err)
	}
	if err := m.Import(t.Context(), bytes.NewReader(plain.Bytes()), io.Discard); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("import: %v", err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// Where the server has no room for a restore, that fails, the state is what it was, and once there is room it works.
func TestFullServer(t *testing.T) {
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "8m")
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	port, _ := testenv.MongoDBIn(t, disk)
	m, target := New(), targetAt(t, port, "full")
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	larger := filled(t, "larger")
	insert(t, connect(t, larger), "noise", noise(300)...)
	content := snapshot(t, larger)
	change(t, target, 1)
	before := snapshot(t, target)
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("3 MB were restored into 2: %v", err)
	}
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("a restore without room changed the state")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	restore(t, target, content)
	if !bytes.Equal(snapshot(t, target), content) || strings.Contains(collections(t, target), sidePrefix) {
		t.Error("with room another state was restored, or something stayed")
	}
}
