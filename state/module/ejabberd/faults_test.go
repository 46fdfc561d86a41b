package ejabberd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/keeper"
	"orrery/state/module/ejabberd/term"
	"orrery/state/store"
)

func activate(t *testing.T, target state.Target) {
	t.Helper()
	if err := New().Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New().Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// register makes an account.
func register(t *testing.T, target state.Target, user, password string) {
	t.Helper()
	ask(t, target, func(h *host) error {
		answer, err := h.x.call("ejabberd_auth", "try_register", b(user), b(h.name), b(password))
		if err == nil && answer != term.Atom("ok") {
			err = fmt.Errorf("not registered: %s", term.Text(answer))
		}
		return err
	})
}

// login connects as a client does.
func login(t *testing.T, target state.Target, user, password string) (net.Conn, error) {
	t.Helper()
	name, err := decode(target.Component)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", testenv.Ejabberd(t).ClientPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	stream := fmt.Sprintf("<stream:stream to='%s' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>", name)
	secret := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	for _, step := range [][2]string{
		{stream, "</stream:features>"},
		{"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + secret + "</auth>", "<success"},
		{stream, "</stream:features>"},
		{"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</iq>"},
	} {
		if _, err := io.WriteString(conn, step[0]); err != nil {
			return nil, err
		}
		if err := await(conn, step[1]); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// await reads until a word comes.
func await(conn net.Conn, word string) error {
	var got []byte
	piece := make([]byte, 4096)
	for !bytes.Contains(got, []byte(word)) {
		n, err := conn.Read(piece)
		got = append(got, piece[:n]...)
		if err != nil || bytes.Contains(got, []byte("</stream:stream>")) || bytes.Contains(got, []byte("<failure")) {
			return fmt.Errorf("%w: %s", errors.Join(err, errGone), got)
		}
	}
	return nil
}

// Clients are counted, disconnected by a restore and by a deactivation, and let in with what was restored.
func TestClients(t *testing.T) {
	m, target := New(), newTarget(t, "clients")
	activate(t, target)
	register(t, target, "alice", "old")
	before := snapshot(t, target)
	ask(t, target, func(h *host) error {
		_, err := h.x.call("ejabberd_auth", "set_password", b("alice"), b(h.name), b("new"))
		return err
	})
	conn, err := login(t, target, "alice", "new")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.Clients(t.Context(), target); n != 1 || err != nil {
		t.Errorf("%d clients, %v", n, err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(before)); err != nil {
		t.Fatal(err)
	}
	if err := await(conn, "</stream:stream>"); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the client is still connected")
	}
	if _, err := login(t, target, "alice", "new"); err == nil {
		t.Error("the password is not that of the snapshot")
	}
	if _, err := login(t, target, "alice", "old"); err != nil {
		t.Error(err)
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if _, err := login(t, target, "alice", "old"); err == nil {
		t.Error("an inactive host lets clients in")
	}
	if n, err := m.Clients(t.Context(), target); n != 0 || err != nil {
		t.Errorf("%d clients, %v", n, err)
	}
}

// A host that ejabberd.yml names needs no hostsFile, and is out of service while it is inactive.
func TestHostInConfiguration(t *testing.T) {
	m, target := New(), newTarget(t, "first")
	target.Component.Properties["host"] = "first.example"
	delete(target.Container.Properties, "hostsFile")
	activate(t, target)
	register(t, target, "bob", "secret")
	for range 2 {
		if err := m.Deactivate(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if _, err := login(t, target, "bob", "secret"); err == nil {
			t.Error("an inactive host lets clients in")
		}
		activate(t, target)
		if _, err := login(t, target, "bob", "secret"); err != nil {
			t.Error(err)
		}
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	activate(t, target)
	other := newTarget(t, "no-such-host")
	delete(other.Container.Properties, "hostsFile")
	if err := m.Activate(t.Context(), other); err == nil || !strings.Contains(err.Error(), "ejabberd.yml") {
		t.Errorf("a host that the server does not have: %v", err)
	}
}

// Defect 12 of Dysnomia: its module removed the whole server's state, without a last snapshot. Here the last snapshot is
// taken by the keeper, only the host's records go, and the snapshot brings them back.
func TestLastSnapshotBeforeCollection(t *testing.T) {
	target, other := newTarget(t, "garbage"), newTarget(t, "other")
	activate(t, other)
	change(t, other, 1)
	before := digest(t, other)
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k, err := keeper.Open(keeper.Config{Directory: t.TempDir(), Store: s, Modules: []state.Module{New()}, Containers: []state.Container{target.Container}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close(context.WithoutCancel(t.Context())) })
	if _, err := k.Activate(t.Context(), target.Component); err != nil {
		t.Fatal(err)
	}
	change(t, target, 1)
	full, ref := digest(t, target), target.Component.Ref()
	if err := errors.Join(k.Deactivate(t.Context(), ref), k.CollectGarbage(t.Context(), ref)); err != nil {
		t.Fatal(err)
	}
	if digest(t, target) != "" || digest(t, other) != before {
		t.Error("not exactly the records of the host are gone")
	}
	generations, err := s.Generations(t.Context(), ref)
	if err != nil || len(generations) == 0 {
		t.Fatalf("no last snapshot: %v, %v", generations, err)
	}
	r, err := s.Open(t.Context(), generations[len(generations)-1].Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	err = New().Restore(t.Context(), target, r)
	if err := errors.Join(err, r.Close()); err != nil || digest(t, target) != full {
		t.Errorf("the last snapshot does not bring the state back: %v", err)
	}
	if digest(t, other) != before {
		t.Error("the restore changed another host")
	}
	if err := New().CollectGarbage(t.Context(), target); err != nil {
		t.Error(err)
	}
}

func TestMissingServer(t *testing.T) {
	m, target := New(), newTarget(t, "missing")
	target.Container.Properties["port"] = testenv.FreePort(t)
	try := func(what string) {
		t.Helper()
		if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: activate: %v", what, err)
		}
		if err := m.Restore(t.Context(), target, strings.NewReader("")); !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: restore: %v", what, err)
		}
		if err := m.Deactivate(t.Context(), target); err != nil {
			t.Errorf("%s: deactivate: %v", what, err)
		}
	}
	try("no node")
	delete(target.Container.Properties, "port")
	target.Container.Properties["epmdPort"] = testenv.FreePort(t)
	try("no port mapper")
	target.Container.Properties["port"] = testenv.Ejabberd(t).Port
	target.Container.Properties["erl"] = "/no/such/erl"
	if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "cannot run erl") {
		t.Errorf("no erl: %v", err)
	}
	target.Container.Properties["erl"] = "erl"
}

func TestWrongCookie(t *testing.T) {
	m, target := New(), newTarget(t, "cookie")
	good := target.Container.Properties["cookieFile"]
	cookie := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(cookie, []byte("HUSHHUSH\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	target.Container.Properties["cookieFile"] = cookie
	if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "refuses") || strings.Contains(err.Error(), "HUSH") {
		t.Errorf("wrong cookie: %v", err)
	}
	target.Container.Properties["cookieFile"] = cookie + "-missing"
	if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "cookieFile") {
		t.Errorf("missing cookie: %v", err)
	}
	target.Container.Properties["cookieFile"] = good
}

// endingWith reads a snapshot, and calls at before its end is read.
type endingWith struct {
	io.Reader
	at func()
}

func (e endingWith) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		e.at()
	}
	return n, err
}

// What is interrupted once the snapshot was read has changed nothing, and the host is in service.
func TestInterruption(t *testing.T) {
	m, target := New(), newTarget(t, "interrupted")
	activate(t, target)
	register(t, target, "alice", "secret")
	content := snapshot(t, target)
	change(t, target, 1)
	before := digest(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := m.Restore(ctx, target, endingWith{iotest.DataErrReader(bytes.NewReader(content)), cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if digest(t, target) != before {
		t.Error("a cancelled restore changed the state")
	}
	if err := m.Health(t.Context(), target); err != nil {
		t.Error(err)
	}
	// A transaction whose owner is gone is rolled back, and its locks are free.
	s, err := decodeContainer(target.Container)
	if err != nil {
		t.Fatal(err)
	}
	err = s.with(t.Context(), func(x *session) error {
		h := &host{name: "first.example", folder: target.Directory, server: s, x: x}
		if err := h.look(); err != nil {
			return err
		}
		if err := x.begin("write", h.locked()); err != nil {
			return err
		}
		_, err := x.ask(term.Tuple{term.Atom("delete"), term.List{term.Tuple{term.Atom("passwd"), term.Tuple{b("alice"), term.Binary(target.Component.Properties["host"].(string))}}}})
		return errors.Join(err, errEnough)
	})
	if !errors.Is(err, errEnough) || digest(t, target) != before {
		t.Errorf("a transaction that was left: %v", err)
	}
}

// Names of accounts, rooms and spaces are never taken for something else, nor for another host's.
func TestHostileNames(t *testing.T) {
	m, target, other := New(), newTarget(t, "hostile"), newTarget(t, "neighbour")
	activate(t, target)
	activate(t, other)
	name, _ := decode(target.Component)
	users := []string{`o'brien`, "a$b", "_", "$1", "ünï%n", "-rf", "..", "a\\b", "{x}", "[]", "<<a>>", strings.Repeat("x", 1000), `"`}
	for i, user := range users {
		// The server's own prohibition (nodeprep) of some is not what is tried: the record is written as it is.
		ask(t, target, func(h *host) error {
			if err := h.x.begin("write", []string{"passwd", "private_storage"}); err != nil {
				return err
			}
			records := term.List{
				term.Tuple{term.Atom("passwd"), term.Tuple{b(user), b(h.name)}, b(fmt.Sprint("secret\n", i))},
				term.Tuple{term.Atom("private_storage"), term.Tuple{b(user), b("neighbour.example"), b(h.name)}, term.Tuple{term.Atom("xmlel"), b("x"), term.List{}, term.List{}}},
			}
			_, err := h.x.ask(term.Tuple{term.Atom("write"), records})
			if err == nil {
				_, err = h.x.ask(term.Atom("commit"))
			}
			return err
		})
	}
	content := snapshot(t, target)
	if bytes.Contains(content, []byte("private_storage")) || bytes.Count(content, []byte("{passwd,")) != len(users) {
		t.Errorf("not exactly the host's records: %s", content)
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("names were changed on the way")
	}
	if err := m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	left := 0
	ask(t, target, func(h *host) error { // those of the user's host that does not exist are nobody's: still there
		if err := h.x.begin("write", []string{"private_storage"}); err != nil {
			return err
		}
		var gone term.List
		err := h.x.choose("private_storage", h.all["private_storage"].pattern([]place{{1, 3, 2}}, []string{"neighbour.example"}), func(r term.Term) error {
			record, _ := r.(term.Tuple)
			if key, _ := record[1].(term.Tuple); key[2] == b(name) {
				left++
				gone = append(gone, term.Tuple{record[0], key})
			}
			return nil
		})
		if err == nil {
			_, err = h.x.ask(term.Tuple{term.Atom("delete"), gone})
		}
		if err == nil {
			_, err = h.x.ask(term.Atom("commit"))
		}
		return err
	})
	if left != len(users) {
		t.Errorf("%d of %d records of another host are left", left, len(users))
	}
}

// One table comes back, and the others stay as they are.
func TestRestorePart(t *testing.T) {
	m, target := New(), newTarget(t, "part")
	activate(t, target)
	change(t, target, 1)
	content, before := snapshot(t, target), digest(t, target)
	change(t, target, 2)
	now := digest(t, target)
	for part, want := range map[string]error{"no_such": state.ErrNotFound, "pubsub_item": state.ErrNotAble} {
		if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), part); !errors.Is(err, want) || digest(t, target) != now {
			t.Errorf("%s: %v", part, err)
		}
	}
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "roster"); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, of := range []struct {
		text   string
		roster bool
	}{{before, true}, {now, false}} {
		for line := range strings.Lines(of.text) {
			if strings.HasPrefix(line, "{roster,") == of.roster {
				want = append(want, line)
			}
		}
	}
	slices.Sort(want)
	if got := digest(t, target); got != strings.Join(want, "") {
		t.Errorf("restored\n%s\nnot\n%s", got, strings.Join(want, ""))
	}
	if err := m.Health(t.Context(), target); err != nil {
		t.Error(err)
	}
}
