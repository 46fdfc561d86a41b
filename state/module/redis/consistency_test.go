package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
)

// background runs do again and again until the function it returns is called, which waits for its end.
func background(t *testing.T, do func() error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		for ctx.Err() == nil {
			if err := do(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() {
		cancel()
		wait.Wait()
	}
}

// values reads the strings of a snapshot.
func values(t *testing.T, content []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := read(bytes.NewReader(content), visitor{element: func(e entry, one element) error {
		all[string(e.key)] = string(one.value)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// While clients write, a snapshot is of one point in time: two keys that change together are equal in it. Readers see a
// restore happen at once. Both for a file that the server writes first and for one that it does not.
func TestClientsMeanwhile(t *testing.T) {
	r := testenv.StartRedis(t, "", "repl-diskless-sync-delay 0")
	whole := on(t, r)
	prefixed := on(t, r)
	prefixed.shared, prefixed.container = 9, state.Properties{"socket": r.Socket, "passwordFile": secretFile(t, r.Password), "diskless": true}
	for name, p := range map[string]place{"Database": whole, "PrefixDiskless": prefixed} {
		t.Run(name, func(t *testing.T) { meanwhile(t, p) })
	}
}

func meanwhile(t *testing.T, p place) {
	t.Helper()
	m, target := New(), p.target(t, "pairs")
	neighbor := p.target(t, "neighbor")
	change(t, neighbor, 1)
	before := snapshot(t, neighbor)
	prefix := prefixOf(t, target)
	for i := range 300 {
		do(t, target, "SET", fmt.Sprint(prefix, "filler", i), strings.Repeat("x", 100))
	}
	d, err := m.open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	n := 0
	pair := func(value string) error {
		return d.session.do(t.Context(), "MSET", prefix+"a", value, prefix+"filler150", "x", prefix+"z", value).Err()
	}
	if err := pair("0"); err != nil { // so that every snapshot has both
		t.Fatal(err)
	}
	stop := background(t, func() error { n++; return pair(fmt.Sprint(n)) })
	var contents [][]byte
	seen := map[string]bool{}
	for range 8 {
		content := snapshot(t, target)
		v := values(t, content)
		if v["a"] != v["z"] || len(v) < 300 {
			t.Errorf("a is %q and z is %q among %d keys", v["a"], v["z"], len(v))
		}
		seen[v["a"]] = true
		contents = append(contents, content)
	}
	stop()
	if len(seen) < 2 {
		t.Error("nothing was written meanwhile")
	}
	stop = background(t, func() error {
		got, err := d.session.do(t.Context(), "MGET", prefix+"a", prefix+"filler7", prefix+"z").StringSlice()
		if err == nil && (got[0] != got[2] || got[1] == "") {
			err = fmt.Errorf("a reader sees %q during a restore", got)
		}
		return err
	})
	for _, content := range contents {
		restore(t, target, content)
		if !bytes.Equal(snapshot(t, target), content) {
			t.Error("restored another state")
		}
	}
	stop()
	if !bytes.Equal(snapshot(t, neighbor), before) {
		t.Error("the neighbor changed")
	}
	p.clean(t)
}

// A snapshot has what was written before it began, also when the server is making an older copy for somebody else.
func TestNotOlder(t *testing.T) {
	r := testenv.StartRedis(t, "", "rdb-key-save-delay 20000")
	p := on(t, r)
	first, second := p.target(t, "first"), p.target(t, "second")
	for i := range 40 {
		do(t, first, "SET", fmt.Sprint(i), "x")
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	wait.Go(func() {
		if err := New().Snapshot(t.Context(), first, &bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	})
	testenv.Eventually(t, "the first copy begins", func() bool {
		return strings.Contains(fmt.Sprint(do(t, first, "INFO", "persistence")), "rdb_bgsave_in_progress:1")
	})
	do(t, second, "SET", "late", "here")
	if got := values(t, snapshot(t, second)); got["late"] != "here" {
		t.Errorf("the snapshot has %v", got)
	}
}

// Keys that expired are in no snapshot, and are not brought back from one.
func TestExpiry(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", "enable-debug-command yes"))
	m, target, into := New(), p.target(t, "expiry"), p.target(t, "into")
	do(t, target, "DEBUG", "SET-ACTIVE-EXPIRE", "0") // so that expired keys stay in the server's memory
	do(t, target, "SET", "stays", "1")
	do(t, target, "SET", "later", "1", "PXAT", "4102444800000")
	content := snapshot(t, target)
	if !bytes.Contains(content, []byte("string 4102444800000 5\nlater\n")) {
		t.Errorf("%q", content)
	}
	do(t, target, "SET", "soon", "1", "PX", "1")
	do(t, target, "HSET", "soon:hash", "f", "v")
	do(t, target, "PEXPIRE", "soon:hash", "1")
	at := time.Now().UnixMilli()
	testenv.Eventually(t, "they expire", func() bool { return time.Now().UnixMilli() > at+1 })
	if n := do(t, target, "DBSIZE"); n != int64(4) {
		t.Errorf("%v keys are in the server's memory", n)
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("keys that expired are in the snapshot")
	}
	late := bytes.Replace(content, []byte("4102444800000"), []byte("1000000000000"), 1) // in 2001
	restore(t, into, late)
	if got := do(t, into, "DBSIZE"); got != int64(1) {
		t.Errorf("%v keys were restored", got)
	}
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(late), "later"); !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("a refused restore of a part changed the state")
	}
}

// What a snapshot cannot keep is refused by name where it is the component's, and skipped where it is not.
func TestRefused(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", ""))
	m, target, other := New(), p.target(t, "streams"), p.target(t, "other")
	change(t, other, 1)
	before := snapshot(t, other)
	for i := range 300 {
		do(t, target, "XADD", "jobs", fmt.Sprint(i+1, "-0"), "f", fmt.Sprint(i))
	}
	do(t, target, "XGROUP", "CREATE", "jobs", "workers", "0")
	do(t, target, "XREADGROUP", "GROUP", "workers", "ann", "COUNT", "200", "STREAMS", "jobs", ">")
	do(t, target, "XREADGROUP", "GROUP", "workers", "bob", "COUNT", "50", "STREAMS", "jobs", ">")
	do(t, target, "XACK", "jobs", "workers", "1-0", "201-0")
	pipe(t, target, commands(1))
	do(t, target, "FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)")
	var b bytes.Buffer
	err := m.Snapshot(t.Context(), target, &b)
	if !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), `"jobs"`) || !strings.Contains(err.Error(), `"workers"`) || b.Len() != 0 {
		t.Errorf("%v after %d bytes", err, b.Len())
	}
	if !bytes.Equal(snapshot(t, other), before) {
		t.Error("what is in another database changes the snapshot")
	}
	do(t, other, "REPLICAOF", "127.0.0.1", "1")
	if err := m.Activate(t.Context(), other); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "replica") {
		t.Error(err)
	}
	cluster := on(t, testenv.StartRedis(t, "", "cluster-enabled yes")).target(t, "cluster")
	cluster.Component.Properties["db"] = 0
	if err := m.Activate(t.Context(), cluster); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "cluster mode") {
		t.Error(err)
	}
}
