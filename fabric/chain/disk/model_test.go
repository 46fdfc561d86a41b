package disk_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/wire"
)

// model is what a store should hold, in memory and without cunning.
type model struct {
	log     []chain.Entry // all since the beginning, or since a copy: log[0] follows start
	start   uint64
	applied uint64
	epoch   uint64
	keys    map[string]chain.Value
	results map[[2]uint64]chain.Result
	floors  map[uint64]uint64
}

func newModel() *model {
	return &model{keys: map[string]chain.Value{}, results: map[[2]uint64]chain.Result{}, floors: map[uint64]uint64{}}
}

func (m *model) clone() *model {
	c := *m
	c.log, c.keys, c.results, c.floors = slices.Clone(m.log), maps.Clone(m.keys), maps.Clone(m.results), maps.Clone(m.floors)
	return &c
}

func (m *model) last() uint64 { return m.start + uint64(len(m.log)) }

func (m *model) write(b *disk.Batch) {
	if b.Truncate && b.Keep < m.last() {
		m.log = m.log[:b.Keep-m.start]
	}
	m.log = append(m.log, b.Append...)
	for _, e := range b.Apply {
		m.applied, m.epoch = e.Sequence, e.Epoch
		for _, c := range e.Changes {
			if c.Deleted {
				delete(m.keys, string(c.Key))
			} else {
				m.keys[string(c.Key)] = chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}
			}
		}
		if e.Client == 0 {
			continue
		}
		m.results[[2]uint64{e.Client, e.Request}] = e.Result
		m.floors[e.Client] = max(m.floors[e.Client], e.Floor)
		for name := range m.results {
			if name[0] == e.Client && name[1] < m.floors[e.Client] {
				delete(m.results, name)
			}
		}
	}
}

const (
	clients  = 3  // 1 and up
	requests = 40 // of each, at the most
	never    = 1 << 40
)

// String is all that a replica sees of it, but for the log up to what was applied.
func (m *model) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "applied %d of %d\n", m.applied, m.epoch)
	for _, e := range m.log[m.applied-m.start:] {
		fmt.Fprintf(&b, "pending %x\n", wire.AppendEntry(nil, &e))
	}
	var expire []string
	for _, key := range slices.Sorted(maps.Keys(m.keys)) {
		v := m.keys[key]
		fmt.Fprintf(&b, "%x = %x at %d until %d\n", key, v.Value, v.Version, v.Expires)
		if v.Expires != 0 {
			expire = append(expire, fmt.Sprintf("%x", key))
		}
	}
	for client := uint64(1); client <= clients; client++ {
		for request := uint64(1); request <= requests; request++ {
			r, known := m.results[[2]uint64{client, request}]
			fmt.Fprintf(&b, "%d/%d %v %v %v\n", client, request, r, known, !known && request < m.floors[client])
		}
	}
	fmt.Fprintf(&b, "expire %v\n", expire)
	return b.String()
}

// picture is the same of a store.
func picture(s *disk.Store) (string, error) {
	var b strings.Builder
	st, err := s.State()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "applied %d of %d\n", st.Applied, st.AppliedEpoch)
	for _, e := range st.Pending {
		fmt.Fprintf(&b, "pending %x\n", wire.AppendEntry(nil, &e))
	}
	v, err := s.View()
	if err != nil {
		return "", err
	}
	defer v.Close()
	items, _, err := v.Scan(nil, chain.Range{}, 1<<20, 1<<30)
	if err != nil {
		return "", err
	}
	for _, i := range items {
		one, ok, err := s.Get(i.Key)
		if err != nil || !ok || one.Version != i.Value.Version {
			return "", fmt.Errorf("%x is %v, %v alone and %v in a scan: %w", i.Key, one, ok, i.Value, err)
		}
		fmt.Fprintf(&b, "%x = %x at %d until %d\n", i.Key, i.Value.Value, i.Value.Version, i.Value.Expires)
	}
	for client := uint64(1); client <= clients; client++ {
		for request := uint64(1); request <= requests; request++ {
			r, known, over, err := s.Recall(client, request)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%d/%d %v %v %v\n", client, request, r, known, over)
		}
	}
	expired, err := s.Expired(never, 1<<20)
	if err != nil {
		return "", err
	}
	expire := make([]string, 0, len(expired))
	for _, key := range expired {
		expire = append(expire, fmt.Sprintf("%x", key))
	}
	slices.Sort(expire)
	fmt.Fprintf(&b, "expire %v\n", expire)
	return b.String(), nil
}

