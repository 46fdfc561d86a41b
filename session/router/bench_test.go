package router

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"orrery/fabric/table/memory"
	"orrery/session"
)

// BenchmarkProxy compares the router with the standard library's reverse proxy: what is counted besides the time is
// client, proxy and service together.
func BenchmarkProxy(b *testing.B) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"name":"Mars"}`)
	}))
	defer service.Close()
	address := service.Listener.Addr().String()
	r, err := New(Config{Self: self, Table: memory.New(), Dialer: &direct{}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	known := newRecords()
	known.routes["x"] = session.Route{Instance: session.Instance{Node: self, Address: address}}
	r.apply(known.table(), 1)
	local, err := r.Listen(b.Context(), "x")
	if err != nil {
		b.Fatal(err)
	}
	target := &url.URL{Scheme: "http", Host: address}
	plain := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.SetXForwarded()
	}})
	defer plain.Close()
	for name, at := range map[string]string{
		"direct": address, "router": local, "ReverseProxy": plain.Listener.Addr().String(),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				res, err := http.Get("http://" + at)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
}
