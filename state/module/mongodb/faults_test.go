package mongodb

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/internal/testenv"
	"orrery/state"
)

// reads is a component that is read through a way that can be cut, with a collection of several batches.
func reads(t *testing.T, name string) (target, through state.Target, c *cutter) {
	t.Helper()
	target, c = filled(t, name), newCutter(t, reading)
	var many []any
	for i := range 100 {
		many = append(many, bson.D{{Key: "_id", Value: i}})
	}
	insert(t, connect(t, target), "many", many...)
	through = target
	through.Container.Properties = state.Properties{"port": c.port}
	return target, through, c
}

// A snapshot whose server is lost at any command, or that is cancelled there, is an error and no snapshot.
func TestSnapshotCut(t *testing.T) {
	target, through, c := reads(t, "read-cut")
	before := snapshot(t, target)
	if got := snapshot(t, through); !bytes.Equal(got, before) {
		t.Fatal("another snapshot")
	}
	total := c.total.Load()
	for n := range total {
		ctx, cancel := context.WithCancel(t.Context())
		c.after = cancel
		c.left.Store(n)
		var got bytes.Buffer
		if err := New().Snapshot(ctx, through, &got); !errors.Is(err, context.Canceled) || read(&got, nothing{}) == nil {
			t.Fatalf("cancelled at %d: %v", n, err)
		}
		cancel()
	}
	c.after = nil
	for _, n := range []int64{0, 1, total / 2, total - 1} {
		c.left.Store(n)
		var got bytes.Buffer
		if err := New().Snapshot(t.Context(), through, &got); !errors.Is(err, state.ErrUnreachable) || read(&got, nothing{}) == nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("reading changed the state")
	}
}

// What changes while it is read is said; there is never a snapshot of what never was.
func TestChangedMeanwhile(t *testing.T) {
	target, through, c := reads(t, "changed")
	d := connect(t, target)
	if got := snapshot(t, through); !bytes.Equal(got, snapshot(t, target)) {
		t.Fatal("another snapshot")
	}
	refused := 0
	for n := range c.total.Load() {
		before := snapshot(t, target)
		c.after = sync.OnceFunc(func() {
			insert(t, d, "many", bson.D{{Key: "_id", Value: -n - 1}})
			insert(t, d, "users", bson.D{{Key: "_id", Value: -n - 1}})
		})
		c.left.Store(n)
		var got bytes.Buffer
		err := New().Snapshot(t.Context(), through, &got)
		c.left.Store(always)
		switch {
		case errors.Is(err, errChanged):
			refused++
		case err != nil:
			t.Fatal(err)
		case !bytes.Equal(got.Bytes(), before) && !bytes.Equal(got.Bytes(), snapshot(t, target)):
			t.Fatalf("a change at command %d: the snapshot is of what never was", n)
		}
	}
	if refused == 0 {
		t.Error("no change was noticed")
	}
}

// A server that has ended is said to be unreachable by every operation, and deactivation goes without it.
func TestStoppedServer(t *testing.T) {
	port, alive := testenv.MongoDBWith(t, "", "")
	m, target := New(), targetAt(t, port, "stopped")
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	change(t, target, 1)
	content := snapshot(t, target)
	if err := alive.Close(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the server's end", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	for name, operation := range map[string]func() error{
		"activate":        func() error { return m.Activate(t.Context(), target) },
		"snapshot":        func() error { return m.Snapshot(t.Context(), target, io.Discard) },
		"restore":         func() error { return m.Restore(t.Context(), target, bytes.NewReader(content)) },
		"restore part":    func() error { return m.RestorePart(t.Context(), target, bytes.NewReader(content), "orders") },
		"collect garbage": func() error { return m.CollectGarbage(t.Context(), target) },
		"health":          func() error { return m.Health(t.Context(), target) },
		"exists":          func() error { _, err := m.Exists(t.Context(), target); return err },
		"size":            func() error { _, err := m.Size(t.Context(), target); return err },
		"version":         func() error { _, err := m.Version(t.Context(), target); return err },
		"integrity":       func() error { return m.Integrity(t.Context(), target) },
		"fork":            func() error { _, err := m.Fork(t.Context(), target, newTarget(t, "of-stopped")); return err },
	} {
		if err := operation(); !errors.Is(err, state.ErrUnreachable) || !strings.Contains(err.Error(), "mongodb/stopped") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 2 {
		if err := m.Deactivate(t.Context(), target); err != nil {
			t.Error(err)
		}
	}
}

// tlsWay listens for TLS before the server.
func tlsWay(t *testing.T) (port int, authority string) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{port: l.Addr().(*net.TCPAddr).Port}
	c.run(t, l)
	authority = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c.port, authority
}

