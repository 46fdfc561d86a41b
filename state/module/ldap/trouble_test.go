package ldap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"orrery/internal/testenv"
	"orrery/state"
)

// relay is a server before the real one that passes on what clients ask, so many times.
type relay struct {
	real string
	left atomic.Int64
	last func() // what happens instead of the next request; the connection is cut after it

	mu    sync.Mutex
	conns []net.Conn
	done  sync.WaitGroup
}

func newRelay(t *testing.T, l testenv.LDAP) (*relay, testenv.LDAP) {
	t.Helper()
	r := &relay{real: strings.TrimPrefix(l.URL, "ldap://")}
	r.set(1<<40, nil)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.done.Go(func() { r.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.cut()
		r.done.Wait()
	})
	l.URL = "ldap://" + listener.Addr().String()
	return r, l
}

func (r *relay) set(requests int, last func()) {
	r.mu.Lock()
	r.last = last
	r.mu.Unlock()
	r.left.Store(int64(requests))
}

// cut ends all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

func (r *relay) serve(client net.Conn) {
	server, err := new(net.Dialer).Dial("tcp", r.real)
	if err != nil {
		_ = client.Close()
		return
	}
	r.mu.Lock()
	r.conns = append(r.conns, client, server)
	r.mu.Unlock()
	r.done.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	defer func() { _ = server.Close() }()
	request := make([]byte, 1<<20)
	for {
		n, err := client.Read(request)
		if err != nil {
			return
		}
		if r.left.Add(-1) < 0 {
			r.mu.Lock()
			last := r.last
			r.mu.Unlock()
			if last != nil {
				last()
			}
			_ = client.Close()
			return
		}
		if _, err := server.Write(request[:n]); err != nil {
			return
		}
	}
}

// interrupted has an operation broken off after each number of requests, by a server that goes away or by its context, and looks
// at what the next operation finds: the state before, and nothing that was left.
func interrupted(t *testing.T, r *relay, target state.Target, operation func(context.Context) error, check func(t *testing.T, complete bool)) {
	t.Helper()
	for _, cancels := range []bool{false, true} {
		broken := 0
		for n := 1; ; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			var last func()
			if cancels {
				last = func() {
					r.set(1<<40, nil) // the server is well
					cancel()
				}
			}
			r.set(n, last)
			err := operation(ctx)
			complete := err == nil
			r.set(1<<40, nil)
			switch {
			case complete:
			case cancels && (!errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "next operation")):
				t.Errorf("cancelled after %d requests: %v", n, err)
			case !cancels && !errors.Is(err, state.ErrUnreachable):
				t.Errorf("broken off after %d requests: %v", n, err)
			case cancels:
				if left, err := os.ReadDir(target.Directory); err != nil || len(left) > 1 { // the file that says that it is active
					t.Errorf("cancelled after %d requests: left %v, %v", n, left, err)
				}
			}
			cancel()
			check(t, complete)
			if complete {
				break
			}
			broken++
		}
		if broken < 5 {
			t.Errorf("it was broken off %d times", broken)
		}
	}
}