// logOf checks the part of the log that is kept: it goes up to the last entry without a gap, and as far back as was promised.
func logOf(s *disk.Store, m *model, keep uint64) error {
	first := s.First()
	if first > max(m.start, m.applied-min(m.applied, keep))+1 {
		return fmt.Errorf("the log begins at %d, and %d is applied", first, m.applied)
	}
	for next := first; next <= m.last(); {
		entries, err := s.Entries(next, 200)
		if err != nil || len(entries) == 0 {
			return fmt.Errorf("%d entries from %d on: %w", len(entries), next, err)
		}
		for i := range entries {
			want := m.log[next-m.start-1]
			if got := wire.AppendEntry(nil, &entries[i]); string(got) != string(wire.AppendEntry(nil, &want)) {
				return fmt.Errorf("entry %d is %v, not %v", next, entries[i], want)
			}
			next++
		}
	}
	for _, beyond := range []uint64{m.last() + 1, first - 1} {
		if entries, err := s.Entries(beyond, 1); beyond > 0 && (err != nil || len(entries) > 0) {
			return fmt.Errorf("%d entries from %d on, where there is none: %w", len(entries), beyond, err)
		}
	}
	return nil
}

// world is a store, what it should hold, and what it held after each write that a crash may take back.
type world struct {
	fs      *vfs.MemFS
	disk    *disk.Disk
	store   *disk.Store
	now     *model
	history []*model // the first one is durable
	epoch   uint64
	next    [clients + 1]uint64 // request of each client
}

const keepEntries = 6

func (w *world) open(t *rapid.T, fs *vfs.MemFS) {
	d, err := disk.Open(disk.Config{Directory: "db", FS: steady{fs}, Cache: 1 << 20, MemTable: 32 << 10, KeepEntries: keepEntries, Recent: 7})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	w.fs, w.disk, w.store = fs, d, s
}

func (w *world) check(t *rapid.T) {
	got, err := picture(w.store)
	if err != nil {
		t.Fatal(err)
	}
	if want := w.now.String(); got != want {
		t.Fatalf("store:\n%s\nshould be:\n%s", got, want)
	}
	if err := logOf(w.store, w.now, keepEntries); err != nil {
		t.Fatal(err)
	}
}

func (w *world) write(t *rapid.T, b *disk.Batch) {
	if err := w.store.Write(b); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.clone()
	w.now.write(b)
	w.history = append(w.history, w.now)
}

func (w *world) entry(t *rapid.T, sequence uint64) chain.Entry {
	e := chain.Entry{Epoch: w.epoch, Sequence: sequence, Time: int64(sequence)}
	if client := rapid.Uint64Range(0, clients).Draw(t, "client"); client > 0 && w.next[client] < requests {
		w.next[client]++
		e.Client, e.Request = client, w.next[client]
		e.Floor = e.Request - min(e.Request-1, rapid.Uint64Range(0, 3).Draw(t, "waits"))
		e.Result = chain.Result{Version: sequence, Number: int64(e.Request)}
	}
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		c := chain.Change{Key: []byte{'k', byte(rapid.IntRange(0, 9).Draw(t, "key"))}}
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			c.Deleted = true
		case 1:
			c.Expires = int64(rapid.IntRange(1, 5).Draw(t, "expires"))
			c.Value = []byte{}
		default:
			c.Value = make([]byte, rapid.IntRange(0, 3000).Draw(t, "size"))
			for i := range c.Value { // what compresses well tells little of blocks
				c.Value[i] = byte(uint64(i)*sequence>>3) ^ byte(i)
			}
		}
		e.Changes = append(e.Changes, c)
	}
	return e
}

// acts writes batches, between which nobody looks.
func (w *world) acts(t *rapid.T) {
	for range rapid.IntRange(1, 3).Draw(t, "batches") {
		w.act(t)
	}
}

