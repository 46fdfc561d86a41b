package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"orrery/internal/spool"
	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/redis/rdb"
)

func TestPassword(t *testing.T) {
	const wrong = "hush-hush"
	m, r := New(), testenv.StartRedis(t, "", "")
	for name, container := range map[string]state.Properties{
		"wrong":      {"port": r.Port, "passwordFile": secretFile(t, wrong)},
		"none":       {"port": r.Port},
		"wrong user": {"port": r.Port, "user": "nobody", "passwordFile": secretFile(t, r.Password)},
		"wrong acl":  {"port": r.Port, "user": r.User, "passwordFile": secretFile(t, wrong)},
	} {
		target := place{server: r, container: container}.target(t, "secret")
		err := m.Activate(t.Context(), target)
		if err == nil || !strings.Contains(err.Error(), "refuses user") || strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), r.Password) {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Setenv("REDIS_SECRET", r.Password)
	target := place{server: r, container: state.Properties{"socket": r.Socket, "passwordEnv": "REDIS_SECRET"}}.target(t, "secret")
	change(t, target, 1)
	restore(t, target, snapshot(t, target))
	c, err := m.Shell(t.Context(), target, "GET same")
	if err != nil || strings.Contains(c.Path+strings.Join(c.Args, " "), "secret") {
		t.Errorf("%+v, %v", c, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestMissingServer(t *testing.T) {
	m, target := New(), place{container: state.Properties{"port": testenv.FreePort(t)}}.target(t, "missing")
	for name, err := range map[string]error{
		"activate": m.Activate(t.Context(), target),
		"snapshot": m.Snapshot(t.Context(), target, io.Discard),
		"health":   m.Health(t.Context(), target),
		"exists":   second(m.Exists(t.Context(), target)),
	} {
		if !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Error(err)
	}
	for _, bad := range []state.Properties{
		{"host": ""},
		{"port": 0},
		{"socket": "relative"},
		{"scratch": -1},
		{"user": "x"},
		{"passwordFile": "x", "passwordEnv": "y"},
		{"scratch": target.Component.Properties["db"]},
	} {
		target.Container.Properties = bad
		if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// The rights that the module's page names are enough; without one of them, the error says which, and the state stays.
func TestRights(t *testing.T) {
	m := New()
	_, text, _ := strings.Cut(m.Describe().Doc, "at least `")
	rights, _, _ := strings.Cut(text, "`")
	r := testenv.StartRedis(t, rights, "")
	p := place{server: r, container: state.Properties{"port": r.Port, "user": r.User, "passwordFile": secretFile(t, r.UserPassword)}}
	admin := on(t, r).target(t, "admin")
	shared := p
	shared.shared = 9
	for _, target := range []state.Target{p.target(t, "rights"), shared.target(t, "rights")} {
		prefix := prefixOf(t, target)
		if err := m.Activate(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		do(t, target, "SET", prefix+"a", "1")
		content := snapshot(t, target)
		restore(t, target, content)
		if _, err := m.Size(t.Context(), target); err != nil {
			t.Error(err)
		}
		do(t, target, "SET", prefix+"a", "2")
		needed := []string{"swapdb"}
		if prefix != "" {
			needed = []string{"move", "unlink"}
		}
		for _, right := range append(needed, "flushdb", "client", "psync", "replconf") {
			do(t, admin, "ACL", "SETUSER", r.User, "-"+right)
			operation := func() error { return m.Restore(t.Context(), target, bytes.NewReader(content)) }
			if right == "psync" || right == "replconf" {
				operation = func() error { return m.Snapshot(t.Context(), target, io.Discard) }
			}
			err := operation()
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), right) {
				t.Errorf("without %s: %v", right, err)
			}
			if (right == "psync" || right == "replconf") && err != nil && !strings.Contains(err.Error(), "replication is not permitted") {
				t.Error(err)
			}
			do(t, admin, "ACL", "SETUSER", r.User, "+"+right)
			if got := do(t, target, "GET", prefix+"a"); got != "2" {
				t.Errorf("without %s: it is %v after %v", right, got, err)
			}
		}
		if err := m.CollectGarbage(t.Context(), target); err != nil {
			t.Error(err)
		}
	}
	p.clean(t)
}

// What dead operations leave in the scratch database is deleted; what living ones or others have there is not.
func TestScratch(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", ""))
	m, target := New(), p.target(t, "scratch")
	change(t, target, 1)
	content := snapshot(t, target)
	leave := func() (*database, *session) {
		d, err := m.open(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		side, err := d.claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := side.do(t.Context(), "SET", "half", "loaded").Err(); err != nil {
			t.Fatal(err)
		}
		return d, side
	}
	for name, next := range map[string]func() error{
		"restore":  func() error { return m.Restore(t.Context(), target, bytes.NewReader(content)) },
		"activate": func() error { return m.Activate(t.Context(), target) },
	} {
		d, side := leave()
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), "under way") {
			t.Errorf("beside a living one: %v", err)
		}
		if err := m.Activate(t.Context(), target); err != nil {
			t.Errorf("activation beside a living one: %v", err)
		}
		if side.do(t.Context(), "GET", "half").Val() != "loaded" {
			t.Error("what a living operation loaded is gone")
		}
		side.close()
		d.close()
		if err := next(); err != nil {
			t.Errorf("%s after a dead one: %v", name, err)
		}
		p.clean(t)
		if !bytes.Equal(snapshot(t, target), content) {
			t.Error("another state")
		}
	}
	d, err := m.open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	foreign, err := d.connect(t.Context(), defaultScratch)
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.close()
	if err := foreign.do(t.Context(), "SET", "precious", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), "somebody else") {
		t.Error(err)
	}
	if foreign.do(t.Context(), "GET", "precious").Val() != "x" || !bytes.Equal(snapshot(t, target), content) {
		t.Error("a refused restore changed something")
	}
}

// A restore that is cancelled while it loads, or for which the server lacks the memory, leaves the state before and nothing else.
func TestInterrupted(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", ""))
	m, target := New(), p.target(t, "interrupted")
	big := strings.Repeat("x", 300<<10)
	for i := range 40 {
		do(t, target, "SET", fmt.Sprint("k", i), fmt.Sprint(big, i))
	}
	large := snapshot(t, target)
	do(t, target, "FLUSHDB")
	change(t, target, 1)
	before := snapshot(t, target)
	for _, at := range []int{3, 20, 38} {
		ctx, cancel := context.WithCancel(t.Context())
		d, err := m.open(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = spool.With(d.folder, func(f *os.File) error {
			if err := read(io.TeeReader(bytes.NewReader(large), f), visitor{}); err != nil {
				return err
			}
			return d.load(ctx, f, func(entry) bool {
				if n++; n == at {
					cancel()
				}
				return true
			}, commitDatabase, "")
		})
		d.close()
		cancel()
		if err == nil || ctx.Err() == nil {
			t.Errorf("cancelled at key %d: %v", at, err)
		}
		p.clean(t)
		if !bytes.Equal(snapshot(t, target), before) {
			t.Error("a cancelled restore changed the state")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Snapshot(ctx, target, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	used := do(t, target, "CONFIG", "SET", "maxmemory", "6mb")
	if err := m.Restore(t.Context(), target, bytes.NewReader(large)); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("%v, %v", used, err)
	}
	do(t, target, "CONFIG", "SET", "maxmemory-policy", "allkeys-random")
	if err := m.Restore(t.Context(), target, bytes.NewReader(large)); err == nil || !strings.Contains(err.Error(), "evict") {
		t.Errorf("with eviction: %v", err)
	}
	do(t, target, "CONFIG", "SET", "maxmemory", "0")
	p.clean(t)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// breaking is a sink that does something at the third key.
type breaking struct {
	pieces
	keys   int
	breaks func()
}

func (b *breaking) Key(key []byte, kind rdb.Type, expiry int64) error {
	if b.keys++; b.keys == 3 {
		b.breaks()
	}
	return b.pieces.Key(key, kind, expiry)
}

// A replication that breaks off in the middle, or is cancelled there, is no copy.
func TestBrokenReplication(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", "rdb-key-save-delay 20000\nrdbcompression no\nrepl-diskless-sync-delay 0"))
	p.container["diskless"] = true
	target := p.target(t, "broken")
	for i := range 40 {
		do(t, target, "SET", fmt.Sprint(i), strings.Repeat("x", 20000))
	}
	before := digest(t, target)
	attempt := func(ctx context.Context, breaks func()) error {
		d, err := New().open(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		s := newSorter(t.TempDir(), 1<<30)
		err = d.replicate(ctx, &breaking{pieces: pieces{out: s, db: uint64(d.number)}, breaks: breaks}) //nolint:gosec // not negative
		return errors.Join(err, s.Close())
	}
	err := attempt(t.Context(), func() { do(t, target, "CLIENT", "KILL", "TYPE", "REPLICA") })
	if !errors.Is(err, rdb.ErrFormat) || !strings.Contains(err.Error(), "ends in the middle") {
		t.Errorf("broken off: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := attempt(ctx, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if digest(t, target) != before {
		t.Error("the state changed")
	}
}
