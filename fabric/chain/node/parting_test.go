package node

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
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
