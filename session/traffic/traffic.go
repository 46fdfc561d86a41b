// Package traffic holds, switches and removes the routes of services for
// deployments: it writes the record that all routers watch, and waits until they follow it.
package traffic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/session"
)

// Routers reaches the routers of the cluster.
type Routers interface {
	// Nodes lists the nodes that the membership does not believe dead.
	Nodes() []fabric.NodeID
	// Await returns when the node's router applied the revision of the table and has no request in flight
	// to an instance of the service that is no longer current.
	Await(ctx context.Context, node fabric.NodeID, service string, revision uint64) error
}

// Config configures a Traffic. Table and Routers are required.
type Config struct {
	Table   fabric.Table
	Routers Routers
	Logger  *slog.Logger // nil: discard
	// HoldLimit bounds how long Hold waits for routers; default 20 s. It has to be longer than their DrainLimit.
	HoldLimit time.Duration
	// SwitchLimit bounds how long Switch and Remove wait for them; default 3 s.
	SwitchLimit time.Duration
	// Pause is the time between two attempts to reach a router; default 100 ms.
	Pause time.Duration
}

// Traffic is what the deployment engine asks of all routers.
type Traffic struct{ config Config }

var _ deploy.Traffic = (*Traffic)(nil)

// New makes a Traffic.
func New(config Config) *Traffic {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.HoldLimit = orDefault(config.HoldLimit, 20*time.Second)
	config.SwitchLimit = orDefault(config.SwitchLimit, 3*time.Second)
	config.Pause = orDefault(config.Pause, 100*time.Millisecond)
	return &Traffic{config}
}

func orDefault(value, fallback time.Duration) time.Duration {
	if value <= 0 {
		return fallback
	}
	return value
}

// Hold keeps back new requests to a service and returns when none is in flight. Holding a service without a route is
// nothing. After an error some router may still send requests, so nothing may be done that a late write would get lost
// by; the route stays held until Switch.
func (t *Traffic) Hold(ctx context.Context, service string) error {
	revision, err := t.change(ctx, service, func(r *session.Route) { r.Held = true })
	if errors.Is(err, fabric.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot hold service %s: %w", service, err)
	}
	if err := t.await(ctx, t.config.HoldLimit, service, revision); err != nil {
		return fmt.Errorf("cannot hold service %s: %w", service, err)
	}
	return nil
}

// Switch sends requests, also held ones, to an instance. A router that does not confirm it is no error: it goes on
// holding its requests until it reads the table.
func (t *Traffic) Switch(ctx context.Context, service string, to deploy.Endpoint, public *deploy.PublicOn) error {
	next := session.Route{Service: service, Instance: session.Instance{Node: to.Node, Address: to.Address}}
	if public != nil {
		next.Public = &session.Listener{Node: public.Node, Address: public.Address}
	}
	encoded, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("cannot write the route of service %s: %w", service, err)
	}
	revision, err := t.config.Table.Put(ctx, session.RoutePrefix+service, encoded)
	if err != nil {
		return fmt.Errorf("cannot switch service %s to node %s: %w", service, to.Node, err)
	}
	return t.confirm(ctx, service, revision)
}

// Remove forgets the service: new requests are refused, those in flight are answered.
func (t *Traffic) Remove(ctx context.Context, service string) error {
	revision, err := t.change(ctx, service, func(r *session.Route) {
		*r = session.Route{Service: service}
	})
	if errors.Is(err, fabric.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove the route of service %s: %w", service, err)
	}
	if err := t.confirm(ctx, service, revision); err != nil {
		return err
	}
	// If somebody made the service anew meanwhile, that route stays.
	err = t.config.Table.Delete(ctx, session.RoutePrefix+service, revision)
	if err != nil && !errors.Is(err, fabric.ErrConflict) {
		return fmt.Errorf("cannot remove the route of service %s: %w", service, err)
	}
	return nil
}

// confirm waits for the routers, and does without those that do not answer.
func (t *Traffic) confirm(ctx context.Context, service string, revision uint64) error {
	if err := t.await(ctx, t.config.SwitchLimit, service, revision); err != nil {
		t.config.Logger.WarnContext(ctx, "not every router confirmed a route", "service", service, "err", err)
	}
	return ctx.Err()
}

// change writes a service's route by compare-and-swap. ErrNotFound if it has none.
func (t *Traffic) change(ctx context.Context, service string, edit func(*session.Route)) (uint64, error) {
	key := session.RoutePrefix + service
	for {
		entry, err := t.config.Table.Get(ctx, key)
		if err != nil {
			return 0, err
		}
		var r session.Route
		if err := json.Unmarshal(entry.Value, &r); err != nil {
			return 0, fmt.Errorf("record %s: %w", key, err)
		}
		edit(&r)
		encoded, err := json.Marshal(r)
		if err != nil {
			return 0, err
		}
		revision, err := t.config.Table.CompareAndSwap(ctx, key, entry.Revision, encoded)
		if !errors.Is(err, fabric.ErrConflict) {
			return revision, err
		}
	}
}

// await waits for all routers at once.
func (t *Traffic) await(ctx context.Context, limit time.Duration, service string, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	nodes := t.config.Routers.Nodes()
	problems := make([]error, len(nodes))
	var waiting sync.WaitGroup
	for i, node := range nodes {
		waiting.Go(func() { problems[i] = t.awaitOne(ctx, node, service, revision) })
	}
	waiting.Wait()
	return errors.Join(problems...)
}

// awaitOne asks one router until it confirms, or its node is believed dead.
func (t *Traffic) awaitOne(ctx context.Context, node fabric.NodeID, service string, revision uint64) error {
	for {
		err := t.config.Routers.Await(ctx, node, service, revision)
		if err == nil || !slices.Contains(t.config.Routers.Nodes(), node) {
			return nil
		}
		pause := time.NewTimer(t.config.Pause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("router of node %s does not confirm: %w", node, err)
		case <-pause.C:
		}
	}
}
