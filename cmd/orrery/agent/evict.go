package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
	"orrery/session/overlay"
	"orrery/state"
)

// EvictRequest asks for a node to be put out of the cluster.
type EvictRequest struct {
	Node   string `json:"node"` // name or id
	Why    string `json:"why,omitempty"`
	DryRun bool   `json:"dryRun,omitempty"`
	Force  bool   `json:"force,omitempty"` // also if something is lost with it
	Alive  bool   `json:"alive,omitempty"` // also if it is alive
}

// EvictPlan is what putting a node out means.
type EvictPlan struct {
	authority.Eviction
	State    fabric.MemberState `json:"state,omitempty"` // empty: the membership does not know it
	Services []string           `json:"services,omitempty"`
	Chains   []string           `json:"chains,omitempty"`   // of which no other replica is there
	Replicas int                `json:"replicas,omitempty"` // of chains, that others replace
	Sessions []string           `json:"sessions,omitempty"` // that it hosts, and that end
	Steps    []string           `json:"steps,omitempty"`    // that are to be done
	Refused  string             `json:"refused,omitempty"`  // why it is not done without other flags
}

// EvictProgress is a step that was done, or at the end all of them.
type EvictProgress struct {
	Step   string     `json:"step,omitempty"`
	Result *EvictPlan `json:"result,omitempty"`
}

// eviction is an eviction under way. Its record says how far it is; each step may be repeated.
type eviction struct {
	node     *Node
	plan     EvictPlan
	revision uint64 // of the record
}

type evictStep struct {
	name string
	do   func(ctx context.Context) error
}

// stepTime is how long a step may take. Without a majority of the table none ends.
const stepTime = 30 * time.Second

func (s evictStep) within(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	return s.do(ctx)
}

// evict puts a node out of the cluster, or says what that would mean.
func (n *Node) evict(ctx context.Context, q *EvictRequest, send func(*EvictProgress) error) error {
	planning, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	e, err := n.planEviction(planning, q)
	if err != nil {
		return err
	}
	steps := e.steps()
	if q.DryRun {
		for _, s := range steps {
			e.plan.Steps = append(e.plan.Steps, s.name)
		}
		return send(&EvictProgress{Result: &e.plan})
	}
	for _, s := range steps {
		if err := s.within(ctx); err != nil {
			return fmt.Errorf("cannot put node %s, %s, out (%s): %w; run the command again, on any node, to go on", e.plan.Name, e.plan.ID, s.name, err)
		}
		// When the caller is gone ctx ends, which stops the next step.
		_ = send(&EvictProgress{Step: s.name})
	}
	return send(&EvictProgress{Result: &e.plan})
}

// planEviction finds out what putting a node out means, and whether it may be done.
func (n *Node) planEviction(ctx context.Context, q *EvictRequest) (*eviction, error) {
	id, name, err := n.evictee(ctx, q.Node)
	if err != nil {
		return nil, err
	}
	if id == n.identity.ID {
		return nil, fmt.Errorf("node %s cannot put itself out (orrery node leave is for that; or ask another node)", name)
	}
	e := &eviction{node: n}
	if e.plan.Eviction, e.revision, err = n.registrar.Eviction(ctx, id); err != nil {
		return nil, err
	}
	begun := e.revision > 0
	if !begun {
		e.plan.Eviction = authority.Eviction{ID: id, Name: name, Role: fabric.RoleNode, By: whoCalls(ctx).Name, Why: q.Why, Begun: time.Now().UTC()}
	}
	if m, err := n.member(id); err == nil {
		e.plan.State = m.State
	}
	if err := e.lookAround(ctx); err != nil {
		return nil, err
	}
	if begun {
		return e, nil // what had to be decided was decided then
	}
	e.plan.Lost = append(slices.Clone(e.plan.Services), e.plan.Chains...)
	err = e.plan.allowed(q)
	if err != nil && q.DryRun {
		e.plan.Refused, err = err.Error(), nil
	}
	return e, err
}

// evictee finds a node by name or id: one that belongs to the cluster, or one whose eviction was begun.
func (n *Node) evictee(ctx context.Context, given string) (id fabric.NodeID, name string, err error) {
	names, err := n.table.List(ctx, authority.NamePrefix)
	if err != nil {
		return "", "", err
	}
	evictions, err := n.registrar.Evictions(ctx)
	if err != nil {
		return "", "", err
	}
	for _, e := range names {
		if name := strings.TrimPrefix(e.Key, authority.NamePrefix); name == given || string(e.Value) == given {
			return fabric.NodeID(e.Value), name, nil
		}
	}
	for _, e := range evictions {
		if e.Role == fabric.RoleNode && (string(e.ID) == given || e.Name == given && e.Done.IsZero()) {
			return e.ID, e.Name, nil
		}
	}
	for _, m := range n.Members() {
		if string(m.ID) == given {
			return m.ID, m.Name, nil
		}
	}
	return "", "", fmt.Errorf("node %s: %w (see orrery members; orrery node evicted lists those that are out)", given, fabric.ErrNotFound)
}

