package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"orrery/matrix/rate"
	"orrery/matrix/server"
)

// TestSlowService: a service that does not answer holds up neither those who send nor other services; it gets one transaction at a time, and once it answers all that came
// meanwhile, in order. A server ends while one is slow, and sends the same again.
func TestSlowService(t *testing.T) {
	slow, quick := newBridge(t, "slow"), newBridge(t, "quick")
	begun, answer := make(chan struct{}, 100), make(chan struct{})
	slow.before = func(q *http.Request) {
		begun <- struct{}{}
		select {
		case <-answer:
		case <-q.Context().Done():
		}
	}
	s := bridged(t, "sqlite:homeserver.db", []*bridge{slow, quick})
	anne := s.register("anne")
	room := anne.create(object{"preset": "public_chat"})
	for _, b := range []*bridge{slow, quick} {
		s.ghost(b, b.id+"_x").join(room)
	}
	<-begun
	var want []string
	for n := range 30 {
		want = append(want, fmt.Sprint(n))
		anne.send(room, fmt.Sprint(n), fmt.Sprint(n))
	}
	if got := quick.heard(30); !slices.Equal(got, want) {
		t.Errorf("the other service heard %q", got)
	}
	if n := len(begun); n != 0 {
		t.Errorf("%d more transactions were sent before the first one was answered", n)
	}
	s.stop()
	s.start()
	s.server.BeginServices(t.Context())
	<-begun // the same, or the test's service says so
	close(answer)
	if got := slow.heard(30); !slices.Equal(got, want) {
		t.Errorf("heard %q", got)
	}
}

// TestServiceLimits: users of a service are limited as others are unless its registration says that they are not, and the service's own user never is.
func TestServiceLimits(t *testing.T) {
	free, bound := newBridge(t, "free"), newBridge(t, "bound", "rate_limited: true")
	s := configured(t, "memory", "application_services: []", "application_services: [services]")
	s.config.Limits = server.Limits{Writes: rate.Limit{PerSecond: 0.0001, Burst: 3}}
	s.describe(free, bound)
	s.start()
	t.Cleanup(func() { s.stop() })
	for _, c := range []struct {
		bridge *bridge
		ghost  bool
		want   string
	}{
		{free, true, "[200 200 200 200 200]"}, {free, false, "[200 200 200 200 200]"}, {bound, true, "[200 200 200 429 429]"}, {bound, false, "[200 200 200 200 200]"},
	} {
		who := ghost{s.as(c.bridge), s.as(c.bridge).user}
		if c.ghost {
			who = s.ghost(c.bridge, c.bridge.id+"_bob")
		}
		var got []int
		for n := range 5 {
			path := "user/" + url.PathEscape(who.id) + "/account_data/x" + fmt.Sprint(n)
			status, _ := who.bot.request(t.Context(), "PUT", who.path(path), object{})
			got = append(got, status)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s, a user of its namespace %v: %v, not %s", c.bridge.id, c.ghost, got, c.want)
		}
	}
}
