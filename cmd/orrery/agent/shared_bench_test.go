package agent

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// startNode runs a node in this process until the benchmark ends.
func startNode(b *testing.B, dir string) *Node {
	b.Helper()
	n := newNode(RunOptions{Dir: dir, Version: "bench", Log: io.Discard})
	if err := n.start(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = n.base.Close() })
	if err := n.base.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	return n
}

// startNodes runs a cluster, and waits until the shared keys are on all of its nodes.
func startNodes(b *testing.B, count int) []*Node {
	b.Helper()
	var all []*Node
	for i := range count {
		dir := filepath.Join(b.TempDir(), fmt.Sprint("node-", i))
		s := Settings{Name: fmt.Sprint("node-", i), Loopback: true, Listen: "127.0.0.1:0", Gossip: "127.0.0.1:0", Dashboard: "127.0.0.1:0"}
		var err error
		if i == 0 {
			_, err = Init(b.Context(), dir, "bench", s)
		} else {
			token, failed := all[0].registrar.Issue(b.Context(), fabric.RoleNode, time.Minute)
			if failed != nil {
				b.Fatal(failed)
			}
			_, err = Join(b.Context(), dir, token.Encode(), all[0].base.Address(), fabric.RoleNode, s)
		}
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, startNode(b, dir))
	}
	for {
		o, err := all[0].chains.Overview(b.Context())
		if err == nil && len(o.Chains) == 1 && len(o.Chains[0].Members) == count && o.Chains[0].Members[count-1].State == chain.Serving {
			return all
		}
		<-time.After(20 * time.Millisecond)
	}
}

// BenchmarkTables puts a key again and again into the Raft table and into the shared one, by a node that leads (or is the head) and by one that does not.
func BenchmarkTables(b *testing.B) {
	for _, count := range []int{1, 3} {
		nodes := startNodes(b, count)
		for _, i := range []int{0, count - 1}[:min(2, count)] {
			for name, table := range map[string]fabric.Table{"raft": nodes[i].table, "shared": nodes[i].shared} {
				key := "fabric/bench"
				if name == "shared" {
					key = "bench"
				}
				b.Run(fmt.Sprintf("put/%s/nodes=%d/at=%d", name, count, i), func(b *testing.B) {
					for b.Loop() {
						if _, err := table.Put(b.Context(), key, make([]byte, 1024)); err != nil {
							b.Fatal(err)
						}
					}
				})
				b.Run(fmt.Sprintf("get/%s/nodes=%d/at=%d", name, count, i), func(b *testing.B) {
					for b.Loop() {
						if _, err := table.Get(b.Context(), key); err != nil && !errors.Is(err, fabric.ErrNotFound) {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
