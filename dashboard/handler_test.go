package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"orrery/internal/testenv"
)

// visitor is a browser without JavaScript.
type visitor struct {
	t      *testing.T
	client *http.Client
	base   string
}

func visit(t *testing.T, base string) visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return visitor{t, &http.Client{Jar: jar}, base}
}

func (v visitor) open(path string) *http.Response {
	v.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = v.base + path
	}
	r, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	answer, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// get returns the status and content of a path.
func (v visitor) get(path string) (int, string) {
	v.t.Helper()
	answer := v.open(path) //nolint:bodyclose // open closes it at the test's end
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer.StatusCode, string(content)
}

func TestLogin(t *testing.T) {
	h, server := serve(t, show(observatory()))
	stranger := visit(t, server.URL)
	for _, path := range []string{"/", "/events", "/view.json"} {
		if status, text := stranger.get(path); status != http.StatusUnauthorized || !strings.Contains(text, "run: orrery dashboard") {
			t.Errorf("%s without a cookie: %d %s", path, status, text)
		}
	}
	if status, _ := stranger.get("/login?token=guess"); status != http.StatusUnauthorized {
		t.Errorf("a guess: %d", status)
	}

	link := h.NewLink(server.URL + "/")
	guest := visit(t, server.URL)
	answer := guest.open(link) //nolint:bodyclose // open closes it at the test's end
	if answer.StatusCode != http.StatusOK || answer.Request.URL.Path != "/" {
		t.Fatalf("the link leads to %s: %s", answer.Request.URL, answer.Status)
	}
	csp := answer.Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'nonce-") {
		t.Errorf("policy %q", csp)
	}
	for _, who := range []visitor{stranger, guest} {
		if status, _ := who.get(link); status != http.StatusUnauthorized {
			t.Errorf("the link again: %d", status)
		}
	}
	if status, _ := guest.get("/"); status != http.StatusOK {
		t.Errorf("the page again: %d", status)
	}
	if status, _ := stranger.get("/"); status != http.StatusUnauthorized {
		t.Errorf("the page for somebody else: %d", status)
	}
}

func TestCookie(t *testing.T) {
	h, server := serve(t, show(observatory()))
	v := visit(t, server.URL)
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	cookies := v.open(h.NewLink(server.URL)).Cookies() //nolint:bodyclose // open closes it at the test's end
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode {
		t.Fatalf("cookies %v", cookies)
	}
	other, _ := serve(t, show(observatory()))
	if other.cookie == h.cookie {
		t.Error("two dashboards on one machine share a cookie's name")
	}
}

func TestHost(t *testing.T) {
	h, server := serve(t, show(observatory()))
	v := visit(t, server.URL)
	v.get(h.NewLink(server.URL))
	for host, want := range map[string]int{
		"": 200, "localhost": 200, "LOCALHOST:7070": 200, "127.0.0.1:1": 200, "[::1]:80": 200, "[::1]": 200,
		"evil.example": 403, "evil.example:7070": 403, "localhost.evil.example": 403, "192.168.1.5:7070": 403, "127.0.0.1.evil.example": 403,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/view.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		for _, c := range v.client.Jar.Cookies(r.URL) {
			r.AddCookie(c)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("host %q: %s, want %d", host, answer.Status, want)
		}
	}
}

func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		late := d.link(time.Now())
		time.Sleep(linkLife)
		if _, ok := d.exchange(late, time.Now()); ok {
			t.Error("a link works after its time")
		}
		intime := d.link(time.Now())
		time.Sleep(linkLife - 1)
		cookie, ok := d.exchange(intime, time.Now())
		if !ok || !d.admits(cookie, time.Now()) {
			t.Error("a link does not work in its time")
		}
		time.Sleep(visitLife)
		if d.admits(cookie, time.Now()) {
			t.Error("a cookie works after its time")
		}
		first := d.link(time.Now())
		for range 10 * maxLinks {
			time.Sleep(time.Millisecond)
			d.link(time.Now())
		}
		if _, ok := d.exchange(first, time.Now()); ok || len(d.links) > maxLinks {
			t.Errorf("%d links are kept", len(d.links))
		}
	})
}

