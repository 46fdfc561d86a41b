package node

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/placement"
	"orrery/internal/testenv"
)

// TestPartingKeepsLog: while a chain is being split its log reaches back to where that began, also for a process that was started since.
func TestPartingKeepsLog(t *testing.T) {
	fs := vfs.NewCrashableMem()
	request, incarnation := uint64(0), uint64(0)
	start := func() (*Node, *runner) {
		t.Helper()
		d, err := disk.Open(disk.Config{Directory: "db", FS: fs, KeepEntries: 8, Recent: 16})
		if err != nil {
			t.Fatal(err)
		}
		incarnation++
		n, err := Open(Config{Self: chain.Replica{Node: "a", Incarnation: incarnation}, Disk: d})
		if err != nil {
			t.Fatal(err)
		}
		return n, n.runner(1)
	}
	write := func(n *Node, settled ...chain.ID) *runner {
		t.Helper()
		c := chain.Config{ID: 1, Bucket: "b", Epoch: incarnation, Members: []chain.Member{{Replica: n.config.Self, State: chain.Serving}}}
		if err := n.SetMap(chain.Map{Revision: request + 1, Chains: []chain.Config{c}, Settled: settled}); err != nil {
			t.Fatal(err)
		}
		r := n.runner(1)
		for range 100 {
			request++
			w := &writing{command: chain.Command{Client: 1, Request: request, Floor: request, Do: []chain.Write{{Op: chain.OpPut, Key: []byte("k")}}}}
			if err := r.do(w); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "the command to be done", func() bool { return r.applied.Load() == request })
		}
		return r
	}
	n, _ := start()
	if r := write(n); r.store.First() != 1 {
		t.Errorf("the log begins at %d", r.store.First())
	}
	if err := n.runner(1).store.Sync(); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	fs = crashed
	n, r := start()
	if _, err := r.store.Size(); err != nil || r.store.First() != 1 { // it looks at what there is before it knows anything
		t.Errorf("the log begins at %d, %v", r.store.First(), err)
	}
	if r := write(n, 1); r.store.First() == 1 {
		t.Error("the log is not cut when the split is over")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestAddedOnce: a replica that is added by two at the same time is there once.
func TestAddedOnce(t *testing.T) {
	d, err := disk.Open(disk.Config{Directory: "db", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(Config{Self: chain.Replica{Node: "a", Incarnation: 1}, Disk: d})
	if err != nil {
		t.Fatal(err)
	}
	var adding sync.WaitGroup
	for range 8 {
		adding.Go(func() {
			if _, err := n.add(7); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestPartBeginsAnew: a chain that begins anew while it is being split takes the part along that is not a chain yet, and if it begins empty so does the part.
func TestPartBeginsAnew(t *testing.T) {
	for _, empty := range []bool{false, true} {
		d, err := disk.Open(disk.Config{Directory: "db", FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		self := chain.Replica{Node: "a", Incarnation: 1}
		n, err := Open(Config{Self: self, Disk: d})
		if err != nil {
			t.Fatal(err)
		}
		c := chain.Config{ID: 1, Bucket: "b", Epoch: 1, Members: []chain.Member{{Replica: self, State: chain.Serving}}}
		split := placement.Split{Child: 2, Range: chain.Range{Start: []byte("m")}, Epoch: 2}
		tell := func() {
			t.Helper()
			if err := n.SetMap(chain.Map{Revision: c.Epoch, Chains: []chain.Config{c}, Parting: map[chain.ID]chain.ID{1: 2}}); err != nil {
				t.Fatal(err)
			}
		}
		part := func() (there bool) {
			t.Helper()
			testenv.Eventually(t, "the part to be made", func() bool {
				n.Part(1, split)
				return n.runner(2) != nil
			})
			_, there, err := n.runner(2).store.Get([]byte("moon"))
			if err != nil {
				t.Fatal(err)
			}
			return there
		}
		tell()
		w := &writing{command: chain.Command{Client: 1, Request: 1, Floor: 1, Do: []chain.Write{{Op: chain.OpPut, Key: []byte("moon")}}}}
		if err := n.runner(1).do(w); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "the command to be done", func() bool { return n.runner(1).applied.Load() == 1 })
		c.Epoch, c.Range.End = 2, split.Range.Start
		tell()
		if !part() {
			t.Error("the part does not have the key")
		}
		c.Epoch, c.Line = 3, chain.Line{Epoch: 3, Sequence: 1000, Empty: empty}
		tell()
		if has := n.runner(2) != nil; has == empty {
			t.Errorf("the chain begins empty: %v; its part is there: %v", empty, has)
		}
		c.Epoch, c.Line = 4, chain.Line{Epoch: 4, Sequence: 2000} // a line that does not say what was given up
		tell()
		if there := part(); there == empty {
			t.Errorf("the chain began empty: %v; its part has the key: %v", empty, there)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
