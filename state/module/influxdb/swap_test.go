package influxdb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

// flaky is a server before the real one that goes away after so many requests, until it is repaired. It passes answers on
// when they are complete.
type flaky struct {
	url   string
	left  atomic.Int64
	after atomic.Bool           // the real server gets the last request, and the answer is lost
	seen  func(r *http.Request) // called after each answer of the real server; may be nil
	http  http.Transport
}

func newFlaky(t *testing.T, server testenv.InfluxDB) (*flaky, testenv.InfluxDB) {
	t.Helper()
	f := &flaky{url: server.URL}
	f.repair()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f} //nolint:gosec // of a test
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	server.URL = "http://" + l.Addr().String()
	return f, server
}

func (f *flaky) repair() { f.left.Store(1 << 40) }

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	left := f.left.Add(-1)
	if left < -1 || left == -1 && !f.after.Load() {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	code, body, err := f.pass(r)
	if err != nil || left < 0 {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func (f *flaky) pass(r *http.Request) (int, []byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, err
	}
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, f.url+r.URL.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	out.Header = r.Header
	answer, err := f.http.RoundTrip(out)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(answer.Body)
	err = errors.Join(err, answer.Body.Close())
	if f.seen != nil {
		f.seen(r)
	}
	return answer.StatusCode, body, err
}

func (f *flaky) failAfter(requests int, after bool) {
	f.after.Store(after)
	f.left.Store(int64(requests))
}

func sides(t *testing.T, target state.Target) []string {
	t.Helper()
	all, err := opened(t, target).databases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range all {
		if strings.HasPrefix(name, sidePrefix) {
			found = append(found, name)
		}
	}
	return found
}

// interrupted cuts an operation off after each step-th of its requests, and looks at what the next operation finds: the state
// before, or the new one.
func interrupted(t *testing.T, first, step int, f *flaky, target state.Target, prepare func(), operation func(context.Context) error, before, after []byte) {
	t.Helper()
	for _, late := range []bool{false, true} {
		if late { // the server has then what it has before the next one
			step *= 4
		}
		olds, news := 0, 0
		for n := first; ; n += step {
			if n == first || news > 0 {
				prepare()
			}
			f.failAfter(n, late)
			err := operation(t.Context())
			complete := f.left.Load() >= 0
			f.repair()
			if complete {
				if err != nil {
					t.Fatalf("without an interruption: %v", err)
				}
				break
			}
			if err == nil {
				t.Errorf("no error after %d requests", n)
			}
			switch got := snapshot(t, target); {
			case bytes.Equal(got, before):
				olds++
				if news > 0 || strings.Contains(err.Error(), "next operation") {
					t.Errorf("after %d requests it is the old state, and %v", n, err)
				}
			case bytes.Equal(got, after):
				news++
			default:
				t.Fatalf("after %d requests (and %v): %s", n, err, got)
			}
			if left := sides(t, target); len(left) > 0 {
				t.Errorf("after %d requests there is still %q", n, left)
			}
		}
		if olds < 15/step || news < 15/step {
			t.Errorf("%d interruptions left the old state, %d the new one", olds, news)
		}
	}
}

func TestInterruptedRestore(t *testing.T) {
	f, server := newFlaky(t, testenv.Influx(t, false))
	m, target := New(), targets(server)(t, "interrupted")
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	name := quote(opened(t, target).name)
	do(t, target, `CREATE RETENTION POLICY "short" ON `+name+` DURATION 2h REPLICATION 1 SHARD DURATION 1h DEFAULT`,
		`CREATE CONTINUOUS QUERY "q" ON `+name+` BEGIN SELECT mean(f) INTO "autogen".m FROM "nothing" GROUP BY time(1h) END`)
	write(t, target, "autogen", "m,a=x f=1 1", "n i=1i 1")
	write(t, target, "short", "m s=\"x\"")
	after := snapshot(t, target)
	do(t, target, `DROP CONTINUOUS QUERY "q" ON `+name, `DROP RETENTION POLICY "short" ON `+name, `ALTER RETENTION POLICY "autogen" ON `+name+` DEFAULT`)
	write(t, target, "", "old f=3 3")
	before := snapshot(t, target)
	prepare := func() {
		if err := m.Restore(t.Context(), target, bytes.NewReader(before)); err != nil {
			t.Fatal(err)
		}
	}
	interrupted(t, 0, 1, f, target, prepare, func(ctx context.Context) error { return m.Restore(ctx, target, bytes.NewReader(after)) }, before, after)
	write(t, target, "", "later f=1") // clients can
}

func TestInterruptedPart(t *testing.T) {
	f, server := newFlaky(t, testenv.Influx(t, false))
	m, target := New(), targets(server)(t, "part")
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	do(t, target, `CREATE RETENTION POLICY "short" ON `+quote(opened(t, target).name)+` DURATION 2h REPLICATION 1`)
	write(t, target, "short", `m s="x"`)
	write(t, target, "", "m,a=x f=1 1", "n f=1 1")
	content := snapshot(t, target)
	write(t, target, "", "n f=2 2")
	after := snapshot(t, target)
	write(t, target, "", "m,a=x f=2 1", "m,b=y f=2 2")
	before := snapshot(t, target)
	prepare := func() {
		if err := m.Restore(t.Context(), target, bytes.NewReader(before)); err != nil {
			t.Fatal(err)
		}
	}
	interrupted(t, 1, 3, f, target, prepare, func(ctx context.Context) error { return m.RestorePart(ctx, target, bytes.NewReader(content), "m") }, before, after)
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "nothing"); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	do(t, target, `DROP RETENTION POLICY "short" ON `+quote(opened(t, target).name))
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "m"); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
	if left := sides(t, target); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// A restore that is cancelled between any two requests leaves the state before, or goes on.
