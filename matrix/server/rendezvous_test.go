package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"orrery/matrix/rate"
	"orrery/matrix/rendezvous"
	"orrery/matrix/server"
)

const rendezvousPath = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"

// said is what a device is answered.
type said struct {
	status int
	header http.Header
	text   string
}

// says is a request of a device that has no channel to another one yet, with headers as name and value by turns.
func (s *site) says(method, address string, body io.Reader, headers ...string) said {
	s.t.Helper()
	q, err := http.NewRequestWithContext(s.t.Context(), method, address, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for n := 0; n < len(headers); n += 2 {
		q.Header.Set(headers[n], headers[n+1])
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return said{resp.StatusCode, resp.Header, string(text)}
}

// saysBadly is says for what must be refused.
func (s *site) saysBadly(status int, code, method, address string, body io.Reader, headers ...string) said {
	s.t.Helper()
	got := s.says(method, address, body, headers...)
	var out struct {
		Code string `json:"errcode"`
	}
	if err := json.Unmarshal([]byte(got.text), &out); err != nil || got.status != status || out.Code != code {
		s.t.Errorf("%s %s: %d %s, not %d %s", method, address, got.status, got.text, status, code)
	}
	return got
}

// opens opens a session, and is its address and the tag of what is in it.
func (s *site) opens(payload string) (address, tag string) {
	s.t.Helper()
	got := s.says("POST", s.http.URL+rendezvousPath, strings.NewReader(payload), "Content-Type", "text/plain", "Origin", "https://app.example")
	var out struct{ URL string }
	if err := json.Unmarshal([]byte(got.text), &out); err != nil || got.status != http.StatusCreated || !strings.HasPrefix(out.URL, s.http.URL+"/") {
		s.t.Fatal(got.status, got.text)
	}
	s.dated(got)
	if got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Access-Control-Expose-Headers") != "ETag" {
		s.t.Error(got.header)
	}
	return out.URL, got.header.Get("ETag")
}

// dated sees that an answer has the headers that all about a session must have.
func (s *site) dated(got said) {
	s.t.Helper()
	expires, err := http.ParseTime(got.header.Get("Expires"))
	changed, err2 := http.ParseTime(got.header.Get("Last-Modified"))
	tag := got.header.Get("ETag")
	if err != nil || err2 != nil || !expires.After(changed) || len(tag) < 10 || tag[0] != '"' || got.header.Get("Cache-Control") != "no-store" || got.header.Get("Pragma") != "no-cache" {
		s.t.Errorf("%d %v", got.status, got.header)
	}
}

// TestQRLogin: a new device and one that is logged in speak by turns, as Element X's do after one has read the picture that the other shows; then the new one is let in by the
// other one's user.
func TestQRLogin(t *testing.T) {
	s := newWebSite(t, "oauth:\n  issuer: \"\"", issuerHere)
	s.register("anne")
	old := s.enters("ABCDEFGHIJ")

	// The one device opens the session, with nothing in it.
	address, shown := s.opens("")
	first := s.says("GET", address, nil)
	if first.status != http.StatusOK || first.text != "" || first.header.Get("Content-Type") != "text/plain" || first.header.Get("ETag") != shown {
		t.Fatal(first)
	}
	s.dated(first)
	wrote := s.says("PUT", address, strings.NewReader("hello"), "Content-Type", "text/plain", "If-Match", shown)
	if wrote.status != http.StatusAccepted {
		t.Fatal(wrote)
	}
	s.dated(wrote)
	s.dated(s.saysBadly(http.StatusPreconditionFailed, "M_CONCURRENT_WRITE", "PUT", address, strings.NewReader("too late"), "Content-Type", "text/plain", "If-Match", shown))
	if got := s.says("GET", address, nil, "If-None-Match", shown); got.status != http.StatusOK || got.text != "hello" || got.header.Get("ETag") != wrote.header.Get("ETag") {
		t.Error(got)
	}
	still := s.says("GET", address, nil, "If-None-Match", wrote.header.Get("ETag"))
	if still.status != http.StatusNotModified || still.text != "" {
		t.Error(still)
	}
	s.dated(still)

	// The new device is named by its key, in base64.
	key := "hf+4ZLb/1Hl4sxxYvGQX3xDgrxwcfFTB6nFFGPEXAaQ"
	p := s.discover(androidApp)
	status, link := p.posts(p.endpoint.DeviceAuthURL, url.Values{"client_id": {p.id}, "scope": {proposedAPI + " " + proposedDevice + key}}, linkShape)
	if status != http.StatusOK {
		t.Fatal(status, link)
	}
	code, _ := link["device_code"].(string)
	page, _ := link["verification_uri_complete"].(string)
	ask := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code}}
	if status, out := p.posts(p.endpoint.TokenURL, url.Values{"grant_type": ask["grant_type"], "device_code": {code}, "client_id": {p.id}}, nil); status != http.StatusBadRequest || out["error"] != "authorization_pending" {
		t.Error(status, out)
	}
	b := s.browser()
	_, login := b.get(page)
	_, text := b.post("/account/login", url.Values{"name": {"anne"}, "password": {"pw-anne"}, "next": {next(login)}})
	user, _ := link["user_code"].(string)
	if !strings.Contains(text, "Let Element X in?") || !strings.Contains(text, user) {
		t.Fatal(text)
	}
	device := "devices/" + url.PathEscape(key)
	old.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", device, nil)
	b.post("/account/link", url.Values{"user_code": {user}, "decision": {"allow"}})
	p.takes(ask)
	if who := p.reads(http.StatusOK, "GET", "account/whoami", nil, whoShape); who["device_id"] != key {
		t.Error(who)
	}
	old.reads(http.StatusOK, "GET", device, nil, deviceShape)

	if gone := s.says("DELETE", address, nil); gone.status != http.StatusNoContent {
		t.Error(gone)
	}
	s.saysBadly(http.StatusNotFound, "M_NOT_FOUND", "DELETE", address, nil)
}

