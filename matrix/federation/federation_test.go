package federation_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"orrery/matrix/canonical"
	"orrery/matrix/federation"
	"orrery/matrix/signature"
)

// TestKeys: what a server says of its keys is signed by them, and ends.
func TestKeys(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_700_000_000_000)
	key := signature.Key{ID: "ed25519:a", Private: private}
	a := federation.New(federation.Config{Server: "here.test", Key: key, Version: "1", Now: func() time.Time { return now }})
	ask := func(method, path string) (int, canonical.Value) {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		v, err := canonical.Parse(w.Body.Bytes(), canonical.Strict)
		if err != nil || w.Header().Get("Content-Type") != "application/json" {
			t.Fatal(err, w.Header())
		}
		return w.Code, v
	}
	status, v := ask(http.MethodGet, "/_matrix/key/v2/server")
	known := func(entity, id string) (ed25519.PublicKey, bool) {
		return public, entity == "here.test" && id == "ed25519:a"
	}
	if err := signature.Check(v, "here.test", known); status != http.StatusOK || err != nil {
		t.Error(status, err)
	}
	until, _ := v.Get("valid_until_ts").Int()
	if got := v.Get("verify_keys", "ed25519:a", "key").String(); got != signature.Encode(public) || v.Get("server_name").String() != "here.test" || until != now.Add(24*time.Hour).UnixMilli() {
		t.Errorf("%s", v.JSON())
	}
	for request, want := range map[[2]string]int{{http.MethodPost, "/_matrix/key/v2/server"}: http.StatusMethodNotAllowed, {http.MethodGet, "/_matrix/federation/v1/other"}: http.StatusNotFound} {
		if status, v := ask(request[0], request[1]); status != want || v.Get("errcode").String() != "M_UNRECOGNIZED" {
			t.Errorf("%v: %d %s", request, status, v.JSON())
		}
	}
	if _, v := ask(http.MethodGet, "/_matrix/federation/v1/version"); v.Get("server", "name").String() != "Orrery" || v.Get("server", "version").String() != "1" {
		t.Errorf("%s", v.JSON())
	}
}

// TestCounts: what others ask is counted by its path and how it was answered, whatever paths they make up; and is in the metrics.
func TestCounts(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	a := federation.New(federation.Config{Server: "here.test", Key: signature.Key{ID: "ed25519:a", Private: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}, Now: func() time.Time { return now }})
	ask := func(method, path string, want int) {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if w.Code != want {
			t.Errorf("%s %s: %d", method, path, w.Code)
		}
	}
	ask(http.MethodGet, "/_matrix/key/v2/server", http.StatusOK)
	ask(http.MethodPut, "/_matrix/key/v2/server", http.StatusMethodNotAllowed)
	now = now.Add(time.Minute)
	ask(http.MethodGet, "/_matrix/key/v2/server", http.StatusOK)
	ask(http.MethodGet, federation.WellKnown, http.StatusNotFound)
	for n := range 100 {
		ask(http.MethodPost, "/_matrix/federation/v9/"+strconv.Itoa(n), http.StatusNotFound)
	}
	a.Address = "there.test:443"
	ask(http.MethodGet, federation.WellKnown, http.StatusOK)
	var got []string
	for _, c := range a.Counts() {
		got = append(got, fmt.Sprint(c.Request, " ", c.Status, " ", c.N, " ", now.Sub(c.Last)))
	}
	want := []string{
		"/.well-known/matrix/server 200 1 0s", "/.well-known/matrix/server 404 1 0s", "/_matrix/key/v2/server 200 2 0s", "/_matrix/key/v2/server 405 1 1m0s", "other 404 100 0s",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if n := testutil.CollectAndCount(a); n != 2*len(want) {
		t.Error(n)
	}
	if problems, err := testutil.CollectAndLint(a); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
