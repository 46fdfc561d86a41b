package router

import (
	"time"
)

// drain waits for the requests in flight to an instance that is no longer current.
type drain struct {
	done chan struct{} // closed at the end
	stop chan struct{} // closed when the instance is current again
}

// backend finds or makes the backend of an instance; one that is being drained is current again. r.mu is held.
func (r *Router) backend(key backendKey) *backend {
	b, ok := r.backends[key]
	if !ok {
		b = newBackend(key, r.config.Dialer, r.config.IdleTimeout)
		r.backends[key] = b
		return b
	}
	if d := r.drains[b]; d != nil {
		close(d.stop)
		delete(r.drains, b)
		b.reinstate()
	}
	return b
}

// retire begins to drain a backend that is no longer current. r.mu is held.
func (r *Router) retire(b *backend) {
	d := &drain{done: make(chan struct{}), stop: make(chan struct{})}
	r.drains[b] = d
	b.retire()
	r.work.Go(func() {
		defer close(d.done)
		r.drain(b, d)
	})
}

func (r *Router) drain(b *backend, d *drain) {
	b.cut()
	limit := time.NewTimer(r.config.DrainLimit)
	defer limit.Stop()
	select {
	case <-b.whenIdle():
	case <-limit.C:
		r.config.Logger.Warn("requests to a former instance are cut", "service", b.key.service,
			"instance", b.key.instance, "in_flight", b.inflight.Load())
	case <-d.stop:
		return
	case <-r.closed:
	}
	r.mu.Lock()
	select {
	case <-d.stop:
		r.mu.Unlock()
		return
	default:
	}
	delete(r.backends, b.key)
	r.mu.Unlock()
	// The drain stays listed until nothing can reach the instance: Await looks there.
	b.close()
	r.mu.Lock()
	delete(r.drains, b)
	r.mu.Unlock()
}

// draining lists the drains of a service's former instances.
func (r *Router) draining(service string) []<-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []<-chan struct{}
	for b, d := range r.drains {
		if b.key.service == service {
			all = append(all, d.done)
		}
	}
	return all
}
