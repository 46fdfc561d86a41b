package server_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/matrix/server"
)

// rival makes rooms in which other servers are named, and is the id of one with a server ACL.
func rival(anne *client) string {
	anne.t.Helper()
	id := anne.create(object{"name": "Guarded", "invite": []string{"@x:good.test", "@y:good.test:8448"}, "initial_state": []object{
		{"type": "m.room.server_acl", "state_key": "", "content": object{"allow": []string{"*"}, "deny": []string{"evil.test", "*.evil.test"}}},
	}})
	anne.do("POST", "rooms/"+url.PathEscape(id)+"/ban", object{"user_id": "@troll:evil.test"})
	anne.create(object{"name": "Ours", "creation_content": object{"m.federate": false}})
	other := anne.create(object{"name": "Lounge", "invite": []string{"@x:good.test", "@z:other.test"}})
	anne.do("POST", "rooms/"+url.PathEscape(other)+"/kick", object{"user_id": "@z:other.test"}) // nothing is left of other.test
	return id
}

// federated is the settings of a server that answers others.
func federated(listen, address, cert, key string) []string {
	return []string{"  listen: \"\"\n  address: \"\"\n  tls_certificate: \"\"\n  tls_key: \"\"", fmt.Sprintf("  listen: %s\n  address: %q\n  tls_certificate: %s\n  tls_key: %s", listen, address, cert, key)}
}

// TestFederationPage: the page says what other servers find of this one, and which of them its rooms name, whatever the database; the list of servers to which something is sent is
// empty.
func TestFederationPage(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		root, anne := administered(t, s), s.register("anne")
		b := s.surfer()
		b.logIn("root", "pw-root")
		for _, text := range []string{"There are no rooms", "No user of another server", "None since the server runs", "nowhere", "Messages are not exchanged with other servers yet"} {
			says(t, b.get("/admin/federation"), text)
		}
		id := rival(anne)
		page := b.get("/admin/federation")
		for _, text := range []string{
			"https://orrery.test/.well-known/matrix/server", "This server says nothing there", "_matrix-fed._tcp.orrery.test", "orrery.test:8448", "not told (<code>base_url</code>)", "ed25519:",
			"2 of 3 rooms could be joined", `<a href="/admin/rooms?show=here">1</a> was made for this server alone`, "Guarded</a>", "/admin/rooms/" + url.PathEscape(id) + "#acl",
			`good.test</th><td class="num">2</td><td class="num">0</td><td class="num">2</td><td class="num">0</td>`, `good.test:8448</th><td class="num">1</td><td class="num">0</td><td class="num">1</td>`,
			`evil.test</th><td class="num">1</td><td class="num">0</td><td class="num">0</td><td class="num">1</td>`,
		} {
			says(t, page, text)
		}
		if strings.Contains(page, "other.test") || strings.Contains(page, "Lounge") {
			t.Error(page)
		}
		(&client{site: s}).refused(http.StatusNotFound, "M_NOT_FOUND", "GET", "/.well-known/matrix/server", nil)
		says(t, b.get("/admin/federation"), `/.well-known/matrix/server</th><td><span class="badge warn">404</span></td><td class="num">1</td>`)

		destinations := adminPath + "v1/federation/destinations"
		if all := root.do("GET", destinations+"?from=0&limit=10&order_by=retry_last_ts&dir=b", nil); all["total"] != float64(0) || len(list(t, all, "destinations")) != 0 || len(all) != 2 {
			t.Error(all)
		}
		anne.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", destinations, nil)
		for _, query := range []string{"?from=x", "?limit=-1", "?order_by=name", "?dir=up"} {
			root.refused(http.StatusBadRequest, "M_INVALID_PARAM", "GET", destinations+query, nil)
		}
		for method, path := range map[string]string{"GET": "/good.test", "POST": "/good.test/reset_connection"} {
			root.refused(http.StatusNotFound, "M_NOT_FOUND", method, destinations+path, object{})
		}
		root.refused(http.StatusNotFound, "M_NOT_FOUND", "GET", destinations+"/good.test/rooms", nil)
	})
}

// TestFederationAddress: other servers are told where this one is, and want the certificate of that; check and the page say what is wrong with the one that there is.
func TestFederationAddress(t *testing.T) {
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue(t, "servers")
	for address, c := range map[string]struct {
		told string
		says []string
		no   string
	}{
		"":               {"", []string{"is not for orrery.test, as other servers want it", "signed by nobody whom this machine trusts", "connect to <span class=\"mono\">orrery.test:8448</span>"}, ""},
		"localhost":      {"localhost", []string{"signed by nobody whom this machine trusts", "connect to <span class=\"mono\">localhost:8448</span>", "certificate for <span class=\"mono\">localhost</span>"}, "is not for"},
		"127.0.0.1:1234": {"127.0.0.1:1234", []string{"connect to <span class=\"mono\">127.0.0.1:1234</span>", "CN=authority"}, "is not for"},
		"[::1]:1234":     {"[::1]:1234", []string{"connect to <span class=\"mono\">[::1]:1234</span>", "is not for [::1]"}, ""},
	} {
		t.Run(address, func(t *testing.T) {
			s := newSite(t, "memory", federated("127.0.0.1:1", address, cert, key)...)
			administered(t, s)
			b := s.surfer()
			b.logIn("root", "pw-root")
			page := b.get("/admin/federation")
			for _, text := range c.says {
				says(t, page, text)
			}
			if c.no != "" && strings.Contains(page, c.no) {
				t.Errorf("it says %q: %s", c.no, page)
			}
			if c.told != "" {
				if got := (&client{site: s}).do("GET", "/.well-known/matrix/server", nil); fmt.Sprint(got) != "map[m.server:"+c.told+"]" {
					t.Error(got)
				}
			}
			for _, f := range server.Check(t.Context(), s.config, nil) {
				if f.Check == "federation certificate" && (f.OK || c.no == "" && !strings.Contains(f.Text, "is not for") || !strings.Contains(f.Text, "trusts")) {
					t.Errorf("%+v", f)
				}
			}
		})
	}
	direct := newSite(t, "memory")
	direct.stop()
	direct.config.ServerName, direct.config.Federation.Address = "orrery.test:1234", "there.test"
	direct.start()
	administered(t, direct)
	b := direct.surfer()
	b.logIn("root", "pw-root")
	for _, text := range []string{"connect to <span class=\"mono\">orrery.test:1234</span> and ask nobody before", "(there.test) is not asked for", "certificate for <span class=\"mono\">orrery.test</span>"} {
		says(t, b.get("/admin/federation"), text)
	}
}
