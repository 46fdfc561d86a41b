package table

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"orrery/fabric"
	"orrery/fabric/table/disk"
	"orrery/fabric/table/kv"
)

// brief is a context for calls that are expected to find no majority.
func (c *cluster) brief() context.Context {
	ctx, cancel := context.WithTimeout(c.Context(), 30*testTick)
	c.Cleanup(cancel)
	return ctx
}

func TestCreateTwice(t *testing.T) {
	c := Config{Self: id(0), Directory: t.TempDir()}
	if err := Create(c, "a"); err != nil {
		t.Fatal(err)
	}
	if err := Create(c, "a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v, want fs.ErrExist", err)
	}
	c.Self = id(1)
	if _, err := Open(c); !errors.Is(err, disk.ErrFormat) {
		t.Errorf("Open by another node: %v, want ErrFormat", err)
	}
}

func TestBadNodeID(t *testing.T) {
	for _, id := range []fabric.NodeID{"", "1", "0000000000000000", "ffffffffffffffff", "A1b2c3d4e5f60000", "+123456789abcdef"} {
		if _, err := Open(Config{Self: id, Directory: t.TempDir()}); err == nil {
			t.Errorf("Open with node id %q succeeded", id)
		}
	}
}

func TestJoinKeepsQuorum(t *testing.T) {
	simulate(t, 1, func(c *cluster) {
		// The second node is added and never comes: the first goes on alone.
		if err := c.table(id(0)).Add(c.within(), id(1), "nowhere"); err != nil {
			c.Fatal(err)
		}
		c.put(id(0), "a", "1")
		c.settled(1, 1)
		if err := c.table(id(0)).Remove(c.within(), id(1)); err != nil {
			c.Fatal(err)
		}
		c.settled(1, 0)
		if err := c.table(id(0)).Remove(c.within(), id(0)); !errors.Is(err, ErrLastNode) {
			c.Errorf("Remove of the last node: %v", err)
		}
	})
}

func TestMembersGrowAndShrink(t *testing.T) {
	simulate(t, 2, func(c *cluster) {
		c.settled(1, 1)
		c.put(id(1), "a", "1") // a learner writes through the leader
		c.want(id(1), "a", "1")
		c.join(id(2))
		c.settled(3, 0)
		c.join(id(3))
		c.settled(3, 1)
		// The leader leaves: somebody else takes over, and the learner gets its vote.
		leaver := c.leader()
		if err := c.table(leaver).Remove(c.within(), leaver); err != nil {
			c.Fatal(err)
		}
		c.stop(leaver)
		c.settled(3, 0)
		for _, id := range c.ids {
			if id != leaver {
				c.want(id, "a", "1")
			}
		}
	})
}

func TestDeadVoterIsReplaced(t *testing.T) {
	simulate(t, 3, func(c *cluster) {
		c.join(id(3))
		c.settled(3, 1)
		dead := id(1)
		c.stop(dead)
		c.until("the learner votes instead of the dead node", func() bool {
			s := c.table(c.leader()).Status()
			return len(s.Voters) == 3 && len(s.Learners) == 1 && s.Learners[0] == dead
		})
	})
}

func TestNoQuorum(t *testing.T) {
	simulate(t, 3, func(c *cluster) {
		c.put(id(0), "a", "1")
		c.want(id(2), "a", "1")
		c.stop(id(0))
		c.stop(id(1))
		table := c.table(id(2))
		_, get := table.Get(c.brief(), "a")
		_, put := table.Put(c.brief(), "a", nil)
		_, list := table.List(c.brief(), "a")
		for _, err := range []error{get, put, list} {
			if !errors.Is(err, fabric.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) {
				c.Errorf("without a majority: %v, want ErrNoQuorum", err)
			}
		}
		changes, err := table.Watch(c.within(), "a")
		if err != nil {
			c.Fatal(err)
		}
		if first := <-changes; len(first.Entries) != 1 || string(first.Entries[0].Value) != "1" {
			c.Errorf("watch without a majority: %+v", first)
		}
		c.start(id(0))
		c.put(id(2), "a", "2")
	})
}

func TestStaleLeaderAnswersNothing(t *testing.T) {
	simulate(t, 3, func(c *cluster) {
		old := c.leader()
		c.put(old, "a", "old")
		c.isolate(old, true)
		// At this moment it still takes itself for the leader.
		if e, err := c.table(old).Get(c.brief(), "a"); !errors.Is(err, fabric.ErrNoQuorum) {
			c.Errorf("a leader that was cut off answered %s, %v", e.Value, err)
		}
		abandoned := make(chan error, 1)
		go func() {
			_, err := c.table(old).Put(c.within(), "b", []byte("written while cut off"))
			abandoned <- err
		}()
		c.until("another leader", func() bool { return c.leader() != old })
		c.put(c.leader(), "a", "new")
		c.isolate(old, false)
		c.want(old, "a", "new")
		if err := <-abandoned; err != nil {
			c.Errorf("a write that waited for the network: %v", err)
		}
		c.want(old, "b", "written while cut off")
	})
}

