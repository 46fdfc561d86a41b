package membership

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// Gossip reaches everybody probably. What it missed would wait for the next full exchange with another node, of which there is one in
// half a minute or, with many nodes, in minutes. So every answer to a probe carries how many the answerer believes to be there, and a
// digest of them: with one that sees clearly more we make an exchange at once, with one that sees more if that lasts, and with any if the digests
// stay different while nothing changes here. Where many join at once gossip is busy for long with the news, so a newcomer does not wait for it.

const (
	exchangePause = 500 * time.Millisecond // at least, between two exchanges
	firstRepair   = time.Second            // how long digests may differ, for gossip to settle
	lastRepair    = 30 * time.Second       // where exchanges do not help, as with a copied identity
	newcomer      = 10 * time.Second       // how long a node is one
	digestSize    = 12
)

// repair is what is planned to make this node's view that of the others.
type repair struct {
	there   uint32 // how many are
	digest  uint64 // of them
	born    time.Time
	last    time.Time     // exchange
	behind  time.Time     // since when answers come of nodes that see more; zero: they do not
	differs time.Time     // since when all answers differ; zero: they do not
	pause   time.Duration // how long they have to
	partner fabric.NodeID // with whom to make an exchange
}

var _ memberlist.PingDelegate = (*Membership)(nil)

// AckPayload is memberlist's: what to answer a probe with.
func (m *Membership) AckPayload() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, m.repair.digest), m.repair.there)
}

// NotifyPingComplete is memberlist's: a node answered a probe.
func (m *Membership) NotifyPingComplete(n *memberlist.Node, _ time.Duration, said []byte) {
	if len(said) != digestSize {
		return // it was asked over TCP, or another version runs there
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.repair.heard(fabric.NodeID(n.Name), binary.BigEndian.Uint64(said), binary.BigEndian.Uint32(said[8:]), time.Now()) {
		m.wake(m.kick)
	}
}

// heard takes in a node's digest. It says whether an exchange with it is due.
func (r *repair) heard(from fabric.NodeID, digest uint64, there uint32, now time.Time) bool {
	if digest == r.digest {
		r.behind = time.Time{}
		r.agreed()
		return false
	}
	switch {
	case r.lacks(there, now):
	case r.differs.IsZero():
		r.differs = now
		return false
	case now.Sub(r.differs) >= r.pause:
		r.pause = min(2*r.pause, lastRepair)
	default:
		return false
	}
	r.partner, r.last, r.behind, r.differs = from, now, now, now
	return true
}

// lacks says whether an exchange is due with a node that sees so many.
func (r *repair) lacks(there uint32, now time.Time) bool {
	if there <= r.there {
		return false
	}
	if r.behind.IsZero() {
		r.behind = now
	}
	urgent := there > r.there+r.there/16 || now.Sub(r.born) < newcomer || now.Sub(r.behind) >= firstRepair
	return urgent && now.Sub(r.last) >= exchangePause
}

func (r *repair) agreed() { r.differs, r.pause = time.Time{}, firstRepair }

// noted takes in that a member changed from before to after, either of which may be nil.
func (r *repair) noted(before, after *member) {
	was, were := r.digest, r.there
	if before != nil && before.State.Present() {
		r.digest ^= before.digest()
		r.there--
	}
	if after != nil && after.State.Present() {
		r.digest ^= after.digest()
		r.there++
	}
	if r.digest != was {
		r.agreed() // until answers come
	}
	if r.there < were { // the others will hear of it, too
		r.behind = time.Time{}
	}
}

func (m *member) digest() uint64 {
	sum := sha256.Sum256(append([]byte(m.ID+"\x00"), m.said...))
	return binary.BigEndian.Uint64(sum[:])
}

// exchange is the address of the node with which to make a full exchange now, or nobody's. The caller holds the lock.
func (m *Membership) exchange() []string {
	known := m.members[m.repair.partner]
	m.repair.partner = ""
	if known == nil || !known.State.Present() {
		return nil
	}
	return []string{known.gossip}
}
