package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
)

// Find asks by all ways for a node of a cluster until one answers or ctx ends; fabric.ErrNotFound then. Another
// node can be asked for by passing those that were no good in not, by RPC address. Of what a list or DNS names only the RPC address is known.
func Find(ctx context.Context, config Config, cluster string, not ...string) (fabric.Beacon, error) {
	seeking, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan fabric.Beacon, 1)
	problems := seek(seeking, config.withDefaults(), cluster, func(b fabric.Beacon) {
		if b.Cluster != "" && b.Cluster != cluster || !validAddress(b.RPC) || slices.Contains(not, b.RPC) {
			return
		}
		select {
		case found <- b:
			cancel()
		default:
		}
	})
	select {
	case b := <-found:
		return b, nil
	default:
		return fabric.Beacon{}, fmt.Errorf("no node of cluster %s answered on this network (give an address): %w",
			cluster, errors.Join(append([]error{fabric.ErrNotFound, ctx.Err()}, problems...)...))
	}
}

// Look lists what can be seen until ctx ends, once for each way that shows it, and why ways do not work. Without a cluster it is
// nodes of any cluster, of which the beacon shows those that announce themselves meanwhile: an ask names its cluster.
func Look(ctx context.Context, config Config, cluster string) ([]fabric.Beacon, []error) {
	var mu sync.Mutex
	var all []fabric.Beacon
	problems := seek(ctx, config.withDefaults(), cluster, func(b fabric.Beacon) {
		mu.Lock()
		defer mu.Unlock()
		if (b.Cluster == "" || cluster == "" || b.Cluster == cluster) && validAddress(b.RPC) && len(all) < maxKnown && !slices.Contains(all, b) {
			all = append(all, b)
		}
	})
	return all, problems
}

// seek asks by all ways until ctx ends, and returns why ways do not work.
func seek(ctx context.Context, config Config, cluster string, offer func(fabric.Beacon)) (problems []error) {
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, w := range config.Ways {
		work.Go(func() {
			if err := w.Run(ctx, nil, offer); err != nil && ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, fmt.Errorf("%s: %w", w.Name(), err))
			}
		})
	}
	ask(ctx, config, cluster, offer)
	work.Wait()
	return problems
}

// ask asks by the beacon, and looks at the last resorts.
func ask(ctx context.Context, config Config, cluster string, offer func(fabric.Beacon)) {
	var dropped atomic.Uint64
	ears := newEars(config, func(m message, via string) *message {
		if m.Kind == kindBeacon {
			b := *m.Beacon
			b.Via = via
			offer(b)
		}
		return nil
	}, &dropped)
	defer ears.close()
	timer, wait := time.NewTimer(0), firstAsk
	defer timer.Stop()
	for asked := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			ears.refresh(ctx)
			if cluster != "" {
				ears.send(ctx, message{Kind: kindAsk, Cluster: cluster})
			}
			if asked++; asked > 2 { // the network had its chance
				offerLast(config, cluster, offer)
			}
			timer.Reset(jitter(wait))
			wait = min(wait*2, defaultInterval)
		}
	}
}