func TestInterrupted(t *testing.T) {
	l := testenv.OpenLDAP(t)
	r, before := newRelay(t, l)
	m, target := New(), targetOn(t, before, "interrupted")
	direct := target
	direct.Container = targetOn(t, l, "direct").Container
	t.Run("Activate", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "first.ldif")
		text := "dn: " + dn + "\nobjectClass: domain\ndc: example\n"
		for i := range 3 {
			text += fmt.Sprintf("\ndn: ou=%d,%s\nobjectClass: organizationalUnit\nou: %[1]d\n", i, dn)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		target := target
		target.Component.Properties = state.Properties{"base": dn, "ldif": file}
		interrupted(t, r, target, func(ctx context.Context) error { return m.Activate(ctx, target) }, func(t *testing.T, complete bool) {
			t.Helper()
			if found, err := m.Exists(t.Context(), direct); err != nil || found != complete {
				t.Errorf("complete %v: %v, %v", complete, found, err)
			}
			if complete {
				if err := m.CollectGarbage(t.Context(), direct); err != nil {
					t.Error(err)
				}
			}
		})
	})
	activate(t, direct)
	t.Run("Restore", func(t *testing.T) {
		change(t, direct, 1)
		after := snapshot(t, direct)
		change(t, direct, 2)
		tool(t, direct, "", "ldapdelete", "-r", fmt.Sprintf("ou=unit %d,%s", changes-1, dn))
		before := snapshot(t, direct)
		interrupted(t, r, target, func(ctx context.Context) error { return m.Restore(ctx, target, bytes.NewReader(after)) }, func(t *testing.T, complete bool) {
			t.Helper()
			want := before
			if complete {
				want = after
			}
			if !bytes.Equal(snapshot(t, direct), want) {
				t.Errorf("complete %v: another state", complete)
			}
			if complete {
				if err := m.Restore(t.Context(), direct, bytes.NewReader(before)); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// While a client changes one entry after the other, what a snapshot holds was there at one moment, or it fails; a client
// that is connected stays so through a restore, and sees it.
func TestClients(t *testing.T) {
	m, target := New(), newTarget(t, "clients")
	activate(t, target)
	change(t, target, 1)
	content := snapshot(t, target)
	client, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer client.conn.Close()
	one, other := dn, fmt.Sprintf("ou=unit %d,%s", changes, dn)
	write := func(entry string, n int) error {
		request := ldap.NewModifyRequest(entry, nil)
		request.Replace("description", []string{fmt.Sprint("count ", n)})
		return client.conn.Modify(request)
	}
	if err := errors.Join(write(other, 0), write(one, 0)); err != nil {
		t.Fatal(err)
	}
	stop, ended, written := make(chan struct{}), make(chan error, 1), 0
	go func() {
		for n := 1; ; n++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := errors.Join(write(other, n), write(one, n)); err != nil {
				ended <- err
				return
			}
			written = n
		}
	}()
	for range 20 {
		var b bytes.Buffer
		if err := m.Snapshot(t.Context(), target, &b); err != nil {
			if !errors.Is(err, errOvertaken) || b.Len() > 0 {
				t.Errorf("%v after %d bytes", err, b.Len())
			}
			continue
		}
		counts := map[string]int{}
		if err := read(&b, func(e entry) error {
			for _, a := range e.attributes {
				if n := 0; a.name == "description" {
					if _, err := fmt.Sscanf(a.values[0], "count %d", &n); err == nil {
						counts[e.dn] = n
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if late := counts[other] - counts[one]; late != 0 && late != 1 {
			t.Errorf("the snapshot is of no one moment: %v", counts)
		}
	}
	close(stop)
	if err := <-ended; err != nil || written == 0 {
		t.Errorf("%d written, %v", written, err)
	}
	d, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.conn.Close()
	if err := write(one, -1); err != nil {
		t.Fatal(err)
	}
	large := ldap.NewModifyRequest(other, nil) // what is more than a buffer is written before the end
	large.Add("description", []string{strings.Repeat("x", 100<<10)})
	if err := client.conn.Modify(large); err != nil {
		t.Fatal(err)
	}
	overtakes := writerFunc(func(b []byte) (int, error) { return len(b), write(one, len(b)) })
	if err := d.dump(t.Context(), overtakes); !errors.Is(err, errOvertaken) {
		t.Errorf("overtaken: %v", err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	e, err := client.fetch(other)
	if err != nil || bytes.Contains(e.text(), []byte("count")) {
		t.Errorf("a client that is connected sees %q, %v", e.text(), err)
	}
}

func TestTLS(t *testing.T) {
	authority, stranger := testenv.NewAuthority(t), testenv.NewAuthority(t)
	l := testenv.StartLDAP(t, testenv.LDAPSettings{Authority: authority})
	target := targetOn(t, l, "tls")
	container := func(more state.Properties) state.Target {
		one := target
		one.Container.Properties = state.Properties{"url": l.SecureURL, "ca": authority.File}
		for _, name := range []string{"user", "passwordFile"} {
			one.Container.Properties[name] = target.Container.Properties[name]
		}
		maps.Copy(one.Container.Properties, more)
		return one
	}
	for _, good := range []state.Properties{{}, {"url": l.URL, "startTLS": true}} {
		one := container(good)
		activate(t, one)
		change(t, target, 1)
		content := snapshot(t, one)
		change(t, target, 2)
		if err := New().Restore(t.Context(), one, bytes.NewReader(content)); err != nil || !bytes.Equal(snapshot(t, one), content) {
			t.Errorf("%v: %v", good, err)
		}
	}
	for name, bad := range map[string]state.Properties{
		"stranger": {"ca": stranger.File}, "stranger, startTLS": {"url": l.URL, "startTLS": true, "ca": stranger.File},
		"system's": {"ca": ""}, "another name": {"url": strings.Replace(l.SecureURL, "127.0.0.1", "127.0.0.2", 1)},
	} {
		err := New().Activate(t.Context(), container(bad))
		if name == "another name" { // nobody listens there, or the certificate is of another
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		} else if err == nil || !strings.Contains(err.Error(), "not to be trusted") || strings.Contains(err.Error(), l.Password) {
			t.Errorf("%s: %v", name, err)
		}
	}
	plain := targetOn(t, testenv.OpenLDAP(t), "plain")
	plain.Container.Properties["startTLS"] = true
	if err := New().Activate(t.Context(), plain); err == nil || !strings.Contains(err.Error(), "encrypt") {
		t.Errorf("a server without a certificate: %v", err)
	}
	plain.Container.Properties["url"] = l.SecureURL
	if err := New().Activate(t.Context(), plain); !errors.Is(err, state.ErrBadProperty) {
		t.Errorf("startTLS with ldaps: %v", err)
	}
	if err := New().Activate(t.Context(), container(state.Properties{"ca": target.Container.Properties["passwordFile"]})); !errors.Is(err, state.ErrBadProperty) {
		t.Errorf("no certificate: %v", err)
	}
}
