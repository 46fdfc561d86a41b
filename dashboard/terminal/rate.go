package terminal

// Rates are what happened a second between two snapshots, on all nodes that were there at both.
type Rates struct {
	Reads    float64 `json:"reads"`
	Writes   float64 `json:"writes"`
	Requests float64 `json:"requests"`
	Gossip   float64 `json:"gossip"` // bytes
	Events   float64 `json:"events"` // sent
	Refused  float64 `json:"refused"`
	// ReadP50 is within how many seconds half of the reads were answered, ReadP99 99 of 100, and so on for writes and syncs; 0 if there was none. They are bounds of histograms, so up to twice too long.
	ReadP50  float64 `json:"readP50"`
	ReadP99  float64 `json:"readP99"`
	WriteP50 float64 `json:"writeP50"`
	WriteP99 float64 `json:"writeP99"`
	SyncP99  float64 `json:"syncP99"`
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
		Gossip: per(all.Gossip, sum.Gossip), Events: per(all.Events, sum.Events), Refused: per(all.Refused, sum.Refused),
		ReadP50: all.ReadTimes.quantileSince(sum.ReadTimes, 0.5), ReadP99: all.ReadTimes.quantileSince(sum.ReadTimes, 0.99),
		WriteP50: all.WriteTimes.quantileSince(sum.WriteTimes, 0.5), WriteP99: all.WriteTimes.quantileSince(sum.WriteTimes, 0.99),
		SyncP99: all.Syncs.quantileSince(sum.Syncs, 0.99),
	}, known
}

func (c *Counters) add(other Counters) {
	c.Reads += other.Reads
	c.Writes += other.Writes
	c.Refused += other.Refused
	c.Requests += other.Requests
	c.Gossip += other.Gossip
	c.Events += other.Events
	c.ReadTimes.add(other.ReadTimes)
	c.WriteTimes.add(other.WriteTimes)
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
