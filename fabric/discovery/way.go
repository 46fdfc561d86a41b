package discovery

import (
	"context"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/internal/clock"
)

// Way is one means by which nodes find each other, beside the beacon.
type Way interface {
	// Name is what the way is called in settings, and usually the Via of what it finds.
	Name() string
	// Run announces own, unless it is nil, and reports every beacon that it comes upon, of any cluster, until ctx ends; it returns nil
	// then and has no goroutines left. It reports a node again at least every minute while it is there. A beacon may have an RPC address only.
	// found is quick, and may be called by several goroutines. An error means that the way does not work now; it is run again later.
	Run(ctx context.Context, own *fabric.Beacon, found func(fabric.Beacon)) error
}

const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// start runs the ways, and returns what ends and awaits them.
func (s *Service) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	for _, w := range s.config.Ways {
		work.Go(func() { s.keep(ctx, w) })
	}
	work.Go(func() { s.resolver.run(ctx) })
	return func() {
		cancel()
		work.Wait()
	}
}

// keep runs a way until ctx ends, also after it failed. Each new reason is said once.
func (s *Service) keep(ctx context.Context, w Way) {
	var said string
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		own := s.own
		err := w.Run(ctx, &own, s.offer)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			s.config.Logger.WarnContext(ctx, "a way of discovery does not work; the others go on", "way", w.Name(), "error", err)
		}
		if !clock.Wait(ctx, jitter(wait)) {
			return
		}
	}
}

// offer takes what a way found. What is not whole is resolved.
func (s *Service) offer(b fabric.Beacon) {
	if b.Cluster != "" && b.Cluster != s.own.Cluster || b.ID == s.own.ID || !validAddress(b.RPC) {
		return
	}
	if valid(b) && b.Gossip != "" {
		s.see(b)
		return
	}
	s.resolver.offer(b)
}

// resolver asks addresses who they are.
type resolver struct {
	config Config
	own    string
	found  func(fabric.Beacon)
	todo   chan fabric.Beacon

	mu    sync.Mutex
	asked map[string]time.Time // not again before repeatAfter
}

func newResolver(config Config, own string, found func(fabric.Beacon)) *resolver {
	return &resolver{config: config, own: own, found: found, todo: make(chan fabric.Beacon, maxKnown), asked: map[string]time.Time{}}
}

// offer has an address asked, unless it was lately; what is too much comes again.
func (r *resolver) offer(b fabric.Beacon) {
	if r.config.Resolve == nil || b.RPC == r.own {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Before(r.asked[b.RPC]) {
		return
	}
	if len(r.asked) >= maxKnown {
		clear(r.asked)
	}
	select {
	case r.todo <- b:
		r.asked[b.RPC] = now.Add(repeatAfter / 2)
	default:
	}
}

// run asks until ctx ends, a few at a time.
func (r *resolver) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case b := <-r.todo:
					r.resolve(ctx, b)
				}
			}
		})
	}
}

func (r *resolver) resolve(ctx context.Context, b fabric.Beacon) {
	attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	whole, err := r.config.Resolve(attempt, b.RPC)
	if err != nil || !valid(whole) || ctx.Err() != nil {
		if ctx.Err() == nil {
			r.config.Logger.DebugContext(ctx, "nobody of the cluster answers at an address", "address", b.RPC, "via", b.Via, "error", err)
		}
		return
	}
	whole.Via = b.Via
	r.found(whole)
}
