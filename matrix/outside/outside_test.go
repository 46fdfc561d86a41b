package outside

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	allowed, err := ParseNetworks([]string{"10.1.0.0/16", "fd00::1", "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	denied, err := ParseNetworks([]string{"10.1.2.0/24", "9.9.9.9"})
	if err != nil {
		t.Fatal(err)
	}
	p := Policy{allowed, denied}
	for address, public := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "10.1.0.1": true, "fd00::1": true, "127.0.0.1": true, "::ffff:8.8.8.8": true,
		"9.9.9.9": false, "10.1.2.3": false, "10.2.0.1": false, "127.0.0.2": false, "::1": false, "::": false, "0.0.0.0": false, "::ffff:10.2.0.1": false, "169.254.169.254": false,
		"172.31.255.255": false, "192.168.1.1": false, "100.64.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "fe80::1%eth0": false, "fd00::2": false, "ff02::1": false,
		"64:ff9b::a01:1": false, "2002:a00:1::": false, "::10.2.0.1": false, "fec0::1": false,
	} {
		err := p.Check(netip.MustParseAddr(address))
		if (err == nil) != public || err != nil && !errors.Is(err, ErrPrivate) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, name := range []string{"10.0.0.0/33", "x", ""} {
		if _, err := ParseNetworks([]string{name}); err == nil {
			t.Errorf("%q is a network", name)
		}
	}
}

// TestClient: nothing private is dialled, by whatever name and after whatever redirects.
func TestClient(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked++
		if to := q.URL.Query().Get("to"); to != "" {
			http.Redirect(w, q, to, http.StatusFound)
		}
	}))
	defer s.Close()
	get := func(p Policy, url string) error {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := Client(p, time.Minute, 3).Do(q)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	for _, url := range []string{s.URL, "http://localhost:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1", "http://2130706433:1", "http://0x7f000001:1", "http://0:1"} {
		if err := get(Policy{}, url); err == nil {
			t.Errorf("%s was reached", url)
		}
	}
	if asked != 0 {
		t.Error("it was asked")
	}
	loopback := Policy{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	if err := get(loopback, s.URL+"?to="+s.URL); err != nil {
		t.Error(err)
	}
	if err := get(loopback, s.URL+"?to=http://127.0.0.2:1/"); !errors.Is(err, ErrPrivate) {
		t.Error(err)
	}
	if err := get(loopback, s.URL+"?to=file:///etc/passwd"); err == nil {
		t.Error("a file was read")
	}
}

// TestRedirects: nobody is sent in circles for ever.
func TestRedirects(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked++
		http.Redirect(w, q, "/again", http.StatusFound)
	}))
	defer s.Close()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := Client(Policy{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, time.Minute, 3).Do(q)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, ErrRedirects) || asked != 4 {
		t.Errorf("%v after %d", err, asked)
	}
}
