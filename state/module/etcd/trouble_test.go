package etcd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

func second[T any](_ T, err error) error { return err }

// Keys that nobody made a component of are found, and no others.
func TestExists(t *testing.T) {
	newTarget := targets(testenv.Etcd(t))
	target, neighbor := newTarget(t, "found"), newTarget(t, "found")
	ctl(t, neighbor, "", "put", prefix(t, neighbor)+"k", "v")
	for _, want := range []bool{false, true} {
		if found, err := New().Exists(t.Context(), target); err != nil || found != want {
			t.Errorf("%v: %v, %v", want, found, err)
		}
		ctl(t, target, "", "put", prefix(t, target)+"k", "v")
	}
}

// The server's certificate is checked, and it checks ours; etcd's own client works with the same properties.
func TestTLS(t *testing.T) {
	authority, stranger := testenv.NewAuthority(t), testenv.NewAuthority(t)
	endpoint := testenv.StartEtcd(t, testenv.EtcdSettings{Authority: authority})
	certificate, key := authority.Issue(t, "client")
	alien, alienKey := stranger.Issue(t, "client")
	good := state.Properties{"endpoint": endpoint, "ca": authority.File, "certificate": certificate, "key": key}
	m, target := New(), targets(endpoint)(t, "tls")
	for name, change := range map[string]state.Properties{
		"strange server": {"ca": stranger.File}, "system's": {"ca": ""}, "no client": {"certificate": "", "key": ""},
		"strange client": {"certificate": alien, "key": alienKey}, "another's key": {"key": alienKey}, "no certificate": {"ca": key},
	} {
		target.Container.Properties = maps.Clone(good)
		maps.Copy(target.Container.Properties, change)
		if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "certificate") && !strings.Contains(err.Error(), "private key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	target.Container.Properties = good
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	ctl(t, target, "", "put", prefix(t, target)+"k", "1")
	content := snapshot(t, target)
	ctl(t, target, "", "put", prefix(t, target)+"k", "2")
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil || digest(t, target) != "k\n1\n" {
		t.Errorf("%q, %v", digest(t, target), err)
	}
}

// While a client changes one key after the other, a snapshot is of one revision; a client that watches sees a small restore at
// once.
func TestClients(t *testing.T) {
	m, target := New(), targets(testenv.Etcd(t))(t, "clients")
	many(t, target, 100, 1)
	client, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	put := func(key string, n int) error {
		return client.commit(t.Context(), []operation{{key: []byte(client.prefix + key), value: fmt.Append(nil, n)}})
	}
	if err := errors.Join(put("z", 0), put("a", 0)); err != nil {
		t.Fatal(err)
	}
	stop, ended, written := make(chan struct{}), make(chan error, 1), 0
	go func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := errors.Join(put("z", n), put("a", n)); err != nil {
				ended <- err
				return
			}
			written = n
		}
	}()
	for range 20 {
		var a, z int
		if err := read(bytes.NewReader(snapshot(t, target)), func(key, value []byte) error {
			switch string(key) {
			case "a":
				return second(fmt.Sscan(string(value), &a))
			case "z":
				return second(fmt.Sscan(string(value), &z))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if z != a && z != a+1 {
			t.Errorf("the snapshot is of no one moment: a is %d, z is %d", a, z)
		}
	}
	close(stop)
	if err := <-ended; err != nil || written == 0 {
		t.Errorf("%d written, %v", written, err)
	}
	if err := errors.Join(put("a", -1), put("z", -1)); err != nil {
		t.Fatal(err)
	}
	content := snapshot(t, target)
	if err := errors.Join(put("a", -2), put("z", -2)); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	revisions := map[string]bool{}
	for line := range strings.Lines(ctl(t, target, "", "get", "--write-out=fields", "--prefix", client.prefix)) {
		if strings.Contains(line, `"ModRevision"`) {
			revisions[line] = true
		}
	}
	if len(revisions) != 2 { // the 100 keys of the beginning, and the restore's two
		t.Errorf("%d revisions: %v", len(revisions), revisions)
	}
}

// A server that has no room refuses what is new: a restore ends in an error, and the state before is there, at the latest once
// there is room again.
func TestServerWithoutRoom(t *testing.T) {
	endpoint := testenv.StartEtcd(t, testenv.EtcdSettings{Args: []string{"--quota-backend-bytes", "4194304"}})
	m, target, other := New(), targets(endpoint)(t, "room"), targets(testenv.Etcd(t))(t, "room")
	many(t, target, 200, 1)
	before := snapshot(t, target)
	many(t, other, 200, 3)
	for i := range 5 {
		ctl(t, other, strings.Repeat(fmt.Sprint(i), 900<<10), "put", fmt.Sprint(prefix(t, other), "z", i))
	}
	large := snapshot(t, other)
	// It takes the first transactions, and then no more values: neither the snapshot's nor those of the state before.
	if err := m.Restore(t.Context(), target, bytes.NewReader(large)); err == nil || !strings.Contains(err.Error(), "alarm disarm") || !strings.Contains(err.Error(), "next operation") {
		t.Fatalf("restore: %v", err)
	}
	if err := m.Snapshot(t.Context(), target, io.Discard); err == nil || !strings.Contains(err.Error(), "undo") {
		t.Errorf("a snapshot of a mixture: %v", err)
	}
	ctl(t, target, "", "del", "--prefix", prefix(t, target)+"z")
	compact(t, target)
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("another state")
	}
	if left, err := os.ReadDir(target.Directory); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// compact makes room as an administrator would.
func compact(t *testing.T, target state.Target) {
	t.Helper()
	k, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	_, revision, err := k.page(t.Context(), nil, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctl(t, target, "", "compact", "--physical", fmt.Sprint(revision))
	ctl(t, target, "", "defrag")
	ctl(t, target, "", "alarm", "disarm")
}