func TestJSON(t *testing.T) {
	source := show(observatory())
	h, server := serve(t, source)
	v := visit(t, server.URL)
	v.get(h.NewLink(server.URL))
	_, text := v.get("/view.json")
	var got View
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(observatory(), got); diff != "" {
		t.Error(diff)
	}
	source.err = errors.New("no quorum")
	if status, text := v.get("/view.json"); status != http.StatusServiceUnavailable || text != "no quorum\n" {
		t.Errorf("%d %s", status, text)
	}
	if status, text := v.get("/"); status != http.StatusOK || !strings.Contains(text, "no quorum") {
		t.Errorf("the page does not say what is wrong: %d", status)
	}
}

// received reads sections from a stream until it has n.
func received(t *testing.T, from *bufio.Scanner, n int) map[string]string {
	t.Helper()
	got := map[string]string{}
	for len(got) < n && from.Scan() {
		data, ok := strings.CutPrefix(from.Text(), "data: ")
		if !ok {
			continue
		}
		var s section
		if err := json.Unmarshal([]byte(data), &s); err != nil {
			t.Fatal(err)
		}
		got[s.ID] = string(s.HTML)
	}
	if len(got) < n {
		t.Fatalf("the stream ended after %d sections: %v", len(got), from.Err())
	}
	return got
}

func TestStream(t *testing.T) {
	source := show(observatory())
	h, server := serve(t, source)
	v := visit(t, server.URL)
	v.get(h.NewLink(server.URL))
	answer := v.open("/events") //nolint:bodyclose // open closes it at the test's end
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	received(t, lines, 1+len(below))

	// Only what changed is sent.
	source.set(func(v *View) {
		v.Events = append([]Event{{Time: at("14:09:00"), Kind: "state", Text: "<b>collected</b>"}}, v.Events...)
	})
	changed := received(t, lines, 1)
	if text := changed["events"]; !strings.Contains(text, "&lt;b&gt;collected") {
		t.Errorf("changed: %v", changed)
	}
	source.set(moved)
	changed = received(t, lines, 2)
	if changed["map"] == "" || changed["services"] == "" {
		t.Errorf("after a move %d sections changed", len(changed))
	}
	h.Close()
	if lines.Scan() && lines.Text() != "" {
		t.Errorf("after the end: %s", lines.Text())
	}
}

// TestRestless: a source that changes all the time is drawn nevertheless.
func TestRestless(t *testing.T) {
	source := show(observatory())
	h, server := serve(t, source)
	v := visit(t, server.URL)
	v.get(h.NewLink(server.URL))
	lines := bufio.NewScanner(v.open("/events").Body) //nolint:bodyclose // open closes it at the test's end
	lines.Buffer(nil, 1<<20)
	received(t, lines, 1+len(below))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := uint64(2); ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				source.set(func(v *View) { v.Services[0].Epoch = i })
			}
		}
	}()
	for range 3 {
		received(t, lines, 1)
	}
	close(stop)
	<-stopped
}

func TestTooManyStreams(t *testing.T) {
	h, server := serve(t, show(observatory()))
	v := visit(t, server.URL)
	v.get(h.NewLink(server.URL))
	for i := range maxStreams + 1 {
		want := http.StatusOK
		if i == maxStreams {
			want = http.StatusServiceUnavailable
		}
		if answer := v.open("/events"); answer.StatusCode != want { //nolint:bodyclose // open closes it at the test's end
			t.Fatalf("stream %d: %s", i, answer.Status)
		}
	}
}

var quoted = regexp.MustCompile(`"[^"]*"`)

