package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

// Run keeps this node's sessions alive, ends those whose time is over, ends other nodes' sessions where that falls to this
// node, and removes what no session needs, until ctx ends.
func (o *Overlay) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	beat := time.NewTicker(o.config.Beat)
	defer beat.Stop()
	sweep := time.NewTicker(o.config.Sweep)
	defer sweep.Stop()
	// An ending waits for nodes; it must not keep the other sessions from being renewed.
	background := func(name string) {
		o.mu.Lock()
		running := o.ending[name] != nil
		o.mu.Unlock()
		if running {
			return
		}
		work.Go(func() {
			if err := o.end(ctx, name); err != nil && ctx.Err() == nil {
				o.logger.WarnContext(ctx, "a session cannot be ended yet", "session", name, "err", err)
			}
		})
	}
	for {
		if err := o.tend(ctx, background); err != nil && ctx.Err() == nil {
			o.logger.WarnContext(ctx, "the sessions cannot be tended", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		case <-sweep.C:
			if err := o.Reap(ctx); err != nil && ctx.Err() == nil {
				o.logger.WarnContext(ctx, "the components of former sessions cannot be removed", "err", err)
			}
		}
	}
}

// tend looks once at all sessions.
func (o *Overlay) tend(ctx context.Context, end func(name string)) error {
	ctx, cancel := context.WithTimeout(ctx, o.config.Lease)
	defer cancel()
	all, err := o.List(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	var problems []error
	for _, s := range all {
		switch {
		case s.Host != o.config.Self:
			if o.abandoned(s, now) {
				o.logger.WarnContext(ctx, "the session's host is silent", "session", s.Name, "host", s.Host)
				end(s.Name)
			}
		case s.Ending, !s.Ready && !o.isMaking(s.Name):
			end(s.Name) // an ending or a making that was interrupted
		default:
			if why := o.over(s, now); why != "" {
				o.logger.InfoContext(ctx, "session is over", "session", s.Name, "why", why)
				end(s.Name)
				continue
			}
			problems = append(problems, o.renew(ctx, s.Name))
		}
	}
	o.forget(all)
	return errors.Join(problems...)
}

func (o *Overlay) isMaking(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.making[name] > 0
}

func (o *Overlay) renew(ctx context.Context, name string) error {
	_, err := o.update(ctx, name, func(s *session.Session) error {
		s.Beat++
		return nil
	})
	if errors.Is(err, session.ErrNotFound) || errors.Is(err, ErrEnding) {
		return nil // it ended meanwhile
	}
	return err
}

// over says why a session of this host should end, or "".
func (o *Overlay) over(s session.Session, now time.Time) string {
	if !s.Expires.IsZero() && now.After(s.Expires) {
		return "it expired"
	}
	if o.isMaking(s.Name) {
		return "" // the developer is told the tunnel's id when all is made
	}
	has, alive := false, false
	for _, override := range s.Overrides {
		if id := override.Instance.Tunnel; id != "" {
			has = true
			alive = o.recently(id, now) || alive
		}
	}
	if has && !alive {
		return "the developer's machine is gone"
	}
	return ""
}

// recently says whether a tunnel is connected, or was so less than Grace ago. A tunnel that this node never saw
// connected counts from the first look.
func (o *Overlay) recently(id string, now time.Time) bool {
	alive := o.config.Tunnels.Alive(id)
	o.mu.Lock()
	defer o.mu.Unlock()
	last, ok := o.lost[id]
	if alive || !ok {
		o.lost[id] = now
		return true
	}
	return now.Sub(last) < o.config.Grace
}

// abandoned says whether it falls to this node to end another host's session. Only this node's clock
// counts: it compares when it saw the beat change.
func (o *Overlay) abandoned(s session.Session, now time.Time) bool {
	o.mu.Lock()
	last, ok := o.seen[s.Name]
	if !ok || last.beat != s.Beat {
		last = pulse{s.Beat, now}
		o.seen[s.Name] = last
	}
	o.mu.Unlock()
	if now.Sub(last.at) < o.config.Lease {
		return false
	}
	alive := o.config.Alive()
	return len(alive) > 0 && slices.Min(alive) == o.config.Self
}

// forget drops what is remembered of sessions and tunnels that are gone.
func (o *Overlay) forget(all []session.Session) {
	names, tunnels := map[string]bool{}, map[string]bool{}
	for _, s := range all {
		names[s.Name] = true
		for _, override := range s.Overrides {
			tunnels[override.Instance.Tunnel] = true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	maps.DeleteFunc(o.seen, func(name string, _ pulse) bool { return !names[name] })
	maps.DeleteFunc(o.lost, func(id string, _ time.Time) bool { return !tunnels[id] })
}

// Reap removes this node's components of sessions that no record names. The components are listed before the
// records are read: a record is written before its components are made, so what is missing in it then is nobody's.
func (o *Overlay) Reap(ctx context.Context) error {
	keeper, err := o.config.Keepers.Keeper(o.config.Self)
	if err != nil {
		return fmt.Errorf("cannot reach this node's keeper: %w", err)
	}
	statuses, err := keeper.List(ctx)
	if err != nil {
		return fmt.Errorf("cannot list this node's components: %w", err)
	}
	statuses = slices.DeleteFunc(statuses, func(s state.Status) bool { return s.Component.Session == "" })
	if len(statuses) == 0 {
		return nil
	}
	all, err := o.List(ctx)
	if err != nil {
		return err
	}
	needed := map[state.Ref]bool{}
	for _, s := range all {
		for _, ref := range refsOn(s, o.config.Self) {
			needed[ref] = true
		}
	}
	var problems []error
	for _, s := range statuses {
		if ref := s.Component.Ref(); !needed[ref] {
			o.logger.InfoContext(ctx, "removing a component of a former session", "component", ref.String(), "session", s.Component.Session)
			problems = append(problems, discard(ctx, keeper, ref))
		}
	}
	return errors.Join(problems...)
}

func refsOn(s session.Session, node fabric.NodeID) []state.Ref {
	var refs []state.Ref
	for _, override := range s.Overrides {
		if override.Instance.Node == node {
			refs = append(refs, override.Components...)
		}
	}
	return refs
}
