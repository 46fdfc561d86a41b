package disk_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
)

// filled is a store with n keys, k000 and so on, one an entry; those from boundary on are of epoch 2.
func filled(t *testing.T, fs vfs.FS, n, boundary int) (*disk.Disk, *disk.Store) {
	t.Helper()
	d, err := disk.Open(disk.Config{Directory: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	var b disk.Batch
	for i := 1; i <= n; i++ {
		e := chain.Entry{Epoch: 1, Sequence: uint64(i), Time: int64(i), Client: 7, Request: uint64(i), Floor: 1, Result: chain.Result{Version: uint64(i)}}
		if i >= boundary {
			e.Epoch = 2
		} else {
			e.Changes = []chain.Change{{Key: fmt.Appendf(nil, "k%03d", i), Value: make([]byte, 100), Expires: int64(i) * 1000}}
		}
		b.Append, b.Apply = append(b.Append, e), append(b.Apply, e)
	}
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return d, s
}

func keys(t *testing.T, s *disk.Store) (first, last string, n int) {
	t.Helper()
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	items, _, err := v.Scan(nil, chain.Range{}, 1<<20, 1<<30)
	if err != nil || len(items) == 0 {
		t.Fatal(len(items), err)
	}
	return string(items[0].Key), string(items[len(items)-1].Key), len(items)
}

func TestPart(t *testing.T) {
	fs := vfs.NewMem()
	d, s := filled(t, fs, 110, 101)
	sequence, epoch, ok, err := s.Boundary(2, 110)
	if err != nil || !ok || sequence != 101 || epoch != 2 {
		t.Fatal(sequence, epoch, ok, err)
	}
	if _, _, ok, err := s.Boundary(3, 110); ok || err != nil {
		t.Errorf("a boundary that is not there yet: %v, %v", ok, err)
	}
	upper := chain.Range{Start: []byte("k051")}
	for range 2 { // the second time it is there
		if err := s.Part(2, upper, sequence, epoch); err != nil {
			t.Fatal(err)
		}
	}
	if first, last, n := keys(t, s); first != "k001" || last != "k050" || n != 50 {
		t.Errorf("%d keys from %s to %s stay", n, first, last)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if d, err = disk.Open(disk.Config{Directory: "db", FS: fs}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	child, err := d.Open(2)
	if err != nil {
		t.Fatal(err)
	}
	if first, last, n := keys(t, child); first != "k051" || last != "k100" || n != 50 {
		t.Errorf("%d keys from %s to %s are split off", n, first, last)
	}
	state, err := child.State()
	if err != nil || state.Applied != 101 || state.AppliedEpoch != 2 || len(state.Pending) != 0 {
		t.Errorf("%+v, %v", state, err)
	}
	if r, known, _, err := child.Recall(7, 30); err != nil || !known || r.Version != 30 {
		t.Errorf("a client's result: %+v, %v, %v", r, known, err)
	}
	if _, known, _, err := child.Recall(7, 105); err != nil || known {
		t.Errorf("the result of a command behind the boundary: %v, %v", known, err)
	}
	expired, err := child.Expired(60_000, 100)
	if err != nil || len(expired) != 10 {
		t.Errorf("%d keys expire, %v", len(expired), err)
	}
	// The log goes on after the boundary.
	e := chain.Entry{Epoch: 3, Sequence: 102, Client: 7, Request: 200, Floor: 1, Changes: []chain.Change{{Key: []byte("k999")}}}
	if err := child.Write(&disk.Batch{Append: []chain.Entry{e}, Apply: []chain.Entry{e}}); err != nil {
		t.Fatal(err)
	}
	if entries, err := child.Entries(102, 1); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestKeep(t *testing.T) {
	fs := vfs.NewMem()
	d, s := filled(t, fs, 100, 101)
	if err := s.Keep(chain.Range{Start: []byte("k020"), End: []byte("k050")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(chain.Range{Start: []byte("k010")}); err != nil {
		t.Fatal(err)
	}
	if expired, err := s.Expired(1_000_000, 256); err != nil || len(expired) != 30 {
		t.Errorf("%d keys expire, %v", len(expired), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := disk.Open(disk.Config{Directory: "db", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if s, err = d.Open(1); err != nil {
		t.Fatal(err)
	}
	if first, last, n := keys(t, s); first != "k020" || last != "k049" || n != 30 {
		t.Errorf("%d keys from %s to %s are kept", n, first, last)
	}
}

// A crash leaves all, or nothing, of a part.
func TestPartSurvivesCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	_, s := filled(t, fs, 110, 101)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	before := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Part(2, chain.Range{Start: []byte("k051")}, 101, 2); err != nil {
		t.Fatal(err)
	}
	for name, crashed := range map[string]vfs.FS{"before": before, "after": fs.CrashClone(vfs.CrashCloneCfg{})} {
		d, err := disk.Open(disk.Config{Directory: "db", FS: crashed})
		if err != nil {
			t.Fatal(name, err)
		}
		ids, err := d.List()
		if err != nil || len(ids) != map[string]int{"before": 1, "after": 2}[name] {
			t.Errorf("%s: %v, %v", name, ids, err)
		}
		for _, id := range ids {
			s, err := d.Open(id)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, n := keys(t, s); n != 100/len(ids) {
				t.Errorf("%s: chain %d has %d keys", name, id, n)
			}
		}
		_ = d.Close()
	}
}

func TestMiddle(t *testing.T) {
	_, s := filled(t, vfs.NewMem(), 100, 200)
	for _, keys := range []chain.Range{{}, {Start: []byte("k020"), End: []byte("k040")}} {
		if key, err := s.Middle(keys); err != nil || key == nil || !keys.Contains(key) {
			t.Errorf("%q, %v", key, err)
		}
	}
	for _, keys := range []chain.Range{{Start: []byte("x")}, {Start: []byte("k020"), End: []byte("k021")}} {
		if key, err := s.Middle(keys); err != nil || key != nil {
			t.Errorf("one key, or none, has the middle %q, %v", key, err)
		}
	}
}
