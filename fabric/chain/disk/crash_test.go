package disk_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/wire"
)

// life is what a node does with its disk: two chains that write, cut and apply, a copy that is received, a chain that is split, one that is removed. It notes what
// the whole disk holds after each step.
type life struct {
	disk   *disk.Disk
	stores map[chain.ID]*disk.Store
	closed bool
	blind  bool // takes no pictures, so that what was applied stays in memory

	pictures []string     // of the disk, after each step
	begun    atomic.Int64 // steps that began
	durable  atomic.Int64 // the step from which on nothing may be lost
}

// steady is a MemFS of which a clone may be made at any time: its own ReuseForWrite and a CrashClone may wait for each other for ever.
type steady struct{ *vfs.MemFS }

func (f steady) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.Rename(old, name); err != nil {
		return nil, err
	}
	return f.OpenReadWrite(name, category)
}

func newLife() *life {
	l := &life{stores: map[chain.ID]*disk.Store{}}
	l.durable.Store(-1)
	return l
}

func (l *life) start(fs vfs.FS) (err error) {
	l.disk, err = disk.Open(disk.Config{Directory: "db", FS: fs, Cache: 1 << 20, MemTable: 32 << 10, KeepEntries: 8, Recent: 11})
	if err != nil {
		return err
	}
	for _, id := range []chain.ID{1, 2} {
		s, err := l.disk.Open(id)
		if err != nil {
			return err
		}
		l.stores[id] = s
	}
	return l.step(true, l.stores[1].Sync)
}

// step does something to the disk. What is not durable afterwards may be lost.
func (l *life) step(durable bool, do func() error) error {
	l.begun.Store(int64(len(l.pictures)))
	if err := do(); err != nil {
		return err
	}
	p := ""
	if !l.blind {
		var err error
		if p, err = wholeOf(l.disk, l.stores); err != nil {
			return err
		}
	}
	l.pictures = append(l.pictures, p)
	if durable {
		l.durable.Store(int64(len(l.pictures) - 1))
	}
	return nil
}

// wholeOf is what a disk holds. Chains whose stores are not open are opened for it.
func wholeOf(d *disk.Disk, stores map[chain.ID]*disk.Store) (string, error) {
	var b strings.Builder
	ids, err := d.List()
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		s := stores[id]
		if s == nil {
			if s, err = d.Open(id); err != nil {
				return "", err
			}
			defer func() { _ = s.Close() }()
		}
		p, err := picture(s)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "chain %d\n%s", id, p)
	}
	return b.String(), nil
}

func entryAt(epoch, sequence uint64) chain.Entry {
	value := make([]byte, 1000)
	for i := range value {
		value[i] = byte(uint64(i) * sequence >> 2)
	}
	return chain.Entry{
		Epoch: epoch, Sequence: sequence, Client: 1 + sequence%2, Request: sequence / 2, Floor: max(sequence/2, 4) - 3, Result: chain.Result{Version: sequence},
		Changes: []chain.Change{
			{Key: fmt.Appendf(nil, "k%d", sequence%10), Value: value, Expires: int64(sequence % 3)}, {Key: fmt.Appendf(nil, "k%d", (sequence+5)%10), Deleted: true},
		},
	}
}

// run lives until the first error.
func (l *life) run(fs vfs.FS) error {
	if err := l.start(fs); err != nil {
		return err
	}
	for n := uint64(1); n <= 60; n++ {
		for _, id := range []chain.ID{1, 2} {
			s := l.stores[id]
			if id == 2 && n > 25 {
				continue
			}
			e := entryAt(1+n/10, n)
			b := &disk.Batch{Append: []chain.Entry{e}, Apply: []chain.Entry{e}}
			if n%7 == 0 { // an entry that another one takes the place of
				wrong := entryAt(n/10, n)
				if err := l.step(false, func() error { return s.Write(&disk.Batch{Append: []chain.Entry{wrong, entryAt(n/10, n+1)}}) }); err != nil {
					return err
				}
				b.Truncate, b.Keep = true, n-1
			}
			if err := l.step(false, func() error { return s.Write(b) }); err != nil {
				return err
			}
		}
		if n%4 == 0 {
			if err := l.step(true, l.stores[1].Sync); err != nil {
				return err
			}
		}
		if err := l.event(n); err != nil {
			return err
		}
	}
	l.closed = true
	return l.disk.Close()
}

// event is what happens seldom.
func (l *life) event(n uint64) error {
	switch n {
	case 25: // chain 2 gets a copy of chain 1
		return l.step(true, func() error {
			v, err := l.stores[1].View()
			if err != nil {
				return err
			}
			defer v.Close()
			in, err := l.disk.Receive(2)
			if err != nil {
				return err
			}
			if err := v.Records(2000, func(r []wire.Record) error { return in.Add(r) }); err != nil {
				return err
			}
			_ = l.stores[2].Close()
			if err := in.Complete(v.Applied(), v.AppliedEpoch()); err != nil {
				return err
			}
			s, err := l.disk.Open(2)
			if err == nil {
				l.stores[2] = s
			}
			return err
		})
	case 40:
		return l.step(true, func() error { return l.stores[1].Part(3, chain.Range{Start: []byte("k5")}, 40, 5) })
	case 50:
		return l.step(true, func() error {
			_ = l.stores[2].Close()
			delete(l.stores, 2)
			return l.disk.Remove(2)
		})
	}
	return nil
}

// moment is where a life was when it ended.
type moment struct {
	op             string
	fs             *vfs.MemFS
	durable, begun int64
}

func (l *life) moment(op string, fs *vfs.MemFS) moment {
	return moment{op: op, fs: fs, durable: l.durable.Load(), begun: l.begun.Load()}
}

// check opens what the moment left. It holds what a whole life held after one of the steps from the last durable one to the one that had begun.
func (m *moment) check(pictures []string) error {
	d, err := disk.Open(disk.Config{Directory: "db", FS: m.fs, Cache: 1 << 20, MemTable: 32 << 10})
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	p, err := wholeOf(d, nil)
	if err != nil {
		return err
	}
	if m.durable >= 0 && !slices.Contains(pictures[m.durable:m.begun+1], p) {
		return fmt.Errorf("it is as it was after none of the steps %d to %d: %.2000s", m.durable, m.begun, p)
	}
	return nil
}

// A crash at any write leaves what some step left, and nothing that was durable is lost.
func TestCrashAtAnyWrite(t *testing.T) {
	whole := newLife()
	if err := whole.run(vfs.NewMem()); err != nil {
		t.Fatal(err)
	}
	inner := vfs.NewCrashableMem()
	l := newLife()
	l.blind = true
	var mu sync.Mutex
	var moments []moment
	count := 0
	fs := errorfs.Wrap(steady{inner}, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		count++
		m := l.moment(fmt.Sprintf("write %d, of %s", count, op.Path), nil)
		m.fs = inner.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[count%3], RNG: rand.New(rand.NewPCG(uint64(count), 1))})
		m.begun = l.begun.Load() // it goes on meanwhile, if this is a write in the background
		moments = append(moments, m)
		return nil
	}))
	if err := l.run(fs); err != nil {
		t.Fatal(err)
	}
	if len(moments) < 100 { // about 210, and fewer where compactions come late
		t.Errorf("only %d writes", len(moments))
	}
	t.Logf("%d writes", len(moments))
	for _, m := range moments {
		if err := m.check(whole.pictures); err != nil {
			t.Fatalf("crash at %s: %v", m.op, err)
		}
	}
}
