package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// Replicas are the replicas of a node, as a Reporter needs them. All methods are safe for concurrent use.
type Replicas interface {
	// Now reads the clock that leases are of.
	Now() replica.Instant
	// Reports says how the replicas are that have something on the disk.
	Reports() []placement.Replica
	// SetMap tells where chains are. Replicas that the map names are made if they are not there. It keeps m.
	SetMap(m chain.Map) error
	// Lease lets a chain's replica answer reads. One that ends at 0 takes that away: when Lease returns, no permission is given any more.
	Lease(id chain.ID, l replica.Lease)
	// Part makes this node's replica of the chain that is split off from another one, of its replica of that one, once that has applied an entry of the
	// epoch s.Epoch or a later one; a head sees to it that there is such an entry. It begins that and returns; Reports has the replica when it is there. When it is
	// there, or being made, Part does nothing.
	Part(from chain.ID, s placement.Split)
	// Drop deletes what the disk has of a chain, whose replica is not a member.
	Drop(id chain.ID) error
}

// ReporterConfig is what a Reporter needs.
type ReporterConfig struct {
	Self     chain.Replica
	Zone     string
	Table    fabric.Table
	Replicas Replicas
	// Send tells the keeper, wherever it is, and brings its grant.
	Send func(ctx context.Context, r *placement.Report) (*placement.Grant, error)
	// Free says how many bytes of disk are free.
	Free func() (uint64, error)
	// Addresses says where nodes are reached, host:port.
	Addresses func() map[fabric.NodeID]string
	// Every is how often a lease is renewed; 0: 250 ms. Look is how often the reporter looks for something that the keeper should hear at once; 0: 25 ms.
	Every, Look time.Duration
	Logger      *slog.Logger // nil: discard
}

// Reporter stands between a node's replicas and the chain table.
type Reporter struct {
	config ReporterConfig
	wake   chan struct{}

	mu       sync.Mutex
	revision uint64        // of the table, as far as the watch is
	further  chan struct{} // closed, and replaced, when it is further
	records  map[chain.ID]placement.Chain
	grant    placement.Grant
	sent     replica.Instant // when the report was sent that grant answers
	told     string          // what the keeper was told last, but for figures
	sequence uint64
}

// NewReporter makes a reporter that does nothing before Run.
func NewReporter(c ReporterConfig) *Reporter {
	if c.Every == 0 {
		c.Every = 250 * time.Millisecond
	}
	if c.Look == 0 {
		c.Look = 25 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reporter{config: c, wake: make(chan struct{}, 1), further: make(chan struct{}), records: map[chain.ID]placement.Chain{}}
}

// Run reports until ctx ends.
func (p *Reporter) Run(ctx context.Context) error {
	changes, err := p.config.Table.Watch(ctx, placement.Prefix)
	if err != nil {
		return fmt.Errorf("cannot watch the chain table: %w", err)
	}
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { p.report(ctx) })
	for c := range changes {
		if err := p.observe(ctx, c); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("chains have no table any more: %w", fabric.ErrClosed)
	}
	return nil
}

// observe takes over what changed in the table.
func (p *Reporter) observe(ctx context.Context, c fabric.Change) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range c.Entries {
		if !strings.HasPrefix(e.Key, placement.ChainPrefix) {
			continue
		}
		if e.Value == nil {
			maps.DeleteFunc(p.records, func(id chain.ID, _ placement.Chain) bool { return placement.ChainKey(id) == e.Key })
			continue
		}
		record, err := placement.DecodeChain(e.Value)
		if err != nil {
			return fmt.Errorf("key %q of the chain table: %w", e.Key, err)
		}
		p.records[record.ID] = record
	}
	p.revision = c.Revision
	if err := p.config.Replicas.SetMap(p.chart()); err != nil {
		p.config.Logger.ErrorContext(ctx, "a replica has not taken over its chain's config", "error", err)
	}
	close(p.further)
	p.further = make(chan struct{})
	p.lease()
	p.part()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// chart is the map of chains. A chain that this node is to serve and has nothing of is left out; the keeper hears of it.
func (p *Reporter) chart() chain.Map {
	m := chain.Map{Revision: p.revision, Nodes: p.config.Addresses(), Parting: map[chain.ID]chain.ID{}}
	has := p.has()
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		if c := p.records[id]; !p.empty(c, has) {
			m.Chains = append(m.Chains, c.Config)
			if c.Split == nil {
				m.Settled = append(m.Settled, id)
			} else if _, born := p.records[c.Split.Child]; !born {
				m.Parting[id] = c.Split.Child
			}
		}
	}
	return m
}

func (p *Reporter) has() map[chain.ID]bool {
	has := map[chain.ID]bool{}
	for _, r := range p.config.Replicas.Reports() {
		has[r.Chain] = true
	}
	return has
}

// empty says whether this process is to serve a chain of which it has nothing, although something may have been acknowledged.
func (p *Reporter) empty(c placement.Chain, has map[chain.ID]bool) bool {
	i := c.On(p.config.Self.Node)
	return i >= 0 && c.Members[i] == chain.Member{Replica: p.config.Self, State: chain.Serving} && !c.Fresh && !has[c.ID]
}

