package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/vault"
)

// inBucket makes the stores of tests stores in a bucket.
var inBucket bool

// buckets are the buckets that stand for folders.
var buckets sync.Map

// memBucket is a bucket in memory. Its clock is given, and an operation may be made to fail.
type memBucket struct {
	mu      sync.Mutex
	objects map[string]memObject
	now     time.Time
	fail    func(op, name string) error
	wrote   map[string]int // how often each object was written
	read    int64
}

type memObject struct {
	content  []byte
	modified time.Time
}

func newMemBucket() *memBucket {
	return &memBucket{objects: map[string]memObject{}, now: time.Now(), wrote: map[string]int{}}
}

func (b *memBucket) String() string { return fmt.Sprintf("mem://%p", b) }

func (b *memBucket) failing(op, name string) error {
	if b.fail == nil {
		return nil
	}
	return b.fail(op, name)
}

func (b *memBucket) List(ctx context.Context, prefix string) ([]Object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(ctx.Err(), b.failing("list", prefix)); err != nil {
		return nil, err
	}
	var all []Object
	for name, o := range b.objects {
		if strings.HasPrefix(name, prefix) {
			all = append(all, Object{name, int64(len(o.content)), o.modified})
		}
	}
	slices.SortFunc(all, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (b *memBucket) Read(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(ctx.Err(), b.failing("read", name)); err != nil {
		return nil, err
	}
	o, ok := b.objects[name]
	if !ok {
		return nil, notExist(name)
	}
	part := o.content[min(offset, int64(len(o.content))):]
	if length >= 0 {
		part = part[:min(length, int64(len(part)))]
	}
	b.read += int64(len(part))
	return io.NopCloser(bytes.NewReader(part)), nil
}

func (b *memBucket) Write(ctx context.Context, name string, r io.Reader, onlyNew bool) error {
	content, err := io.ReadAll(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(err, ctx.Err(), b.failing("write", name)); err != nil {
		return err
	}
	if _, ok := b.objects[name]; ok && onlyNew {
		return fs.ErrExist
	}
	b.objects[name] = memObject{content, b.now}
	b.wrote[name]++
	return nil
}

func (b *memBucket) Delete(ctx context.Context, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := errors.Join(ctx.Err(), b.failing("delete", name)); err != nil {
		return err
	}
	delete(b.objects, name)
	return nil
}

func (b *memBucket) names(prefix string) (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.objects {
		if strings.HasPrefix(name, prefix) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// openBucket opens the store in the bucket that stands for a folder.
func openBucket(t tester, dir string, o Options) *Store {
	t.Helper()
	o.files = nil
	o.Keys = ring(t)
	b, _ := buckets.LoadOrStore(dir, newMemBucket())
	bucket, _ := b.(*memBucket)
	if len(bucket.names("version")) == 0 {
		wrap := wrapped
		if !encrypted {
			wrap = nil
		}
		if _, err := InitBucket(t.Context(), bucket, Options{}, wrap); err != nil && !strings.Contains(err.Error(), "one already") {
			t.Fatal(err)
		}
	}
	return must(OpenBucket(context.Background(), bucket, o))(t)
}

// TestBucket runs what is tested with stores in folders on stores in buckets, plain and encrypted.
func TestBucket(t *testing.T) {
	inBucket = true
	defer func() { inBucket, encrypted = false, false }()
	for _, encrypted = range []bool{false, true} {
		for name, test := range map[string]func(*testing.T){
			"Sizes":                        TestSizes,
			"SameStateAddsNothing":         TestSameStateAddsNothing,
			"TrackedImageReadsWhatChanged": TestTrackedImageReadsWhatChanged,
			"ChainsOfRandomEdits":          TestChainsOfRandomEdits,
			"Prune":                        TestPrune,
			"Exchange":                     TestExchange,
			"PrunedSnapshotIsNotHalfThere": TestPrunedSnapshotIsNotHalfThere,
			"Forget":                       TestForget,
			"PruneKeepsPinnedAndTagged":    TestPruneKeepsPinnedAndTagged,
			"CopyMovesWhatIsLacking":       TestCopyMovesWhatIsLacking,
			"CopyOfTwoMachines":            TestCopyOfTwoMachines,
		} {
			if underRace && !encrypted || !repeats(name) && (encrypted || name != "CopyMovesWhatIsLacking") {
				continue
			}
			t.Run(fmt.Sprint(name, " encrypted ", encrypted), test)
		}
	}
}

func TestNoStoreInABucket(t *testing.T) {
	b := newMemBucket()
	if _, err := OpenBucket(t.Context(), b, Options{}); !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "store init") {
		t.Fatal(err)
	}
	must(InitBucket(t.Context(), b, Options{}, wrapped))(t)
	before := len(b.names(""))
	if _, err := OpenBucket(t.Context(), b, Options{}); !errors.Is(err, state.ErrKey) {
		t.Fatal(err)
	}
	if _, err := InitBucket(t.Context(), b, Options{}, nil); err == nil || !strings.Contains(err.Error(), "one already") {
		t.Fatal(err)
	}
	if len(b.names("")) != before {
		t.Fatal("something was written")
	}
}

// A lease counts as long as its holder renews it, by the clock of the service.
func TestLeases(t *testing.T) {
	b := newMemBucket()
	one, two := newBucketFiles(t.Context(), b, ""), newBucketFiles(t.Context(), b, "")
	shared := must(one.TryLock(t.Context(), "lock", false))(t)
	must(two.TryLock(t.Context(), "lock", false))(t).release()
	if _, err := two.TryLock(t.Context(), "lock", true); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), "process") {
		t.Fatal(err)
	}
	must(two.TryLock(t.Context(), "lock2", true))(t).release()
	if got := b.names(""); len(got) != 1 {
		t.Fatalf("left: %v", got)
	}
	shared.release()
	must(two.TryLock(t.Context(), "lock", true))(t) // and its process ends here
	if _, err := one.TryLock(t.Context(), "lock", false); !errors.Is(err, state.ErrInUse) {
		t.Fatal(err)
	}
	b.now = b.now.Add(leaseTime + time.Second)
	must(one.TryLock(t.Context(), "lock", true))(t).release()
	for l := range two.leases {
		l.again(t.Context())
		if l.counts() {
			t.Fatal("a lease that was taken away counts")
		}
	}
	if err := two.assure(); !errors.Is(err, state.ErrInUse) {
		t.Fatal(err)
	}
	if _, err := two.Create("temp"); err != nil {
		t.Fatal(err)
	}
	if err := two.Rename("temp", "packs/x.pack"); !errors.Is(err, state.ErrInUse) {
		t.Fatalf("wrote without a lease: %v", err)
	}
	for l := range two.leases {
		l.release()
	}
}

func TestALeaseIsRenewed(t *testing.T) {
	b := newMemBucket()
	f := newBucketFiles(t.Context(), b, "")
	f.ttl = 40 * time.Millisecond
	l := must(f.TryLock(t.Context(), "lock", true))(t)
	object := b.names("lock/")[0]
	for {
		b.mu.Lock()
		wrote := b.wrote[object]
		b.mu.Unlock()
		if wrote > 2 {
			break
		}
		<-time.After(time.Millisecond)
	}
	l.release()
	if left := b.names(""); len(left) > 0 {
		t.Fatal(left)
	}
}

// Of two who change a file at the same time, one is told, even where leases failed them.
func TestChangesOfOneFileDoNotOverwriteEachOther(t *testing.T) {
	b := newMemBucket()
	one, two := newBucketFiles(t.Context(), b, ""), newBucketFiles(t.Context(), b, "")
	write := func(f *bucketFiles, content string) error {
		temp := random()
		w := must(f.Create(temp))(t)
		must(w.Write([]byte(content)))(t)
		return f.Rename(temp, "dead")
	}
	must(true, write(one, "a"))(t)
	must(one.ReadFile("dead"))(t)
	must(two.ReadFile("dead"))(t)
	must(true, write(one, "b"))(t)
	if err := write(two, "c"); !errors.Is(err, state.ErrInUse) {
		t.Fatal(err)
	}
	must(true, write(two, "b"))(t) // its answer may have been lost
	if got := must(two.ReadFile("dead"))(t); string(got) != "b" || len(b.names("dead")) != 1 {
		t.Fatalf("%q in %v", got, b.names("dead"))
	}
	must(true, two.Remove("dead"))(t)
	if _, err := one.ReadFile("dead"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// A store in a bucket reads each index once, and tells when its key is exchanged.
func TestCache(t *testing.T) {
	b, o := newMemBucket(), Options{Cache: t.TempDir(), Keys: ring(t)}
	s := must(InitBucket(t.Context(), b, o, wrapped))(t)
	content := text(100_000, 1)
	g := must(s.Save(t.Context(), ref, "m", "manual", stream(content)))(t)
	must(s.Get(t.Context(), g.Snapshot))(t)
	again := must(OpenBucket(t.Context(), b, o))(t)
	b.fail = func(op, name string) error {
		if op == "read" && strings.HasPrefix(name, packsFolder) {
			return errors.New("the pack is read")
		}
		return nil
	}
	if _, err := again.Missing(t.Context(), []string{objectName(kindRaw, digest{1})}); err != nil {
		t.Fatal(err)
	}
	b.fail = nil
	check(t, again, content)
	files := must(filepath.Glob(filepath.Join(o.Cache, "*", "*.index")))(t)
	if len(files) != 1 {
		t.Fatal(files)
	}
	name := manifestName(must(parseID(g.Snapshot))(t))
	if bytes.Contains(must(os.ReadFile(files[0]))(t), name[:]) {
		t.Fatal("the cache of an encrypted store is readable")
	}
	must(true, os.WriteFile(files[0], []byte("damaged"), 0o600))(t)
	check(t, must(OpenBucket(t.Context(), b, o))(t), content)
	must(again.Forget(t.Context(), ref, []uint64{1}, false))(t)
	must(again.Usage(t.Context()))(t)
	if left := must(filepath.Glob(filepath.Join(o.Cache, "*", "*.index")))(t); len(left) > 0 {
		t.Fatal(left)
	}
	b.objects = map[string]memObject{}
	if _, err := InitBucket(t.Context(), b, o, wrapped); !errors.Is(err, state.ErrKey) || !strings.Contains(err.Error(), "another one") {
		t.Fatal(err)
	}
}

// Each request may fail; then the operation does, and what is there stays.
func TestEachFailingRequest(t *testing.T) {
	first, second := text(200_000, 1), text(200_000, 2)
	for n := rand.IntN(failStride); ; n += failStride {
		b := newMemBucket()
		s := must(InitBucket(t.Context(), b, Options{Keys: ring(t)}, wrapped))(t)
		must(s.Save(t.Context(), ref, "m", "manual", stream(first)))(t)
		left, broken := n, errors.New("network is cut")
		b.fail = func(string, string) error {
			if left--; left < 0 {
				return broken
			}
			return nil
		}
		_, err := s.Save(t.Context(), ref, "m", "manual", stream(second))
		if err == nil && left >= 0 {
			if n < 8 {
				t.Fatalf("a save took %d requests", n)
			}
			return
		}
		b.fail = nil
		if err != nil && !errors.Is(err, broken) {
			t.Fatal(err)
		}
		b.now = b.now.Add(time.Hour) // its leases end
		again := must(OpenBucket(t.Context(), b, Options{Keys: ring(t)}))(t)
		check(t, again, first)
		must(again.Save(t.Context(), ref, "m", "manual", stream(second)))(t)
		check(t, again, second)
		must(again.Prune(t.Context(), ref, state.Retention{Last: 1}, false))(t)
		if u := must(again.Usage(t.Context()))(t); u.Snapshots != 1 {
			t.Fatalf("%d snapshots", u.Snapshots)
		}
		if packs := b.names(packsFolder); len(packs) != 1 {
			t.Fatalf("%v", packs)
		}
	}
}

func FuzzLease(f *testing.F) {
	f.Add([]byte(`{"version":1,"holder":"process 1 on here","seconds":120}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := decodeLease(b)
		if n.Seconds <= 0 || n.Seconds > int(maxLease/time.Second) || len(n.Holder) > 100 {
			t.Fatalf("%+v", n)
		}
	})
}

func FuzzTail(f *testing.F) {
	f.Add(make([]byte, packTrailer), int64(100))
	f.Fuzz(func(_ *testing.T, b []byte, size int64) {
		_, _ = decodeTail(b, size)
		_, _ = decodeIndex(bytes.NewReader(b).ReadAt, int64(len(b)))
	})
}

// Damage of any object of a bucket is found, though indexes are cached, and mended as in a folder.
func TestRepairInABucket(t *testing.T) {
	first, second := text(300_000, 1), text(300_000, 2)
	for _, wrap := range []func(vault.Key) ([]vault.Slot, error){nil, wrapped} {
		b, o := newMemBucket(), Options{Cache: t.TempDir(), Keys: ring(t)}
		s := must(InitBucket(t.Context(), b, o, wrap))(t)
		for _, content := range [][]byte{first, second} {
			must(s.Save(t.Context(), ref, "m", "manual", stream(content)))(t)
		}
		whole := maps.Clone(b.objects)
		for name := range whole {
			if strings.HasPrefix(name, "keys/") {
				continue
			}
			b.objects = maps.Clone(whole)
			o := b.objects[name]
			o.content = bytes.Clone(o.content)
			o.content[len(o.content)-10] ^= 0x80
			b.objects[name] = o
			found := must(s.Audit(t.Context(), nil, true))(t)
			if len(found.Files) != 1 {
				t.Fatalf("%s: %+v", name, found)
			}
			did := must(s.Repair(t.Context(), true, false))(t)
			if a := must(s.Audit(t.Context(), nil, true))(t); !a.Whole() || a.Snapshots != 2-len(did.Dropped) {
				t.Fatalf("%s: %+v after %+v", name, a, did)
			}
			pack := strings.HasPrefix(name, packsFolder)
			if aside := b.names("damaged/"); pack != (len(aside) == 1) || pack && string(b.objects[aside[0]].content) != string(o.content) {
				t.Fatalf("%s: aside are %v", name, aside)
			}
		}
	}
}
