package kv_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"orrery/fabric"
	"orrery/fabric/table/kv"
)

func command(sequence uint64, op kv.Op, key, value string, expect uint64) kv.Command {
	return kv.Command{Client: 1, Incarnation: 1, Sequence: sequence, Floor: 1, Op: op, Key: key, Expect: expect, Value: []byte(value)}
}

func TestRetryHappensOnce(t *testing.T) {
	m := kv.New()
	swap := command(1, kv.OpSwap, "a", "1", 0)
	first, changed := m.Apply(swap)
	if first.Err() != nil || changed == nil {
		t.Fatalf("first time: %+v, %v", first, changed)
	}
	other := command(1, kv.OpPut, "a", "other", 0)
	other.Client = 2
	m.Apply(other)
	again, changed := m.Apply(swap)
	if again != first || changed != nil {
		t.Errorf("second time: %+v, %v; want %+v and no change", again, changed, first)
	}
	if e, _ := m.Get("a"); string(e.Value) != "other" {
		t.Errorf("the retry wrote %q over a later write", e.Value)
	}
}

func TestRetryOfConflictStaysConflict(t *testing.T) {
	m := kv.New()
	put := command(1, kv.OpPut, "a", "1", 0)
	r, _ := m.Apply(put)
	swap := command(2, kv.OpSwap, "a", "2", 0)
	if r, _ := m.Apply(swap); !errors.Is(r.Err(), fabric.ErrConflict) {
		t.Fatalf("%+v", r)
	}
	m.Apply(command(3, kv.OpDelete, "a", "", r.Revision))
	if r, changed := m.Apply(swap); !errors.Is(r.Err(), fabric.ErrConflict) || changed != nil {
		t.Errorf("the retry of a conflict: %+v, %v", r, changed)
	}
}

func TestGivenUpCommandIsNotAppliedLate(t *testing.T) {
	m := kv.New()
	later := command(5, kv.OpPut, "a", "5", 0)
	later.Floor = 4
	m.Apply(later)
	for sequence := range uint64(4) {
		if r, changed := m.Apply(command(sequence, kv.OpPut, "a", "old", 0)); !errors.Is(r.Err(), kv.ErrSuperseded) || changed != nil {
			t.Errorf("sequence %d below the floor: %+v, %v", sequence, r, changed)
		}
	}
	if r, changed := m.Apply(command(4, kv.OpPut, "a", "4", 0)); r.Err() != nil || changed == nil {
		t.Errorf("sequence 4 at the floor: %+v, %v", r, changed)
	}
}

func TestOldIncarnationIsRefused(t *testing.T) {
	m := kv.New()
	m.Apply(command(9, kv.OpPut, "a", "first", 0))
	second := command(1, kv.OpPut, "a", "second", 0)
	second.Incarnation = 2
	if r, _ := m.Apply(second); r.Err() != nil {
		t.Fatalf("a new incarnation begins at sequence 1: %+v", r)
	}
	if r, changed := m.Apply(command(10, kv.OpPut, "a", "late", 0)); !errors.Is(r.Err(), kv.ErrSuperseded) || changed != nil {
		t.Errorf("a late command of the old incarnation: %+v, %v", r, changed)
	}
}

func TestResultsBelowFloorAreForgotten(t *testing.T) {
	m := kv.New()
	for sequence := uint64(1); sequence < 5000; sequence++ {
		c := command(sequence, kv.OpPut, "a", "", 0)
		c.Floor = sequence
		m.Apply(c)
	}
	if n := len(m.Session(1).Results); n != 1 {
		t.Errorf("%d results are remembered, want 1", n)
	}
}