func TestLaggardGetsSnapshot(t *testing.T) {
	simulate(t, 3, func(c *cluster) {
		laggard := id(2)
		c.put(id(0), "gone", "1")
		c.want(laggard, "gone", "1")
		changes, err := c.table(laggard).Watch(c.within(), "")
		if err != nil {
			c.Fatal(err)
		}
		<-changes
		c.isolate(laggard, true)
		at := c.table(laggard).Status().Applied
		large := strings.Repeat("x", 200<<10)
		leader := c.leader()
		for i := range 50 { // 10 MB through a log that keeps 8 at most
			c.put(leader, fmt.Sprint("key", i%4), large)
		}
		if err := c.table(leader).Delete(c.within(), "gone", 0); err != nil {
			c.Fatal(err)
		}
		if first := c.table(leader).Status().First; first <= at {
			c.Fatalf("the log was not trimmed: it begins at %d", first)
		}
		// The first snapshot gets lost, and nothing tells the leader.
		lost := false
		c.mu.Lock()
		c.filter = func(_, _ fabric.NodeID, message []byte) bool {
			var m raftpb.Message
			if proto.Unmarshal(message, &m) == nil && m.GetType() == raftpb.MsgSnap && !lost {
				lost = true
				return false
			}
			return true
		}
		c.mu.Unlock()
		c.isolate(laggard, false)
		c.want(laggard, "key3", large)
		if _, err := c.table(laggard).Get(c.within(), "gone"); !errors.Is(err, fabric.ErrNotFound) {
			c.Errorf("a key that the snapshot does not have: %v", err)
		}
		if !lost {
			c.Error("no snapshot was sent")
		}
		for deleted := false; !deleted; {
			for _, e := range (<-changes).Entries {
				deleted = deleted || e.Key == "gone" && e.Value == nil
			}
		}
		c.stop(laggard)
		c.start(laggard)
		c.put(laggard, "after", "restart")
		c.want(laggard, "key3", large)
	})
}

func TestRestartAll(t *testing.T) {
	simulate(t, 3, func(c *cluster) {
		revision := c.put(id(1), "a", "1")
		for _, id := range c.ids {
			c.stop(id)
		}
		for _, id := range c.ids {
			c.start(id)
		}
		for _, id := range c.ids {
			c.want(id, "a", "1")
		}
		if again := c.put(id(2), "a", "2"); again != revision+1 {
			c.Errorf("revision %d after %d", again, revision)
		}
	})
}

// TestCrashes loses power on one machine after the other, or on all at once, with what was not synced; what was acknowledged stays.
func TestCrashes(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			simulate(t, nodes, func(c *cluster) {
				acknowledged := map[string]string{}
				for round := range 12 {
					c.crashRound(round, acknowledged)
				}
			})
		})
	}
}

func (c *cluster) crashRound(round int, acknowledged map[string]string) {
	c.Helper()
	nodes := len(c.ids)
	for i := range 10 {
		key, value := fmt.Sprint("k", i), fmt.Sprint(round)
		c.put(c.ids[i%nodes], key, value)
		acknowledged[key] = value
	}
	down := c.ids
	if round%2 == 0 {
		down = c.ids[round%nodes:][:1]
	}
	for _, id := range down {
		c.crash(id)
	}
	for _, id := range down {
		c.start(id)
	}
	for key, value := range acknowledged {
		c.want(c.ids[round%nodes], key, value)
	}
}

// TestDiskFails: a table whose disk fails stops with an error that says so, and after a restart has what it acknowledged.
func TestDiskFails(t *testing.T) {
	for name, fails := range map[string]func(errorfs.Op) bool{
		"full":     func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite },
		"next log": func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite },
		"tables alone": func(op errorfs.Op) bool {
			return op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".sst")
		},
	} {
		t.Run(name, func(t *testing.T) { diskFails(t, fails) })
	}
}

func diskFails(t *testing.T, fails func(errorfs.Op) bool) {
	t.Helper()
	c := newCluster(t, 1) // in real time: a Pebble that failed leaves goroutines behind, which a simulation does not allow
	node := id(0)
	full := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fails(op) {
			return syscall.ENOSPC
		}
		return nil
	})}
	c.stop(node)
	table := c.startOn(node, errorfs.Wrap(c.disks[node], full))
	c.put(node, "a", "1")
	full.On()
	var err error
	for i := 0; err == nil && i < 200; i++ {
		_, err = table.Put(c.within(), "b", make([]byte, 200<<10))
	}
	if err == nil || !strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
		c.Errorf("write to a disk that fails: %v", err)
	}
	select {
	case <-table.Done():
	case <-c.within().Done():
		c.Fatal("the table goes on with a disk that fails")
	}
	if err := table.Close(); err == nil {
		c.Error("Close does not say that the table had stopped")
	}
	c.disks[node] = c.disks[node].CrashClone(vfs.CrashCloneCfg{})
	c.start(node)
	c.want(node, "a", "1")
}

