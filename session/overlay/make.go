package overlay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"orrery/session"
	"orrery/state"
)

// part is one override to be made.
type part struct {
	override session.Override // with all its components, without an instance
	steps    []step
	endpoint state.Ref // whose export "address" is the instance's
}

// step is one component to be made.
type step struct {
	from      state.Ref // the component to be forked; zero: activate
	component state.Component
}

func overrides(parts []part) []session.Override {
	all := make([]session.Override, len(parts))
	for i, p := range parts {
		all[i] = p.override
	}
	return all
}

// design says what has to be made, and makes nothing.
func (o *Overlay) design(ctx context.Context, q Request) ([]part, error) {
	if err := check(q); err != nil {
		return nil, err
	}
	var parts []part
	variants := map[string]*state.Component{}
	for _, e := range q.Exec {
		variants[e.Service] = &e.Component
		if slices.Contains(q.Forks, e.Service) {
			continue
		}
		p, err := o.designCopy(ctx, q.Name, e.Service, false, &e.Component)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	for _, service := range q.Forks {
		p, err := o.designCopy(ctx, q.Name, service, true, variants[service])
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	if len(q.Tunnels) == 0 {
		return parts, nil
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	id := q.Name + "/" + hex.EncodeToString(random[:])
	for _, t := range q.Tunnels {
		if _, err := o.config.Services.Lookup(ctx, t.Service); err != nil {
			return nil, err
		}
		parts = append(parts, part{override: session.Override{
			Service: t.Service, Kind: session.KindTunnel,
			Instance: session.Instance{Node: o.config.Self, Tunnel: id, Address: t.Address},
		}})
	}
	return parts, nil
}

func check(q Request) error {
	if len(q.Forks)+len(q.Exec)+len(q.Tunnels) == 0 {
		return errors.New("it overrides no service")
	}
	names := map[string]bool{}
	claim := func(service string) error {
		if names[service] {
			return fmt.Errorf("service %s is overridden twice: %w", service, session.ErrExists)
		}
		names[service] = true
		return nil
	}
	for _, service := range q.Forks {
		if err := claim(service); err != nil {
			return err
		}
	}
	execs := map[string]bool{}
	for _, e := range q.Exec {
		if !execs[e.Service] && slices.Contains(q.Forks, e.Service) {
			execs[e.Service] = true
			continue
		}
		if err := claim(e.Service); err != nil {
			return err
		}
	}
	for _, t := range q.Tunnels {
		if err := claim(t.Service); err != nil {
			return err
		}
		if t.Address == "" {
			return fmt.Errorf("service %s has no address on the developer's machine", t.Service)
		}
	}
	return nil
}

// designCopy copies a service for a session: with fork its stateful components are forked and its stateless ones run
// anew, without only the endpoint does. The endpoint is the variant if there is one.
func (o *Overlay) designCopy(ctx context.Context, name, service string, fork bool, variant *state.Component) (part, error) {
	placed, err := o.config.Services.Lookup(ctx, service)
	if err != nil {
		return part{}, err
	}
	p := part{override: session.Override{Service: service, Kind: session.KindFork}}
	if variant != nil {
		p.override.Kind = session.KindExec
	}
	p.override.Instance.Node = placed.Node
	for _, c := range placed.Components {
		isEndpoint := c.Name == placed.Endpoint
		if !fork && !isEndpoint {
			continue
		}
		description, err := o.config.Modules.Describe(ctx, placed.Node, c.Module)
		if err != nil {
			return part{}, fmt.Errorf("cannot learn what component %s is: %w", c.Ref(), err)
		}
		s := step{component: c}
		if isEndpoint && variant != nil {
			s.component = instead(c, *variant)
		} else if fork && description.Stateful {
			s.from = c.Ref()
		}
		s.component.Name, s.component.Session = c.Name+"@"+name, name
		if !state.ValidName(s.component.Name) {
			return part{}, fmt.Errorf("component %.80q: %w", s.component.Name, session.ErrBadName)
		}
		if isEndpoint {
			p.endpoint = s.component.Ref()
		}
		p.steps = append(p.steps, s)
		p.override.Components = append(p.override.Components, s.component.Ref())
	}
	if p.endpoint == (state.Ref{}) {
		return part{}, fmt.Errorf("service %s has no endpoint that a session could answer with", service)
	}
	return p, nil
}

// instead is the variant, with what it leaves empty as in production.
func instead(c, variant state.Component) state.Component {
	if variant.Module != "" && variant.Module != c.Module {
		c.Module, c.Container, c.Properties, c.Files = variant.Module, variant.Container, nil, nil
		if c.Container == "" {
			c.Container = c.Module
		}
	}
	if variant.Container != "" {
		c.Container = variant.Container
	}
	if variant.Properties != nil {
		c.Properties = variant.Properties
	}
	if variant.Files != nil {
		c.Files = variant.Files
	}
	return c
}

// make carries parts out, which are in the session's record already, and makes the session ready.
func (o *Overlay) make(ctx context.Context, of session.Session, parts []part) (session.Session, error) {
	for i := range parts {
		if err := o.makePart(ctx, of, &parts[i]); err != nil {
			return session.Session{}, err
		}
	}
	return o.update(ctx, of.Name, func(s *session.Session) error {
		if !s.Created.Equal(of.Created) {
			return ErrEnding // and somebody made another one of that name
		}
		for _, p := range parts {
			at := find(s, p.override.Service)
			if at == nil {
				return ErrEnding
			}
			*at = p.override
		}
		s.Ready = true
		return nil
	})
}

// goesOn is an error once a session is ending or gone.
func (o *Overlay) goesOn(ctx context.Context, of session.Session) error {
	s, _, err := o.read(ctx, of.Name)
	if err == nil && (s.Ending || !s.Created.Equal(of.Created)) {
		err = ErrEnding
	}
	return err
}

func (o *Overlay) makePart(ctx context.Context, of session.Session, p *part) error {
	if p.override.Kind == session.KindTunnel {
		return nil
	}
	node := p.override.Instance.Node
	keeper, err := o.config.Keepers.Keeper(node)
	if err != nil {
		return fmt.Errorf("node %s: %w", node, err)
	}
	// The name is new, so what has it was left behind by an earlier session, and holds its state.
	for _, ref := range slices.Backward(p.override.Components) {
		if err := discard(ctx, keeper, ref); err != nil {
			return err
		}
	}
	for _, s := range p.steps {
		// Whoever ends the session removes what the record names; what comes after that would stay for a while.
		if err := o.goesOn(ctx, of); err != nil {
			return err
		}
		if err := o.makeComponent(ctx, keeper, s, p); err != nil {
			return err
		}
	}
	status, err := keeper.Status(ctx, p.endpoint)
	if err != nil {
		return fmt.Errorf("component %s: %w", p.endpoint, err)
	}
	address := status.Exports["address"]
	if address == "" {
		return fmt.Errorf("component %s exports no address", p.endpoint)
	}
	p.override.Instance.Address = address
	return nil
}

func (o *Overlay) makeComponent(ctx context.Context, keeper state.Keeper, s step, p *part) error {
	if s.from == (state.Ref{}) {
		if _, err := keeper.Activate(ctx, s.component); err != nil {
			return fmt.Errorf("cannot activate %s: %w", s.component.Ref(), err)
		}
		return nil
	}
	status, err := keeper.Fork(ctx, s.from, s.component)
	if err != nil {
		return fmt.Errorf("cannot fork %s: %w", s.from, err)
	}
	p.override.Bytes += max(status.Size, 0)
	// Several components may have been forked differently; the dearer way is the one to show.
	if p.override.Method == "" || status.Forked == "copy" {
		p.override.Method = status.Forked
	}
	return nil
}