func TestFull(t *testing.T) {
	m := kv.New()
	value := strings.Repeat("x", kv.MaxValue)
	sequence := uint64(0)
	apply := func(op kv.Op, key, value string) error {
		sequence++
		c := command(sequence, op, key, value, 0)
		c.Floor = sequence
		r, _ := m.Apply(c)
		return r.Err()
	}
	n := 0
	for ; apply(kv.OpPut, fmt.Sprint(n), value) == nil; n++ {
	}
	if n != kv.MaxSize/kv.MaxValue-1 {
		t.Errorf("%d values of %d bytes fit into %d", n, kv.MaxValue, kv.MaxSize)
	}
	if err := apply(kv.OpPut, "x", value); !errors.Is(err, kv.ErrFull) {
		t.Errorf("write into a full table: %v", err)
	}
	if err := apply(kv.OpPut, "0", value[1:]); err != nil {
		t.Errorf("a smaller value in a full table: %v", err)
	}
	if err := apply(kv.OpDelete, "1", ""); err != nil {
		t.Errorf("deletion in a full table: %v", err)
	}
	if err := apply(kv.OpPut, "x", value); err != nil {
		t.Errorf("write after a deletion: %v", err)
	}
	if _, err := kv.Restore(m.Snapshot()); err != nil {
		t.Error(err)
	}
}

// naive is the obvious table.
type naive struct {
	entries  map[string]fabric.Entry
	revision uint64
}

func (n *naive) apply(c kv.Command) (uint64, error) {
	e, ok := n.entries[c.Key]
	if (c.Op == kv.OpSwap || c.Op == kv.OpDelete && c.Expect != 0) && e.Revision != c.Expect {
		return n.revision, fabric.ErrConflict
	}
	if c.Op == kv.OpDelete {
		if ok {
			n.revision++
			delete(n.entries, c.Key)
		}
		return n.revision, nil
	}
	n.revision++
	n.entries[c.Key] = fabric.Entry{Key: c.Key, Value: c.Value, Revision: n.revision}
	return n.revision, nil
}

// TestAgainstNaive applies random commands, some of them repeatedly, to the machine and to the obvious table, restores the machine
// from its encodings now and then, and compares.
func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 0))
		m, n := kv.New(), &naive{entries: map[string]fabric.Entry{}}
		var history []kv.Command
		for sequence := range uint64(300) {
			key := strings.Repeat("k", 1+random.IntN(5))
			c := command(sequence+1, kv.Op(1+random.IntN(3)), key, fmt.Sprint(sequence), 0)
			if random.IntN(2) == 0 {
				c.Expect = n.entries[key].Revision
			}
			history = append(history, c)
			c = decoded(t, c)
			before := clone(t, m)
			r, changed := m.Apply(c)
			revision, err := n.apply(c)
			if r.Revision != revision || !errors.Is(r.Err(), err) {
				t.Fatalf("seed %d: %+v: %+v; want %d, %v", seed, c, r, revision, err)
			}
			if difference := m.Difference(before); (changed == nil) != (len(difference) == 0) || changed != nil && !cmp.Equal(*changed, difference[0], cmpopts.EquateEmpty()) {
				t.Fatalf("seed %d: changed %v, and the difference is %v", seed, changed, difference)
			}
			if _, changed := m.Apply(history[random.IntN(len(history))]); changed != nil {
				t.Fatalf("seed %d: a retry changed %v", seed, changed)
			}
			if random.IntN(50) == 0 {
				m = clone(t, m)
			}
		}
		for prefix := range slices.Values([]string{"", "k", "kkk", "x"}) {
			var want []fabric.Entry
			for _, e := range n.entries {
				if strings.HasPrefix(e.Key, prefix) {
					want = append(want, e)
				}
			}
			slices.SortFunc(want, func(a, b fabric.Entry) int { return strings.Compare(a.Key, b.Key) })
			if d := cmp.Diff(want, m.List(prefix), cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("seed %d: %s", seed, d)
			}
		}
	}
}

func decoded(t *testing.T, c kv.Command) kv.Command {
	t.Helper()
	d, err := kv.DecodeCommand(c.Encode())
	if err != nil || !cmp.Equal(c, d, cmpopts.EquateEmpty()) {
		t.Fatalf("%+v became %+v, %v", c, d, err)
	}
	return d
}