// TestSlowDisks: while the followers' syncs take nearly as long as an election, so that some writes take longer than a
// lost proposal is waited for, the leader stays and every write is in the log once.
func TestSlowDisks(t *testing.T) {
	simulate(t, 3, func(c *cluster) {
		disks := map[fabric.NodeID]*errorfs.Toggle{}
		for _, id := range c.ids {
			disks[id] = &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") {
					<-time.After(8 * testTick)
				}
				return nil
			})}
			c.stop(id)
			c.startOn(id, errorfs.Wrap(c.disks[id], disks[id]))
		}
		leader := c.leader()
		c.put(leader, "a", "0")
		for id, disk := range disks {
			if id != leader {
				disk.On()
			}
		}
		const writers, each = 4, 10
		before := c.table(leader).Status()
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				for range each {
					if _, err := c.table(leader).Put(c.within(), "a", nil); err != nil {
						c.Error(err)
					}
				}
			})
		}
		group.Wait()
		after := c.table(leader).Status()
		if after.Term != before.Term || after.Leader != leader {
			c.Errorf("leader %s of term %d after %s of term %d", after.Leader, after.Term, leader, before.Term)
		}
		if entries := after.Applied - before.Applied; entries != writers*each {
			c.Errorf("%d writes are %d entries of the log", writers*each, entries)
		}
	})
}

func TestGarbageOnDisk(t *testing.T) {
	simulate(t, 1, func(c *cluster) {
		for i := range 20 {
			c.put(id(0), fmt.Sprint(i), strings.Repeat("x", 1000))
		}
		c.stop(id(0))
		disks := c.disks[id(0)]
		names, err := disks.List("table")
		if err != nil {
			c.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, "MANIFEST") {
				f, err := disks.OpenReadWrite("table/"+name, vfs.WriteCategoryUnspecified)
				if err != nil {
					c.Fatal(err)
				}
				if _, err := f.WriteAt([]byte("garbage garbage garbage"), 3); err != nil {
					c.Fatal(err)
				}
				if err := f.Close(); err != nil {
					c.Fatal(err)
				}
			}
		}
		if table, err := open(c.config(id(0)), disk.Config{Directory: "table", FS: disks}); err == nil {
			c.Errorf("a broken database was opened: %v", table.Close())
		}
	})
}

func TestReceiveRefuses(t *testing.T) {
	simulate(t, 1, func(c *cluster) {
		table := c.table(id(0))
		self, other := table.self, table.self+1
		for name, m := range map[string]*raftpb.Message{
			"for another node":  {Type: raftpb.MsgHeartbeat.Enum(), From: new(other), To: new(other)},
			"in another's name": {Type: raftpb.MsgHeartbeat.Enum(), From: new(other + 1), To: new(self)},
			"with a configuration": {
				Type: raftpb.MsgProp.Enum(), From: new(other), To: new(self),
				Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum()}},
			},
			"of a local kind": {Type: raftpb.MsgHup.Enum(), From: new(other), To: new(self)},
		} {
			if err := table.Receive(nodeID(other), marshalled(c, m)); !errors.Is(err, fabric.ErrForbidden) {
				c.Errorf("message %s: %v", name, err)
			}
		}
		poison := &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(other), To: new(self), Entries: []*raftpb.Entry{{Data: []byte("poison")}}}
		if err := table.Receive(nodeID(other), marshalled(c, poison)); !errors.Is(err, kv.ErrBadEncoding) {
			c.Errorf("a command that nobody can apply: %v", err)
		}
		if err := table.Receive(nodeID(other), []byte("garbage")); err == nil {
			c.Error("garbage was accepted")
		}
		c.put(id(0), "a", "1")
	})
}

func marshalled(tb testing.TB, m *raftpb.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func FuzzDecodeMessage(f *testing.F) {
	self, err := raftID(id(0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshalled(f, &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: new(self + 1), To: new(self), Entries: []*raftpb.Entry{{Data: []byte("x")}}}))
	f.Add(marshalled(f, &raftpb.Message{Type: raftpb.MsgHup.Enum(), From: new(self + 1), To: new(self)}))
	f.Fuzz(func(t *testing.T, encoded []byte) {
		if m, err := decodeMessage(id(1), self, encoded); err == nil && m.GetTo() != self {
			t.Error("took a message for another node")
		}
	})
}
