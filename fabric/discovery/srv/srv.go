// Package srv finds nodes by DNS: the SRV records of _orrery._udp.DOMAIN, looked up again and again, lead to the nodes' mutual-TLS listeners.
package srv

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"orrery/fabric"
)

// Via is how beacons of this package come.
const Via = "srv"

const (
	service  = "_orrery._udp."
	interval = 30 * time.Second
	timeout  = 10 * time.Second
	maxNodes = 256
)

// Way looks a domain up.
type Way struct {
	// Domain is what _orrery._udp is looked up in; a name that begins with an underscore is looked up as it is.
	Domain string
	// Interval is the time between lookups; 0 means 30 seconds.
	Interval time.Duration
	// Resolver is nil for the system's.
	Resolver *net.Resolver
}

// Name is what the way is called in settings, and in a beacon's Via.
func (w *Way) Name() string { return Via }

// Run reports what the domain names until ctx ends, nil then, or until a lookup fails. The beacons have
// an RPC address only. It announces nothing: a zone is somebody's to edit.
func (w *Way) Run(ctx context.Context, _ *fabric.Beacon, found func(fabric.Beacon)) error {
	every := w.Interval
	if every == 0 {
		every = interval
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := w.lookup(ctx, found); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (w *Way) lookup(ctx context.Context, found func(fabric.Beacon)) error {
	resolver := w.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	name := w.Domain
	if !strings.HasPrefix(name, "_") {
		name = service + name
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// The resolver leaves out targets that are no host names and sorts by priority and weight.
	_, records, err := resolver.LookupSRV(ctx, "", "", name)
	if len(records) == 0 && err != nil {
		return fmt.Errorf("cannot look up the SRV records of %s: %w", name, err)
	}
	for _, r := range records[:min(len(records), maxNodes)] {
		if r.Port != 0 && r.Target != "." {
			found(fabric.Beacon{RPC: net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))), Via: Via})
		}
	}
	return nil
}