// FuzzView: whatever names say, they stay text.
func FuzzView(f *testing.F) {
	f.Add("sky", "active", "127.0.0.1:80", "one")
	f.Add(`"><script>alert(1)</script>`, `x" onload="alert(1)`, "javascript:alert(1)", "</svg><img src=x onerror=alert(1)>")
	f.Add("", "", "", "")
	f.Add("a", "b", "c", " onerror=")
	f.Add("\x00\xff", "é", "🪐", strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, name, phase, public, node string) {
		v := View{
			Cluster:    Cluster{Name: name, ID: node},
			Nodes:      []Node{{Name: node, State: phase, Address: public}},
			Services:   []Service{{Name: name, Node: node, Phase: phase, Public: public, DependsOn: []string{name, phase}, MovingTo: public, Detail: phase}},
			Components: []Component{{Ref: name, Node: node, Phase: phase, Detail: public, Session: phase}},
			Sessions:   []Session{{Name: name, Owner: node, Overrides: []Override{{Service: name, Kind: phase, Node: public}}}},
			Events:     []Event{{Kind: phase, Text: name}},
		}
		drawn, err := sections(v, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range drawn {
			// A value may itself end in " onload=". No name brings a quote of its own, so those that are there tell values apart.
			html := strings.ToLower(string(s.HTML))
			html += "\n" + quoted.ReplaceAllString(html, `""`)
			for _, bad := range []string{"<script", "<img", ` onload=""`, ` onerror=""`, `href="javascript:`} {
				if strings.Contains(html, bad) {
					t.Errorf("%s lets %s through", s.ID, bad)
				}
			}
		}
	})
}

func TestLayout(t *testing.T) {
	for _, c := range []struct{ nodes, services int }{{0, 0}, {1, 0}, {1, 1}, {1, 21}, {1, 22}, {1, 1000}, {3, 30}, {12, 1000}, {0, 5}} {
		t.Run(fmt.Sprintf("%d on %d", c.services, c.nodes), func(t *testing.T) {
			v := crowd(max(c.nodes, 1), c.services)
			if c.nodes == 0 {
				v.Nodes = nil
			}
			for _, columns := range []int{1, 3} {
				checkLayout(t, layOut(v, columns), c.services)
			}
		})
	}
}

// checkLayout finds moons that are missing, out of the picture or on top of each other.
func checkLayout(t *testing.T, a atlas, services int) {
	t.Helper()
	if len(a.Moons) != services {
		t.Errorf("%d moons for %d services", len(a.Moons), services)
	}
	for i, m := range a.Moons {
		if m.X < m.R || m.Y < m.R || m.X > a.Width-m.R || m.Y > a.Height-m.R {
			t.Errorf("%s is outside, at %.0f,%.0f of %.0f,%.0f", m.Name, m.X, m.Y, a.Width, a.Height)
		}
		for _, o := range a.Moons[:i] {
			if dx, dy := m.X-o.X, m.Y-o.Y; dx*dx+dy*dy < (m.R+o.R)*(m.R+o.R) {
				t.Errorf("%s is on %s", m.Name, o.Name)
			}
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		-1: "", 0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9999: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		2_310_144: "2.3 MB", 1 << 40: "1.1 TB", 1 << 62: "4612 PB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func BenchmarkSections(b *testing.B) {
	v := crowd(6, 1000)
	var length int
	for b.Loop() {
		drawn, err := sections(v, "")
		if err != nil {
			b.Fatal(err)
		}
		length = 0
		for _, s := range drawn {
			length += len(s.HTML)
		}
	}
	b.ReportMetric(float64(length), "bytes/page")
}

// TestSourceStops: a stream leaves nothing behind at its source.
func TestSourceStops(t *testing.T) {
	source := show(observatory())
	h, server := serve(t, source)
	v := visit(t, server.URL)
	v.get(h.NewLink(server.URL))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := v.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.ReadFull(answer.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	testenv.Eventually(t, "the source is not watched any more", func() bool {
		source.mu.Lock()
		defer source.mu.Unlock()
		return len(source.watchers) == 0
	})
}
