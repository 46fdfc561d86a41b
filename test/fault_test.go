package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orrery/fabric/chain/placement"
	"orrery/internal/testenv"
)

// A node is killed at named steps: around a sync, before it passes something on, and around its part of
// a split. Nothing that was acknowledged is lost, and no read is stale.
func TestChainsSurviveFaultPoints(t *testing.T) {
	names := hosts(3)
	c := newCluster(t, names...)
	if c.bin.temporary == "" {
		testenv.Missing(t, "a binary with fault points (go build -tags faults)", "unset ORRERY_BIN")
	}
	s := startChains(c, names)
	parts := 0
	points := []string{"chain.synced=kill@20", "chain.send=kill@50", "disk.part.copied=kill", "chain.sync=kill@20", "chain.part=kill", "chain.parted=kill"}
	for _, point := range points[:min(rounds(3), len(points))] {
		n := s.member(0)
		n.kill()
		s.more(20)
		n.faults = point
		n.launch()
		if strings.Contains(point, "part") {
			n.awaitAnswer()
			s.whole()
			s.split(fmt.Sprint("k", 2*parts))
			parts++
		}
		eventually(t, 60*time.Second, func() error { // clients write, and it comes to its point
			if n.process.running() {
				return fmt.Errorf("%s is not reached", point)
			}
			return nil
		})
		n.faults = ""
		s.more(20)
		n.start()
		s.whole()
	}
	s.end()
	if o := s.whole(); len(o.Chains) != 3+parts { // two of the bucket at first, and the nodes' own
		t.Errorf("%d chains, there should be %d", len(o.Chains), 3+parts)
	}
}

// split begins to split the chain that has a key, at the key.
func (s *chains) split(key string) {
	s.Helper()
	eventually(s.T, 60*time.Second, func() error {
		o, err := s.overview()
		if err != nil {
			return err
		}
		for _, v := range o.Chains {
			if v.Bucket == "b" && v.Range.Contains([]byte(key)) {
				return s.order(v, key)
			}
		}
		return errors.New("no chain has the key")
	})
}

func (s *chains) order(v placement.ChainView, key string) error {
	for _, n := range s.nodes {
		if n.process.running() {
			_, err := s.run(n.dir, "kv", "split", fmt.Sprint(uint64(v.ID)), key)
			return err
		}
	}
	return errors.New("no node runs")
}