// report asks for leases again and again: every time that it is due, and at once when a replica is another step further.
func (p *Reporter) report(ctx context.Context) {
	look := time.NewTicker(p.config.Look)
	defer look.Stop()
	last := p.config.Replicas.Now() - p.config.Every
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-p.wake:
		}
		r := p.next()
		brief := briefly(r)
		now := p.config.Replicas.Now()
		if brief == p.told && now-last < p.config.Every {
			continue
		}
		last, p.told = now, brief
		p.send(ctx, now, r)
	}
}

// briefly is what the keeper should hear of at once.
func briefly(r *placement.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d.%d", r.Seen.Generation, len(r.Replicas))
	for _, s := range r.Replicas {
		fmt.Fprintf(&b, " %d:%d:%d:%v:%s", s.Chain, s.Epoch, s.State, s.Linked, s.Failed)
	}
	return b.String()
}

func (p *Reporter) next() *placement.Report {
	replicas := p.config.Replicas.Reports()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part()
	r := &placement.Report{Node: p.config.Self.Node, Incarnation: p.config.Self.Incarnation, Zone: p.config.Zone, Seen: p.grant.ID, Replicas: replicas}
	has := map[chain.ID]bool{}
	for _, s := range replicas {
		has[s.Chain] = true
	}
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		if p.empty(p.records[id], has) {
			r.Replicas = append(r.Replicas, placement.Replica{
				Status: replica.Status{Chain: id, Self: p.config.Self}, Failed: "there is nothing of it on the disk, and it was to serve",
			})
		}
	}
	return r
}

// send sends a report; now is when.
func (p *Reporter) send(ctx context.Context, now replica.Instant, r *placement.Report) {
	free, err := p.config.Free()
	if err != nil {
		p.config.Logger.WarnContext(ctx, "free disk space unknown", "error", err)
	}
	p.sequence++
	r.Free, r.Sequence = free, p.sequence
	ctx, cancel := context.WithTimeout(ctx, 4*p.config.Every)
	defer cancel()
	g, err := p.config.Send(ctx, r)
	switch {
	case err != nil:
		level := slog.LevelWarn
		if errors.Is(err, ErrNotKeeper) {
			level = slog.LevelDebug // the table has a new leader now and then
		}
		p.config.Logger.Log(ctx, level, "lease not renewed", "error", err)
	case g.Sequence == r.Sequence:
		p.take(ctx, *g, now)
	}
}

// take acts on a grant if it is newer than the one before.
func (p *Reporter) take(ctx context.Context, g placement.Grant, sent replica.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !g.ID.Newer(p.grant.ID) {
		return
	}
	p.grant, p.sent = g, sent
	p.lease()
	for _, d := range g.Drop {
		if c := p.records[d.Chain]; c.Epoch > d.Epoch || c.On(p.config.Self.Node) >= 0 {
			continue
		}
		p.config.Logger.InfoContext(ctx, "replica deleted: its chain does not need it", "chain", uint64(d.Chain))
		if err := p.config.Replicas.Drop(d.Chain); err != nil {
			p.config.Logger.ErrorContext(ctx, "replica not deleted", "chain", uint64(d.Chain), "error", err)
		}
	}
}

// lease lets replicas answer reads as the newest grant says, once the watch has seen what it must have seen.
func (p *Reporter) lease() {
	for _, r := range p.config.Replicas.Reports() {
		switch {
		case slices.Contains(p.grant.Without, r.Chain) || !p.member(r.Chain):
			p.config.Replicas.Lease(r.Chain, replica.Lease{})
		case p.grant.ID.Number > 0 && p.revision >= p.grant.Revision:
			p.config.Replicas.Lease(r.Chain, replica.Lease{Sent: p.sent, Until: p.sent + p.grant.Lease})
		}
	}
}

// part has the replicas made of chains that are being split off.
func (p *Reporter) part() {
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		if c := p.records[id]; c.Split != nil && p.member(id) {
			p.config.Replicas.Part(id, *c.Split)
		}
	}
}

// member says whether this process is a member of a chain, as far as the watch is.
func (p *Reporter) member(id chain.ID) bool {
	c := p.records[id]
	i := c.On(p.config.Self.Node)
	return i >= 0 && c.Members[i].Replica == p.config.Self
}

// Records are the chains' records as this node knows them.
func (p *Reporter) Records() []placement.Chain {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []placement.Chain
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		all = append(all, p.records[id])
	}
	return all
}

// CatchUp returns when the replicas have been told all that the chain table had when it was called.
func (p *Reporter) CatchUp(ctx context.Context) error {
	entries, err := p.config.Table.List(ctx, placement.ChainPrefix)
	if err != nil {
		return err
	}
	var latest uint64
	for _, e := range entries {
		latest = max(latest, e.Revision)
	}
	for {
		p.mu.Lock()
		at, further := p.revision, p.further
		p.mu.Unlock()
		if at >= latest {
			return nil
		}
		select {
		case <-further:
		case <-ctx.Done():
			return fmt.Errorf("this node is at revision %d of the chain table, which has revision %d: %w", at, latest, ctx.Err())
		}
	}
}
