package server_test

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// door counts those who come to it, and lets nobody in.
type door struct {
	t       *testing.T
	address string
	knocked atomic.Int64
}

func newDoor(t *testing.T) *door {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, address: l.Addr().String()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.knocked.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return d
}

// came is how many came until now: whoever comes after them is let in after them.
func (d *door) came() int64 {
	d.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(d.t.Context(), "tcp", d.address)
	if err != nil {
		d.t.Fatal(err)
	}
	_, _ = conn.Read(make([]byte, 1)) // until it is closed
	_ = conn.Close()
	return d.knocked.Load() - 1
}

// TestOutboundAddresses: a copy of a server sends no mails and no messages, asks no identity server, whether one is configured or a user names it, and looks at no page; the
// server itself does all of that.
func TestOutboundAddresses(t *testing.T) {
	for _, outbound := range []bool{true, false} {
		for _, configured := range []bool{true, false} {
			t.Run(fmt.Sprintf("outbound %t, configured %t", outbound, configured), func(t *testing.T) {
				t.Parallel()
				mails, texts, identities, pages := newDoor(t), newDoor(t), newDoor(t), newDoor(t)
				named, known := identities.address, "[]"
				if configured {
					named, known = "id.test", `[{name: id.test, url: "http://`+identities.address+`"}]`
				}
				s := newWebSite(t, "mail:\n  server: \"\"", "mail:\n  server: "+mails.address, "encryption: starttls", "encryption: none", `from: ""`, "from: chat@orrery.test", `gateway: ""`, "gateway: http://"+texts.address+"/",
					"identity_servers: []", "identity_servers: "+known, "reachable_networks: []", "reachable_networks: [127.0.0.0/8]", "url_previews: false", "url_previews: true",
					"outbound: true", fmt.Sprintf("outbound: %t", outbound))
				anne := s.register("anne")
				room := anne.create(object{})
				with := func(more object) object {
					all := object{"id_server": named, "id_access_token": "for-id"}
					maps.Copy(all, more)
					return all
				}
				address := object{"medium": "email", "address": "bob@example.org"}
				for _, one := range []struct {
					method, path string
					body         any
				}{
					{"POST", "account/3pid/email/requestToken", wantMail("s", "anne@example.org", 1)},
					{"POST", "register/email/requestToken", wantMail("s", "anne@example.org", 1)},
					{"POST", "account/3pid/msisdn/requestToken", wantCode("s", "07700 900001", 1)},
					{"POST", "rooms/" + url.PathEscape(room) + "/invite", with(address)},
					{"POST", "createRoom", object{"invite_3pid": []object{with(address)}}},
					{"POST", "account/3pid/bind", with(object{"sid": "1", "client_secret": "s"})},
					{"POST", "account/3pid/unbind", with(address)},
					{"GET", "/_matrix/client/v1/media/preview_url?url=" + url.QueryEscape("http://"+pages.address+"/page"), nil},
				} {
					status, text := anne.request(t.Context(), one.method, one.path, one.body)
					if status < http.StatusBadRequest && !strings.Contains(string(text), "no-support") {
						t.Errorf("%s succeeds: %s", one.path, text)
					}
				}
				for name, d := range map[string]*door{"the server of mail": mails, "the gateway of messages": texts, "the identity server": identities, "the page": pages} {
					if n := d.came(); (n > 0) != outbound {
						t.Errorf("%s was asked %d times", name, n)
					}
				}
			})
		}
	}
}