func TestTLS(t *testing.T) {
	port, authority := tlsWay(t)
	m, target := New(), targetAt(t, port, "tls")
	nothing := filepath.Join(t.TempDir(), "nothing")
	if err := os.WriteFile(nothing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		properties state.Properties
		want       error
	}{
		{state.Properties{"tls": true}, state.ErrUnreachable}, // nobody knows who signed it
		{state.Properties{"tls": true, "ca": nothing}, state.ErrBadProperty},
		{state.Properties{"tls": true, "ca": nothing + "-at-all"}, os.ErrNotExist},
		{state.Properties{"tls": true, "ca": authority, "host": "localhost"}, state.ErrUnreachable}, // it is of another
		{state.Properties{"tls": true, "ca": authority}, nil},
	} {
		c.properties["port"] = port
		target.Container.Properties = c.properties
		if err := m.Activate(t.Context(), target); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.properties, err)
		}
	}
	change(t, target, 1)
	content := snapshot(t, target)
	restore(t, target, content)
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("another state was restored")
	}
}

// Names that could mean something to a server are refused before any is asked.
func TestHostileNames(t *testing.T) {
	for _, name := range []string{"..", "a/b", `a\b`, "a.b", "a$b", "a\x00b", "a\nb", "admin", "LOCAL", "config", strings.Repeat("ü", 32), "\xff", "x\"y", "*"} {
		c := state.Component{Name: "x", Container: "mongodb", Properties: state.Properties{"database": name}}
		if err := New().Check(c); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("database %q: %v", name, err)
		}
	}
	for _, properties := range []state.Properties{
		{"host": "a/b"},
		{"host": "a@b"},
		{"host": "a,b"},
		{"host": ""},
		{"port": 0},
		{"port": 70000},
		{"user": "x"},
		{"passwordEnv": "X"},
		{"ca": "x"},
		{"authSource": ""},
		{"user": "x", "passwordFile": "/x", "passwordEnv": "X"},
		{"unknown": 1},
	} {
		if _, err := decodeContainer(state.Container{Name: "mongodb", Properties: properties}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", properties, err)
		}
	}
	seen := map[string]string{}
	for _, name := range []string{"a.b", "a-b", "a@b", "admin", strings.Repeat("x", 63), strings.Repeat("x", 63) + "@blue", strings.Repeat("x", 63) + "@red"} {
		database := databaseName(name)
		if other, double := seen[database]; double {
			t.Errorf("%s and %s are both database %s", name, other, database)
		}
		seen[database] = name
		if _, err := decodeComponent(state.Component{Name: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if fmt.Sprint(decodeContainerURL(t)) != "mongodb://us%2Fer:p%40%2F%3A%25@127.0.0.1:27017/a?authSource=x%26y" {
		t.Error(decodeContainerURL(t))
	}
}

func decodeContainerURL(t *testing.T) string {
	t.Helper()
	s, err := decodeContainer(state.Container{Properties: state.Properties{"user": "us/er", "passwordEnv": "X", "authSource": "x&y"}})
	if err != nil {
		t.Fatal(err)
	}
	return s.url("a", "p@/:%")
}
