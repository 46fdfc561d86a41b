package placement

import (
	"fmt"
	"strings"
	"time"

	"orrery/fabric"
)

// Stale says why an Overview is only what a node knew last.
type Stale struct {
	Why    string    `json:"why"`            // the keeper could not be asked
	Since  time.Time `json:"since,omitzero"` // when the node heard of a keeper last; zero: not since it started
	Voters []Voter   `json:"voters"`         // those that decide about the chain table
}

// Voter is a node that votes on the chain table.
type Voter struct {
	Node    fabric.NodeID `json:"node"`
	Answers bool          `json:"answers"` // when it was asked just now
	Why     string        `json:"why,omitempty"`
}

// String says which majority is missing.
func (s *Stale) String() string {
	var there, missing []string
	for _, v := range s.Voters {
		if v.Answers {
			there = append(there, string(v.Node))
		} else {
			missing = append(missing, string(v.Node))
		}
	}
	need := len(s.Voters)/2 + 1
	since := "since this node started"
	if !s.Since.IsZero() {
		since = "since " + s.Since.Format(time.DateTime)
	}
	answer := "none answers"
	if len(there) > 0 {
		answer = strings.Join(there, ", ") + " can be asked"
	}
	text := fmt.Sprintf("the chain table has had no keeper %s: %d of %d voters are needed, and %s", since, need, len(s.Voters), answer)
	if len(there) >= need {
		return text + ", so there should be one in a moment"
	}
	return text + "; bring back " + strings.Join(missing, " or ")
}

// FromRecords is the overview that the chain table's records give without a keeper: nobody's reports are in it.
func FromRecords(entries []fabric.Entry) (Overview, error) {
	var last KeeperRecord
	for _, e := range entries {
		if e.Key == KeeperKey {
			var err error
			if last, err = DecodeKeeper(e.Value); err != nil {
				return Overview{}, err
			}
		}
	}
	k, err := New(Config{}, last, 0, entries)
	if err != nil {
		return Overview{}, err
	}
	o := Overview{Keeper: last.Node, Generation: last.Generation, Buckets: k.Buckets()}
	for _, c := range k.Chains() {
		v := ChainView{Chain: c}
		for _, m := range c.Members {
			v.Members = append(v.Members, MemberView{Member: m})
		}
		o.Chains = append(o.Chains, v)
	}
	return o, nil
}
