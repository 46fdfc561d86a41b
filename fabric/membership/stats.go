package membership

import (
	"strings"
	"sync/atomic"
)

// Stats is what came that was not heard, and who was taken for dead, since the start.
type Stats struct {
	OtherCluster uint64 `json:"otherCluster"` // datagrams and streams without this cluster's label
	WrongKey     uint64 `json:"wrongKey"`     // those that none of the keys opens
	Malformed    uint64 `json:"malformed"`    // those that are nothing; of a stream that ends too early memberlist says nothing
	Deaths       uint64 `json:"deaths"`       // members that were taken for dead, whether or not they came back
}

// stats counts.
type stats struct{ otherCluster, wrongKey, malformed, deaths atomic.Uint64 }

// Stats says what happened so far.
func (m *Membership) Stats() Stats {
	s := &m.stats
	return Stats{s.otherCluster.Load(), s.wrongKey.Load(), s.malformed.Load(), s.deaths.Load()}
}

// line takes in a line of memberlist's log, which is the only place where it says that it did not hear something, and says whether it is one of
// those. TestGarbage sees whether these are still its words.
func (s *stats) line(text string) bool {
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("unacceptable label"):
		s.otherCluster.Add(1)
	case has("Decrypt packet failed", "No installed keys could decrypt", "no installed keys could decrypt"):
		s.wrongKey.Add(1)
	case has("failed to receive", "Failed to receive", "Failed to decode", "Failed to decompress", "Failed to read remote state", "invalid msgType", "missing message type",
		"not supported", "invalid checksum", "truncated", "label header", "is not encrypted"):
		s.malformed.Add(1)
	default:
		return false
	}
	return true
}
