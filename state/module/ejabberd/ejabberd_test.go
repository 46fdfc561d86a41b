package ejabberd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"orrery/internal/extsort"
	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/ejabberd/term"
	"orrery/state/module/moduletest"
)

var serial atomic.Int64

// newTarget returns a virtual host that the server does not have.
func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	e := testenv.Ejabberd(t)
	target := state.Target{
		Component: state.Component{Name: name, Module: Name, Container: "ejabberd", Properties: state.Properties{"host": fmt.Sprintf("h%d.example", serial.Add(1))}},
		Container: state.Container{Name: "ejabberd", Module: Name, Directory: t.TempDir(), Properties: state.Properties{
			"node": e.Node, "port": e.Port, "cookieFile": e.CookieFile, "hostsFile": e.HostsFile,
		}},
		Directory: t.TempDir(),
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := New().Deactivate(ctx, target); err != nil && New().Check(target.Component) == nil {
			t.Errorf("at the end: %v", err)
		}
		if left, err := os.ReadDir(target.Directory); err != nil || len(left) > 0 {
			t.Errorf("left in the component's folder: %v, %v", left, err)
		}
	})
	return target
}

// talk is a session that all tests share: starting erl for each question would take most of their time.
var talk struct {
	once     sync.Once
	requests chan func(x *session)
	ended    chan error
}

// ask lets do talk to the server.
func ask(t *testing.T, target state.Target, do func(h *host) error) {
	t.Helper()
	s, err := decodeContainer(target.Container)
	if err != nil {
		t.Fatal(err)
	}
	talk.once.Do(func() {
		talk.requests, talk.ended = make(chan func(*session)), make(chan error, 1)
		go func() { // ends with the test binary
			talk.ended <- s.with(context.WithoutCancel(t.Context()), func(x *session) error {
				for request := range talk.requests {
					request(x)
				}
				return nil
			})
		}()
	})
	name, err := decode(target.Component)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	request := func(x *session) {
		h := &host{name: name, folder: target.Directory, server: s, x: x}
		err := h.look()
		if err == nil {
			err = do(h)
		}
		done <- err
	}
	select {
	case talk.requests <- request:
		err = <-done
	case err = <-talk.ended:
		talk.ended <- err
	}
	if err != nil {
		t.Fatal(err)
	}
}

func b(s string) term.Binary { return term.Binary(s) }

// change makes accounts and all that hangs on them, by the server's own functions.
func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	k := serial.Add(1)
	ask(t, target, func(h *host) error {
		user, host := b(fmt.Sprintf("ünï.%d", k)), b(h.name)
		for _, call := range []struct {
			module, function string
			arguments        []term.Term
		}{
			{"ejabberd_auth", "try_register", []term.Term{user, host, b(fmt.Sprint("sesame", n))}},
			{"mod_admin_extra", "add_rosteritem", []term.Term{user, host, b("friend"), b("first.example"), b("Fri\"end\n"), b("group"), b("both")}},
			{"mod_admin_extra", "set_vcard", []term.Term{user, host, b("FN"), b(fmt.Sprint("Nörd ", n))}},
			{"mod_admin_extra", "private_set", []term.Term{user, host, b("<x xmlns='urn:x'>a &amp; b</x>")}},
			{"mod_admin_extra", "set_last", []term.Term{user, host, 1700000000 + k, b("gone")}},
			{"mod_admin_extra", "send_message", []term.Term{b("chat"), b("friend@first.example"), user + "@" + host, b(""), b(fmt.Sprint("hello ", k))}},
			{"mod_muc_admin", "create_room_with_opts", []term.Term{b(fmt.Sprint("room", k)), "conference." + host, host, term.List{term.Tuple{b("title"), b("T")}, term.Tuple{b("persistent"), b("true")}}}},
			{"mod_muc_admin", "set_room_affiliation", []term.Term{b(fmt.Sprint("room", k)), "conference." + host, user + "@" + host, b("owner")}},
			{"mod_pubsub", "create_node", []term.Term{"pubsub." + host, host, b(fmt.Sprint("news", k)), jid(user, host), b("flat")}},
			{"mod_shared_roster", "create_group", []term.Term{host, b("staff"), term.List{term.Tuple{term.Atom("description"), b(fmt.Sprint(k))}}}},
			{"mod_shared_roster", "add_user_to_group", []term.Term{host, term.Tuple{user, host}, b("staff")}},
		} {
			if _, err := h.x.call(call.module, call.function, call.arguments...); err != nil {
				return err
			}
		}
		return publish(h, user, fmt.Sprint("news", k), fmt.Sprint("item", n))
	})
}

// jid is a record of ejabberd's.
func jid(user, host term.Binary) term.Term {
	return term.Tuple{term.Atom("jid"), user, host, b(""), user, host, b("")}
}

func publish(h *host, user term.Binary, node, item string) error {
	host := b(h.name)
	element := term.Tuple{term.Atom("xmlel"), b("entry"), term.List{term.Tuple{b("xmlns"), b("urn:x")}}, term.List{term.Tuple{term.Atom("xmlcdata"), b("text")}}}
	_, err := h.x.call("mod_pubsub", "publish_item", "pubsub."+host, host, b(node), jid(user, host), b(item), term.List{element})
	return err
}

// digest reads all of the host's records by what Mnesia itself selects, without its name.
func digest(t *testing.T, target state.Target) string {
	t.Helper()
	var lines bytes.Buffer
	ask(t, target, func(h *host) error {
		if err := h.x.begin("read", h.locked()); err != nil {
			return err
		}
		return h.sorting(t.Context(), func(s *extsort.Sorter) error {
			_, err := h.collect(t.Context(), func(line []byte) error { return s.Add(line) })
			if err == nil {
				_, err = h.x.ask(term.Atom("commit"))
			}
			return err
		}, func(s *extsort.Sorter) error {
			return s.Each(t.Context(), func(line []byte) error {
				lines.WriteString(strings.ReplaceAll(string(line), h.name, "HOST"))
				return nil
			})
		})
	})
	return lines.String()
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: newTarget, Change: change, Digest: digest,
		Bad: []state.Properties{{"host": "a b"}, {"host": "Upper.example"}, {"host": "a..b"}, {"host": `x"y`}, {"host": strings.Repeat("x", 254)}, {"host": 1}},
	})
}