func clone(t *testing.T, m *kv.Machine) *kv.Machine {
	t.Helper()
	snapshot := m.Snapshot()
	restored, err := kv.Restore(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(restored.Snapshot(), snapshot) {
		t.Fatal("the snapshot of a restored machine is another one")
	}
	return restored
}

func TestSnapshotNoticesAnyFlippedBit(t *testing.T) {
	m := kv.New()
	m.Apply(command(1, kv.OpPut, "a", "1", 0))
	m.Apply(command(2, kv.OpPut, "b", "2", 0))
	snapshot := m.Snapshot()
	for bit := range len(snapshot) * 8 {
		broken := bytes.Clone(snapshot)
		broken[bit/8] ^= 1 << (bit % 8)
		if _, err := kv.Restore(broken); !errors.Is(err, kv.ErrBadEncoding) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
	}
}

func FuzzDecodeCommand(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Add(command(1, kv.OpPut, "key", "value", 0).Encode())
	f.Add(command(1<<63, kv.OpSwap, "k", "", 1<<63).Encode())
	f.Add(command(3, kv.OpDelete, strings.Repeat("k", kv.MaxKey), "", 9).Encode())
	f.Fuzz(func(t *testing.T, encoded []byte) {
		c, err := kv.DecodeCommand(encoded)
		if err != nil {
			if !errors.Is(err, kv.ErrBadEncoding) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := kv.DecodeCommand(c.Encode())
		if err != nil || !cmp.Equal(c, again) {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
		kv.New().Apply(c)
	})
}

func FuzzRestore(f *testing.F) {
	m := kv.New()
	f.Add(m.Snapshot()[:len(m.Snapshot())-4])
	m.Apply(command(1, kv.OpPut, "a", "1", 0))
	m.Apply(command(2, kv.OpPut, "b", "2", 0))
	f.Add(m.Snapshot()[:len(m.Snapshot())-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		// With the right checksum, so that the fuzzer gets past it.
		sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
		m, err := kv.Restore(binary.BigEndian.AppendUint32(bytes.Clone(body), sum))
		if err != nil {
			if !errors.Is(err, kv.ErrBadEncoding) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := kv.Restore(m.Snapshot())
		if err != nil || !bytes.Equal(again.Snapshot(), m.Snapshot()) {
			t.Fatalf("a restored machine cannot be restored again: %v", err)
		}
	})
}

// While the seal is there, keys but the table's own are not written; what was refused stays refused.
func TestSealed(t *testing.T) {
	m := kv.New()
	if r, _ := m.Apply(command(1, kv.OpPut, "a", "1", 0)); r.Err() != nil || m.Sealed("a") != nil {
		t.Fatalf("%+v", r)
	}
	m.Apply(command(2, kv.OpSwap, kv.SealKey, "{}", 0))
	for i, op := range []kv.Op{kv.OpPut, kv.OpSwap, kv.OpDelete} {
		if r, changed := m.Apply(command(uint64(3+i), op, "a", "2", 1)); !errors.Is(r.Err(), kv.ErrSealed) || changed != nil { //nolint:gosec // small
			t.Errorf("operation %d: %+v", op, r)
		}
	}
	if r, _ := m.Apply(command(6, kv.OpPut, "fabric/name/a", "1", 0)); r.Err() != nil {
		t.Errorf("a key of the table's own: %+v", r)
	}
	// Programs that know version 1 only must not go on with a table that is sealed.
	snapshot := m.Snapshot()
	if c := command(2, kv.OpSwap, kv.SealKey, "{}", 0).Encode(); snapshot[0] != 2 || c[0] != 2 || kv.EncodeEntry(fabric.Entry{Key: kv.SealKey, Revision: 1})[0] != 2 {
		t.Errorf("what is sealed has version %d, the command %d", snapshot[0], c[0])
	}
	restored, err := kv.Restore(snapshot)
	if err != nil || !errors.Is(restored.Sealed(""), kv.ErrSealed) || restored.Sealed("fabric/") != nil {
		t.Errorf("after a snapshot: %v, %v", restored.Sealed(""), err)
	}
	m.Apply(command(7, kv.OpDelete, kv.SealKey, "", 0))
	if snapshot := m.Snapshot(); snapshot[0] != 1 {
		t.Errorf("without the seal the version is %d", snapshot[0])
	}
	if r, _ := m.Apply(command(3, kv.OpPut, "a", "2", 1)); !errors.Is(r.Err(), kv.ErrSealed) {
		t.Errorf("the retry of a refused write: %+v", r)
	}
	if r, _ := m.Apply(command(8, kv.OpPut, "a", "3", 0)); r.Err() != nil {
		t.Errorf("a write without the seal: %+v", r)
	}
}
