package event_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"orrery/fabric"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/event"
	"orrery/internal/testenv"
)

// TestFullDisk fills the disk under the log: what cannot be written is not sent, what comes waits; and when there is room all goes on.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "512k")
	c := authoritytest.NewCluster(t, "one")
	gossip := &recorded{}
	s := alone(t, event.Config{Authority: c.First, Directory: filepath.Join(disk, "events"), Broadcast: gossip.broadcast})
	n := &node{Service: s, holder: c.First}
	others := envelopes(t, event.Config{Authority: c.Admit(t, "two", fabric.RoleNode)}, 2)
	send(t, n, "before", "")
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	sent := 1
	for { // the last block of the log may have room
		if _, err = s.Send("f", nil, ""); err != nil {
			break
		}
		sent++
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	for _, e := range others {
		s.Heard(event.GossipName, e)
	}
	testenv.Eventually(t, "failing", func() bool { return s.Status().Failed > 1 })
	if st := s.Status(); st.Sent != uint64(sent) || st.Last != uint64(sent) || st.Received != 0 || st.Waiting != 2 {
		t.Errorf("%d sent, %+v", sent, st)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	send(t, n, "after", "")
	all := n.collect(t, ever(), sent+3)
	names := map[string]int{}
	for _, e := range all {
		names[e.Name]++
	}
	if names["before"] != 1 || names["f"] != sent-1 || names["after"] != 1 || names["a"] != 2 {
		t.Errorf("%v", names)
	}
}