// lookAround finds what the node has.
func (e *eviction) lookAround(ctx context.Context) error {
	placed, err := placements(ctx, e.node.shared)
	if err != nil {
		return err
	}
	for _, p := range placed {
		if p.Node == e.plan.ID {
			e.plan.Services = append(e.plan.Services, e.node.withBackup(ctx, p))
		}
	}
	sessions, err := e.node.overlay.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if s.Host == e.plan.ID {
			e.plan.Sessions = append(e.plan.Sessions, s.Name)
		}
	}
	o, err := e.node.base.Overview(ctx)
	if err != nil {
		return err
	}
	for _, c := range o.Chains {
		others := 0
		for _, m := range c.Members {
			switch {
			case m.Node == e.plan.ID:
				e.plan.Replicas++
			case m.State == chain.Serving && m.Gone == "":
				others++
			}
		}
		if c.On(e.plan.ID) >= 0 && others == 0 {
			e.plan.Chains = append(e.plan.Chains, fmt.Sprintf("chain %d of bucket %s", c.ID, c.Bucket))
		}
	}
	return nil
}

// allowed says why it may not be done.
func (p EvictPlan) allowed(q *EvictRequest) error {
	name := fmt.Sprintf("node %s, %s", p.Name, p.ID)
	switch {
	case (p.State == fabric.MemberAlive || p.State == fabric.MemberSuspect) && !q.Alive:
		return fmt.Errorf("%s is %w: it is %s (orrery node leave, on that node, is the gentle way; --alive puts it out all the same)", name, state.ErrInUse, p.State)
	case len(p.Services) > 0 && !q.Force:
		return fmt.Errorf("%s is %w: it has %s (bring it back and move them by the manifest's distribution; "+
			"with --force what changed since their last backup is lost, and orrery deploy apply then brings them up on the nodes that a manifest gives them)", name, state.ErrInUse, strings.Join(p.Services, ", "))
	case len(p.Chains) > 0 && !q.Force:
		return fmt.Errorf("%s is %w: no other replica is there of %s (bring it, or another that served, back and use orrery kv drain; "+
			"with --force what is in them is lost)", name, state.ErrInUse, strings.Join(p.Chains, ", "))
	}
	return nil
}

// steps are what is to be done, in order.
func (e *eviction) steps() []evictStep {
	n, id := e.node, e.plan.ID
	steps := []evictStep{
		{"write down that it is put out", e.begin},
		{"take its replicas out of the chains", e.drain},
	}
	if e.plan.State == fabric.MemberAlive && e.plan.Out.IsZero() {
		// While it is heard it can hand over what it does for the table. One that does not is cut off all the same.
		steps = append(steps, evictStep{"let it hand over the table", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if err := n.table.Remove(ctx, id); err != nil {
				n.log.WarnContext(ctx, "a node that is put out does not hand over the table", "node", id, "error", err)
			}
			return nil
		}})
	}
	return append(steps,
		evictStep{"refuse its certificate", e.refuse},
		evictStep{"take it out of the table", func(ctx context.Context) error { return n.table.Remove(ctx, id) }},
		evictStep{"release its name", func(ctx context.Context) error { return n.registrar.ReleaseName(ctx, e.plan.Name, id) }},
		evictStep{"end its sessions", e.endSessions},
		evictStep{"change the key of the gossip, which it knows", e.rotate},
		evictStep{"write down that it is done", e.finish},
	)
}

func (e *eviction) write(ctx context.Context) (err error) {
	e.revision, err = e.node.registrar.Evict(ctx, e.plan.Eviction, e.revision)
	return err
}

func (e *eviction) begin(ctx context.Context) error {
	if e.revision > 0 {
		return nil
	}
	return e.write(ctx)
}

func (e *eviction) drain(ctx context.Context) error { return e.node.base.Drain(ctx, e.plan.ID) }

// refuse makes all nodes refuse the certificate, each as soon as it has the record, and waits until this one does.
func (e *eviction) refuse(ctx context.Context) error {
	if e.plan.Out.IsZero() {
		last, err := e.node.base.Rotator().Latest(ctx)
		if err != nil {
			return err
		}
		e.plan.Out, e.plan.Gossip = time.Now().UTC(), last.Serial
		if err := e.write(ctx); err != nil {
			return err
		}
	}
	for e.node.roll.Out(e.plan.ID) == nil {
		if !clock.Wait(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	e.node.base.Expel()
	return nil
}

func (e *eviction) endSessions(ctx context.Context) error {
	var errs []error
	for _, name := range e.plan.Sessions {
		errs = append(errs, e.node.overlay.Delete(ctx, name, overlay.Caller{Name: e.plan.By, Role: fabric.RoleOperator}))
	}
	return errors.Join(errs...)
}

// rotate carries a rotation out that began when the node was out already.
func (e *eviction) rotate(ctx context.Context) error {
	for {
		last, err := e.node.base.Rotator().Latest(ctx)
		if err != nil || last.Serial > e.plan.Gossip && last.Phase == rotation.Done {
			return err
		}
		if _, err := e.node.base.Rotator().Rotate(ctx, e.plan.By, func(rotation.Step) {}); err != nil {
			return err
		}
	}
}

// Evict puts a node out of the cluster, or says what that would mean.
func (c *Client) Evict(ctx context.Context, q EvictRequest, done func(step string)) (EvictPlan, error) {
	for p, err := range rpc.CallStream[EvictRequest, EvictProgress](ctx, c.to.peer, procEvict, &q) {
		switch {
		case err != nil:
			return EvictPlan{}, err
		case p.Result != nil:
			return *p.Result, nil
		}
		done(p.Step)
	}
	return EvictPlan{}, errors.New("the node ended the eviction without saying how")
}

func (e *eviction) finish(ctx context.Context) error {
	if !e.plan.Done.IsZero() {
		return nil
	}
	e.plan.Done = time.Now().UTC()
	return e.write(ctx)
}