// act writes a batch: perhaps a cut, some entries, and some of what is pending applied.
func (w *world) act(t *rapid.T) {
	var b disk.Batch
	pending := w.now.log[w.now.applied-w.now.start:]
	if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
		kept := rapid.IntRange(0, len(pending)).Draw(t, "kept")
		b.Truncate, b.Keep = true, w.now.applied+uint64(kept)
		pending = pending[:kept]
		w.epoch++
	}
	all := slices.Clone(pending)
	for range rapid.IntRange(0, 4).Draw(t, "entries") {
		e := w.entry(t, w.now.applied+uint64(len(all))+1)
		b.Append, all = append(b.Append, e), append(all, e)
	}
	b.Apply = all[:rapid.IntRange(0, len(all)).Draw(t, "applied")]
	w.write(t, &b)
}

func (w *world) sync(t *rapid.T) {
	if err := w.store.Sync(); err != nil {
		t.Fatal(err)
	}
	w.history = []*model{w.now}
}

func (w *world) close(t *rapid.T) {
	_ = w.store.Close()
	if err := w.disk.Close(); err != nil {
		t.Fatal(err)
	}
}

func (w *world) restart(t *rapid.T) {
	w.close(t)
	w.open(t, w.fs)
	w.history = []*model{w.now}
}

// surprise is a crash in the middle of writing.
func (w *world) surprise(t *rapid.T) {
	w.acts(t)
	if rapid.Bool().Draw(t, "synced") {
		w.sync(t)
		w.acts(t)
	}
	w.crash(t)
}

// leave is a restart after writing.
func (w *world) leave(t *rapid.T) {
	w.acts(t)
	w.restart(t)
}

// crash loses some of what was not synced. What is left is as after one of the writes since.
func (w *world) crash(t *rapid.T) {
	percent := rapid.SampledFrom([]int{0, 50, 100}).Draw(t, "unsynced")
	left := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))})
	w.close(t)
	w.open(t, left)
	got, err := picture(w.store)
	if err != nil {
		t.Fatal(err)
	}
	for _, was := range slices.Backward(w.history) {
		if was.String() == got {
			w.now, w.history = was, []*model{was}
			w.epoch++
			return
		}
	}
	t.Fatalf("after a crash the store is as it never was:\n%s\nlast:\n%s", got, w.now)
}

// copy replaces the store by a copy of itself.
func (w *world) copy(t *rapid.T) {
	w.acts(t)
	v, err := w.store.View()
	if err != nil {
		t.Fatal(err)
	}
	in, err := w.disk.Receive(1)
	if err == nil {
		err = v.Records(1000, in.Add)
	}
	v.Close()
	_ = w.store.Close()
	if err == nil {
		err = in.Complete(v.Applied(), v.AppliedEpoch())
	}
	if err == nil {
		w.store, err = w.disk.Open(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.clone()
	w.now.start, w.now.log = w.now.applied, nil
	w.history = []*model{w.now}
}

// renew lets the store go on as the beginning of a line.
func (w *world) renew(t *rapid.T) {
	w.acts(t)
	w.epoch++
	l := chain.Line{Epoch: w.epoch, Sequence: w.now.last() + 1000, Empty: rapid.IntRange(0, 2).Draw(t, "empty") == 0}
	_ = w.store.Close()
	err := w.disk.Renew(1, l)
	if err == nil {
		w.store, err = w.disk.Open(1)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.clone()
	w.now.write(&disk.Batch{Apply: w.now.log[w.now.applied-w.now.start:]})
	if l.Empty {
		w.now = newModel()
	}
	w.now.start, w.now.log, w.now.applied, w.now.epoch = l.Sequence, nil, l.Sequence, l.Epoch
	w.history = []*model{w.now}
}

// A store is what the model is, through restarts, crashes and copies.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{now: newModel(), epoch: 1}
		w.history = []*model{w.now}
		w.open(t, vfs.NewCrashableMem())
		t.Repeat(map[string]func(*rapid.T){
			"write": w.act, "write again": w.act, "write once more": w.acts, "sync": w.sync, "restart": w.restart, "crash": w.crash, "surprise": w.surprise, "leave": w.leave,
			"copy": w.copy, "renew": w.renew, "": w.check,
		})
		w.close(t)
	})
}
