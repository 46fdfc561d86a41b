package membership

import (
	"math"
	"time"

	"github.com/hashicorp/memberlist"
)

// settings are memberlist's for a profile. They begin with its own for a LAN, which take ten seconds to notice a death among two
// hundred nodes, and up to a minute until all see all.
func (p Profile) settings() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	// Its LZW costs more processor time than the bytes are worth: 200 nodes on two cores do not settle with it.
	c.EnableCompression = false
	// A helper that is asked to probe says that it could not after its own timeout. With twice the timeout below the interval that comes in
	// time, and a node does not take itself for slow because another one died.
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 200*time.Millisecond
	c.GossipNodes = 2 // of three that are told, the third is mostly told what it knows
	c.SuspicionMaxTimeoutMult = 4
	if p == Local {
		c.IndirectChecks, c.RetransmitMult = 1, 2
		c.GossipInterval = 100 * time.Millisecond
		c.SuspicionMaxTimeoutMult = 3
		c.PushPullInterval, c.GossipToTheDeadTime = 15*time.Second, 15*time.Second
	}
	c.TCPTimeout = 5 * time.Second
	// A node that was killed may come back at another port, and at once.
	c.DeadNodeReclaimTime = time.Millisecond
	return c
}

// patience is how long a suspect has at least to refute.
func (p Profile) patience() time.Duration {
	if p == Local {
		return 1500 * time.Millisecond
	}
	return 4 * time.Second
}

// suspicion is memberlist's SuspicionMult for a number of nodes. memberlist multiplies it by the interval of probes and by the logarithm of the
// number, so that with a fixed one few nodes would be hasty or many slow. With this one a suspect has as long in any cluster,
// and much longer while nobody else confirms the suspicion.
func suspicion(patience, interval time.Duration, nodes int) int {
	scale := math.Max(1, math.Log10(float64(max(1, nodes))))
	return int(math.Ceil(patience.Seconds() / (interval.Seconds() * scale)))
}

// adjust sets how patient this node is with the next suspect. The caller holds memberlist's lock, as memberlist does when it reads that.
// A node that is slow itself is the more patient: Lifeguard lets it wait longer for answers to its probes, and here it waits longer for refutations.
func (m *Membership) adjust() {
	c := m.config.Profile.caution()
	more := time.Duration(c.times-1) * m.config.patience * time.Duration(m.strain.Load()) / time.Duration(maxStrain*c.fade)
	patience := m.config.patience + more
	m.settings.SuspicionMult = suspicion(patience, m.settings.ProbeInterval, int(m.events.alive.Load()))
}

const (
	maxStrain  = 4
	usualScore = 2 // Lifeguard's score of a node that saw another one die
)

// caution is what strain does to a node's patience.
type caution struct {
	late  time.Duration // of a clock, for a strain of one
	fade  int64         // looks until a strain is less by one
	times int64         // as patient is a node at the most
}

func (p Profile) caution() caution {
	if p == Local { // little patience, and a machine that may have other things to do
		return caution{late: 100 * time.Millisecond, fade: 25, times: 5}
	}
	return caution{late: 200 * time.Millisecond, fade: 5, times: 3}
}

// first is the strain of a node that starts: it is three times as patient, for where one node starts many may.
func (c caution) first() int64 { return maxStrain * c.fade * 2 / (c.times - 1) }

// strained takes in how well this node does, by Lifeguard's score and by how late a clock rang, as it does where the process gets less
// of the processor than it needs.
func (m *Membership) strained(late time.Duration) {
	c := m.config.Profile.caution()
	now := int64(max(m.list.GetHealthScore()-usualScore, int(late/c.late)))
	m.strain.Store(max(min(now, maxStrain)*c.fade, m.strain.Load()-1))
}
