package srv_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"orrery/fabric"
	"orrery/fabric/discovery/srv"
)

// zone is a name server on loopback.
type zone struct {
	mu      sync.Mutex
	records []string
}

func (z *zone) set(records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = records
}

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.Rcode = dns.RcodeNameError
	for _, text := range z.records {
		r, err := dns.NewRR(text)
		if err == nil && len(q.Question) == 1 && r.Header().Name == q.Question[0].Name && r.Header().Rrtype == q.Question[0].Qtype {
			m.Rcode, m.Answer = dns.RcodeSuccess, append(m.Answer, r)
		}
	}
	_ = w.WriteMsg(m)
}

func serve(t *testing.T) (*zone, *net.Resolver) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{}
	server := &dns.Server{PacketConn: c, Handler: z}
	ready := make(chan struct{})
	server.NotifyStartedFunc = func() { close(ready) }
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return z, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// TestRecords follows a zone that changes, and then is empty.
func TestRecords(t *testing.T) {
	z, resolver := serve(t)
	z.set("_orrery._udp.example.org. 5 IN SRV 0 0 7373 one.example.org.", "_orrery._udp.example.org. 5 IN SRV 9 0 7999 two.example.org.",
		"_orrery._udp.example.org. 5 IN SRV 10 0 0 three.example.org.", "_other._udp.example.org. 5 IN SRV 0 0 1 x.example.org.")
	w := &srv.Way{Domain: "example.org", Interval: time.Millisecond, Resolver: resolver}
	found, done := make(chan fabric.Beacon), make(chan error, 1)
	go func() { done <- w.Run(t.Context(), nil, func(b fabric.Beacon) { found <- b }) }()
	for _, want := range []string{"one.example.org:7373", "two.example.org:7999", "one.example.org:7373"} {
		if b := <-found; b.RPC != want || b.Via != srv.Via {
			t.Errorf("found %+v, want %s", b, want)
		}
	}
	z.set()
	for {
		select {
		case <-found:
			continue
		case err := <-done:
			if err == nil {
				t.Error("an empty zone is no error")
			}
			return
		}
	}
}

func TestEnds(t *testing.T) {
	z, resolver := serve(t)
	z.set("_x._udp.example.org. 5 IN SRV 0 0 7373 one.example.org.")
	ctx, cancel := context.WithCancel(t.Context())
	w := &srv.Way{Domain: "_x._udp.example.org", Resolver: resolver}
	if err := w.Run(ctx, nil, func(fabric.Beacon) { cancel() }); err != nil {
		t.Error(err)
	}
}
