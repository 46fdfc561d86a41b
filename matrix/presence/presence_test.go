package presence

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLife: somebody comes, does nothing for long, does something, and goes.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		p := New(time.Now, func(user string, s State) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, user+" "+s.Is+" "+s.Status)
		})
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				t.Errorf("told %q, not %q", told, want)
			}
			told = nil
		}
		if s, known := p.Get("@a"); known || s.Is != Offline {
			t.Error(s)
		}
		done := p.Ask("@a", Online)
		check("@a online ")
		for range 5 { // one request after another
			<-time.After(50 * time.Second)
			done()
			done = p.Ask("@a", Online)
		}
		check()
		<-time.After(time.Minute)
		check("@a unavailable ")
		p.Act("@a")
		check("@a online ")
		if s, _ := p.Get("@a"); !s.Now(time.Now()) || s.Now(time.Now().Add(2*time.Minute)) {
			t.Error(s)
		}
		p.Set("@a", Unavailable, "lunch")
		check("@a unavailable lunch")
		p.Set("@a", Online, "back")
		check("@a online back")
		done()
		<-time.After(29 * time.Second)
		check()
		<-time.After(2 * time.Second)
		check("@a offline back")
		quiet := p.Ask("@a", Offline)
		quiet()
		check()
		p.Set("@b", Offline, "")
		check()
		p.Ask("@b", Unavailable)
		check("@b unavailable ")
		p.Set("@b", Offline, "")
		check("@b offline ")
		p.Ask("@b", Online)
		check("@b online ")
		p.Close()
		<-time.After(time.Hour)
		p.Act("@c")
		check()
	})
}
