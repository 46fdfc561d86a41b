package membership

import (
	"bytes"
	"time"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// A suspect refutes each suspicion once. Where that is lost on its way to one node, the suspect dies there though it lives and all others know, and
// what that node says of it is too old for it to hear. So who suspects a node tells it, directly and as long as it does, and a node that is
// told so says anew that it lives.

// doubt begins what a suspect is told; its id follows. It is no event: nodes of versions that do not know it ignore it.
var doubt = []byte("\x00doubt ")

// maxTold is how many suspects are told so after one look. Where many are suspect the machines have too much to do already, and each is told by others, too.
const maxTold = 3

// tell tells a node that it is suspect. A datagram that is lost is followed by others.
func (m *Membership) tell(suspect fabric.NodeID) {
	m.mu.Lock()
	known := m.members[suspect]
	m.mu.Unlock()
	if known == nil {
		return
	}
	_ = m.list.SendToAddress(memberlist.Address{Addr: known.gossip, Name: string(suspect)}, append(bytes.Clone(doubt), suspect...))
}

// isDoubt says whether a message is what a suspect is told, and notes it if this node is meant.
func (m *Membership) isDoubt(content []byte) bool {
	suspect, ok := bytes.CutPrefix(content, doubt)
	if ok && string(suspect) == string(m.config.Identity.ID) {
		m.doubted.Store(true)
	}
	return ok
}

// refute says anew that this node lives, if somebody doubted it since the last time.
func (m *Membership) refute() {
	if m.doubted.Swap(false) {
		_ = m.list.UpdateNode(time.Nanosecond) // does not wait until that was sent
	}
}