// TestRendezvousRefuses: sessions hold little, end by themselves, and are only there where clients log in by OAuth; nobody opens many.
func TestRendezvousRefuses(t *testing.T) {
	c := &clock{}
	s := newWebSiteBefore(t, func(s *site) []string {
		s.now = c.now
		return []string{"oauth:\n  issuer: \"\"", issuerHere}
	})
	address, tag := s.opens("a")
	large := strings.Repeat("x", rendezvous.MaxPayload+1)
	post := s.http.URL + rendezvousPath
	s.saysBadly(http.StatusBadRequest, "M_MISSING_PARAM", "POST", post, strings.NewReader("a"))
	s.saysBadly(http.StatusBadRequest, "M_MISSING_PARAM", "POST", post, io.MultiReader(strings.NewReader("a")), "Content-Type", "text/plain") // of unknown length
	s.saysBadly(http.StatusBadRequest, "M_INVALID_PARAM", "POST", post, strings.NewReader("{}"), "Content-Type", "application/json")
	s.saysBadly(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "POST", post, strings.NewReader(large), "Content-Type", "text/plain")
	s.saysBadly(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", "PUT", address, strings.NewReader(large), "Content-Type", "text/plain", "If-Match", tag)
	s.saysBadly(http.StatusBadRequest, "M_MISSING_PARAM", "PUT", address, strings.NewReader("b"), "Content-Type", "text/plain")
	for _, match := range []string{"*", "W/" + tag, tag + ", " + tag, strings.Trim(tag, `"`)} {
		s.saysBadly(http.StatusBadRequest, "M_INVALID_PARAM", "PUT", address, strings.NewReader("b"), "Content-Type", "text/plain", "If-Match", match)
	}
	if got := s.says("GET", address, nil); got.text != "a" {
		t.Error(got)
	}
	s.opens(large[1:])
	c.forward(rendezvous.Lifetime - time.Minute)
	s.says("PUT", address, strings.NewReader("b"), "Content-Type", "text/plain", "If-Match", tag)
	c.forward(time.Minute)
	s.saysBadly(http.StatusNotFound, "M_NOT_FOUND", "GET", address, nil)
	if ask := s.says("OPTIONS", address, nil, "Origin", "https://app.example"); !strings.Contains(ask.header.Get("Access-Control-Allow-Headers"), "If-Match, If-None-Match") {
		t.Error(ask)
	}

	other := newSite(t, "memory")
	other.saysBadly(http.StatusNotFound, "M_UNRECOGNIZED", "POST", other.http.URL+rendezvousPath, strings.NewReader(""), "Content-Type", "text/plain")
	if f, _ := (&client{site: other}).do("GET", "/_matrix/client/versions", nil)["unstable_features"].(object); f["org.matrix.msc4108"] != nil {
		t.Error(f)
	}
}

// TestRendezvousLimit: an address opens no more sessions than it may try to log in.
func TestRendezvousLimit(t *testing.T) {
	c := &clock{}
	s := configured(t, "memory", `base_url: ""`, "base_url: https://chat.example", "oauth:\n  issuer: \"\"", issuerHere)
	s.now, s.config.Limits = c.now, server.Limits{Logins: rate.Limit{PerSecond: 0.1, Burst: 2}}
	s.start()
	t.Cleanup(func() { s.stop() })
	open := func() said {
		return s.says("POST", s.http.URL+rendezvousPath, strings.NewReader(""), "Content-Type", "text/plain")
	}
	for range 2 {
		if got := open(); got.status != http.StatusCreated || !strings.Contains(got.text, `"https://chat.example`+rendezvousPath+"/") {
			t.Error(got)
		}
	}
	if got := open(); got.status != http.StatusTooManyRequests || !strings.Contains(got.text, "M_LIMIT_EXCEEDED") || got.header.Get("Retry-After") == "" {
		t.Error(got)
	}
	c.forward(time.Hour)
	if got := open(); got.status != http.StatusCreated {
		t.Error(got)
	}
}