func TestCancelledRestore(t *testing.T) {
	f, server := newFlaky(t, testenv.Influx(t, false))
	m, target := New(), targets(server)(t, "cancelled")
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	write(t, target, "", "m f=1 1")
	after := snapshot(t, target)
	write(t, target, "", "m f=2 2")
	before := snapshot(t, target)
	for n := int64(1); ; n += 4 {
		ctx, cancel := context.WithCancel(t.Context())
		seen := atomic.Int64{}
		f.seen = func(*http.Request) {
			if seen.Add(1) == n {
				cancel()
			}
		}
		err := m.Restore(ctx, target, bytes.NewReader(after))
		f.seen = nil
		cancel()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if !strings.Contains(err.Error(), "next operation") {
			if left := sides(t, target); len(left) > 0 {
				t.Errorf("after %d requests left %q", n, left)
			}
		}
		if got := snapshot(t, target); !bytes.Equal(got, before) && !bytes.Equal(got, after) {
			t.Fatalf("after %d requests: %s", n, got)
		}
		if err := m.Restore(t.Context(), target, bytes.NewReader(before)); err != nil {
			t.Fatal(err)
		}
	}
}

// While the points are being copied, clients that name no retention policy are refused, and what they write is in no
// mixture.
func TestClientsWhileRestoring(t *testing.T) {
	real := testenv.Influx(t, false)
	f, server := newFlaky(t, real)
	m, target := New(), targets(server)(t, "clients")
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	write(t, target, "", "m f=1 1", "n f=1 1")
	content := snapshot(t, target)
	refused, written := 0, 0
	client := target
	client.Container.Properties = state.Properties{"endpoint": real.URL}
	direct := opened(t, client)
	f.seen = func(*http.Request) {
		if direct.client.write(t.Context(), direct.name, "", []byte("m f=\"text\" 5\n")) != nil {
			refused++
		} else {
			written++
		}
	}
	err := m.Restore(t.Context(), target, bytes.NewReader(content))
	f.seen = nil
	if err != nil || refused == 0 {
		t.Errorf("%d refused, %d written, %v", refused, written, err)
	}
	if got := snapshot(t, target); !bytes.Equal(got, content) {
		t.Errorf("%s", got)
	}
}
