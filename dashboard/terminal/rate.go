package terminal

// Rates are what happened a second between two snapshots, on all nodes that were there at both.
type Rates struct {
	Reads    float64 `json:"reads"`
	Writes   float64 `json:"writes"`
	Requests float64 `json:"requests"`
	Gossip   float64 `json:"gossip"` // bytes
	Refused  float64 `json:"refused"`
	// SyncP99 is within how many seconds 99 of 100 syncs were done; 0 if there was none. It is a bound of the histogram, so up to twice too long.
	SyncP99 float64 `json:"syncP99"`
}

// RateBetween says what happened between two snapshots; false if that cannot be said. A node that was started anew in between counts from its start.
func RateBetween(before, now Snapshot) (Rates, bool) {
	seconds := now.Time.Sub(before.Time).Seconds()
	if seconds <= 0 {
		return Rates{}, false
	}
	earlier := map[string]*Usage{}
	for _, n := range before.Nodes {
		earlier[n.ID] = n.Usage
	}
	var all, sum Counters
	known := false
	for _, n := range now.Nodes {
		then := earlier[n.ID]
		if n.Usage == nil || then == nil {
			continue
		}
		known = true
		from := then.Counters
		if !then.Started.Equal(n.Usage.Started) {
			from = Counters{}
		}
		all.add(n.Usage.Counters)
		sum.add(from)
	}
	per := func(now, before uint64) float64 {
		if now < before {
			return 0
		}
		return float64(now-before) / seconds
	}
	return Rates{
		Reads: per(all.Reads, sum.Reads), Writes: per(all.Writes, sum.Writes), Requests: per(all.Requests, sum.Requests),
		Gossip: per(all.Gossip, sum.Gossip), Refused: per(all.Refused, sum.Refused), SyncP99: all.Syncs.quantileSince(sum.Syncs, 0.99),
	}, known
}

func (c *Counters) add(other Counters) {
	c.Reads += other.Reads
	c.Writes += other.Writes
	c.Refused += other.Refused
	c.Requests += other.Requests
	c.Gossip += other.Gossip
	c.Syncs.add(other.Syncs)
}

// add adds a distribution with the same bounds; others cannot be added.
func (h *Histogram) add(other Histogram) {
	if len(other.Counts) != len(other.Bounds)+1 {
		return
	}
	if h.Counts == nil {
		h.Bounds, h.Counts = other.Bounds, make([]uint64, len(other.Counts))
	}
	if len(h.Counts) != len(other.Counts) {
		return
	}
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
}

// quantileSince is the bound within which a part of what came since before lies.
func (h Histogram) quantileSince(before Histogram, part float64) float64 {
	since := func(i int) float64 {
		if len(before.Counts) != len(h.Counts) {
			return float64(h.Counts[i])
		}
		return float64(h.Counts[i]) - float64(before.Counts[i])
	}
	last := len(h.Counts) - 1
	if last < 1 || since(last) <= 0 {
		return 0
	}
	for i, bound := range h.Bounds {
		if since(i) >= part*since(last) {
			return bound
		}
	}
	return h.Bounds[last-1] // or more
}
