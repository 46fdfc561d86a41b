package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

var names atomic.Int64

// targets makes components on a server.
func targets(endpoint string) func(t *testing.T, name string) state.Target {
	return func(t *testing.T, name string) state.Target {
		t.Helper()
		return state.Target{
			Component: state.Component{Name: name, Module: Name, Container: "etcd", Properties: state.Properties{"prefix": fmt.Sprintf("%s-%d/", name, names.Add(1))}},
			Container: state.Container{Name: "etcd", Module: Name, Directory: t.TempDir(), Properties: state.Properties{"endpoint": endpoint}},
			Directory: t.TempDir(),
		}
	}
}

// ctl runs etcd's own client.
func ctl(t *testing.T, target state.Target, in string, args ...string) string {
	t.Helper()
	path := testenv.Need(t, "etcdctl", "apt-get install etcd-client")
	c, err := New().Shell(t.Context(), target, "")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), c.Env...), strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("etcdctl %v: %v: %s", args, err, out)
	}
	return string(out)
}

func prefix(t *testing.T, target state.Target) string {
	t.Helper()
	p, err := decode(target.Component)
	if err != nil {
		t.Fatal(err)
	}
	return p.Prefix
}

// many puts keys by the hundred, of which values differ by n.
func many(t *testing.T, target state.Target, count, n int) {
	t.Helper()
	k, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	b := batch{k: k}
	for i := range count {
		o := operation{key: fmt.Appendf(nil, "%skey\x00\xff\n%05d", k.prefix, i*n), value: fmt.Appendf(nil, "value %d of %d", i, n)}
		if err := b.add(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, target state.Target) string {
	t.Helper()
	out := ctl(t, target, "", "get", "--prefix", prefix(t, target))
	return strings.ReplaceAll(out, prefix(t, target), "")
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New().Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestConformance(t *testing.T) {
	endpoint := testenv.Etcd(t)
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: targets(endpoint), Digest: digest,
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			k := names.Add(1)
			ctl(t, target, "", "put", fmt.Sprint(prefix(t, target), "k", k), fmt.Sprint("value ", n))
			ctl(t, target, "", "put", prefix(t, target)+"same", fmt.Sprint(k))
		},
		Bad: []state.Properties{{"prefix": "\x00"}, {"prefix": "\xff"}, {"prefix": 1}, {"prefix": "a", "all": true}},
	})
}

// A restore that needs many transactions, with what does not belong to it beside it.
func TestManyKeys(t *testing.T) {
	m, newTarget := New(), targets(testenv.Etcd(t))
	target := newTarget(t, "many")
	neighbor := newTarget(t, "neighbor")
	many(t, neighbor, 3, 1)
	many(t, target, 700, 1)
	big := strings.Repeat("x", 700<<10)
	ctl(t, target, big, "put", prefix(t, target)+"big1")
	ctl(t, target, big, "put", prefix(t, target)+"big2")
	content, beside := snapshot(t, target), snapshot(t, neighbor)
	many(t, target, 900, 3)
	ctl(t, target, "y", "put", prefix(t, target)+"big1")
	lease := strings.Fields(ctl(t, target, "", "lease", "grant", "600"))[1]
	ctl(t, target, "", "put", "--lease="+lease, prefix(t, target)+"alive", "here")
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, target), content) || !bytes.Equal(snapshot(t, neighbor), beside) {
		t.Error("restored another state")
	}
	if got := ctl(t, target, "", "get", "--print-value-only", prefix(t, target)+"alive"); got != "here\n" {
		t.Errorf("the key of a living client is %q", got)
	}
	if left, err := os.ReadDir(target.Directory); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	n := 0
	err := m.Items(t.Context(), bytes.NewReader(content), func(state.Item) error { n++; return nil })
	if n != 702 || err != nil {
		t.Errorf("%d items, %v", n, err)
	}
}

// flaky is a server before the real one that fails after so many transactions, until it is repaired.
type flaky struct {
	left  atomic.Int64
	proxy *httputil.ReverseProxy
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/txn") && f.left.Add(-1) < 0 {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	// The whole request first: the proxy breaks off when the answer begins before it has read the request's end.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.proxy.ServeHTTP(w, r)
}

// A restore that breaks off between two transactions is undone: at once, or by the next operation.
func TestUndo(t *testing.T) {
	endpoint := testenv.Etcd(t)
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{proxy: httputil.NewSingleHostReverseProxy(u)}
	f.left.Store(1 << 40)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f} //nolint:gosec // of a test
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	m, target := New(), targets("http://"+l.Addr().String())(t, "undo")
	many(t, target, 600, 1)
	content := snapshot(t, target)
	many(t, target, 500, 2)
	before := snapshot(t, target)
	for transactions := range 4 {
		f.left.Store(int64(transactions))
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); !errors.Is(err, state.ErrUnreachable) || strings.Contains(err.Error(), "the next operation") != (transactions > 0) {
			t.Errorf("%v", err)
		}
		f.left.Store(1 << 40)
		if !bytes.Equal(snapshot(t, target), before) {
			t.Fatalf("after %d transactions it is not undone", transactions)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.proxy.ModifyResponse = func(r *http.Response) error {
		if strings.HasSuffix(r.Request.URL.Path, "/txn") {
			cancel()
		}
		return nil
	}
	if err := m.Restore(ctx, target, bytes.NewReader(content)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := os.ReadDir(target.Directory); err != nil || len(left) != 0 || !bytes.Equal(snapshot(t, target), before) {
		t.Errorf("a cancelled restore left %v, %v", left, err)
	}
}

func TestCompaction(t *testing.T) {
	target := targets(testenv.Etcd(t))(t, "compacted")
	many(t, target, 200, 1)
	k, err := open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	done := false
	err = k.each(t.Context(), func(pair) error {
		if !done {
			done = true
			many(t, target, 10, 2)
			_, revision, err := k.page(t.Context(), nil, 0, 1)
			ctl(t, target, "", "compact", fmt.Sprint(revision))
			return err
		}
		return nil
	})
	if !compacted(err) {
		t.Errorf("%v", err)
	}
	if bytes.Count(snapshot(t, target), []byte("value")) != 200 {
		t.Error("not all keys are there after a compaction")
	}
}

func TestPassword(t *testing.T) {
	endpoint := testenv.Etcd(t)
	m, target := New(), targets(endpoint)(t, "secret")
	const password = "sesame's \"secret\""
	ctl(t, target, "", "user", "add", "root:"+password)
	ctl(t, target, "", "auth", "enable")
	if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "user name") {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "password")
	for _, wrong := range []string{"hush-hush", password} {
		if err := os.WriteFile(file, []byte(wrong+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		target.Container.Properties = state.Properties{"endpoint": endpoint, "user": "root", "passwordFile": file}
		err := m.Activate(t.Context(), target)
		if wrong == password && err != nil || wrong != password && (err == nil || strings.Contains(err.Error(), wrong)) {
			t.Errorf("%v", err)
		}
	}
	ctl(t, target, "", "put", prefix(t, target)+"k", "v")
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
		t.Error(err)
	}
	c, err := m.Shell(t.Context(), target, "etcdctl get k")
	if err != nil || strings.Contains(c.Path+strings.Join(c.Args, " "), password) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAbilities(t *testing.T) {
	m, target := New(), targets(testenv.Etcd(t))(t, "abilities")
	if v, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(v, "etcd 3.") {
		t.Errorf("%q, %v", v, err)
	}
	ctl(t, target, "", "put", prefix(t, target)+"a", "1")
	ctl(t, target, "", "put", prefix(t, target)+"b", "1")
	content := snapshot(t, target)
	ctl(t, target, "", "put", prefix(t, target)+"a", "2")
	ctl(t, target, "", "put", prefix(t, target)+"b", "2")
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "a"); err != nil {
		t.Error(err)
	}
	if got := digest(t, target); got != "a\n1\nb\n2\n" {
		t.Errorf("%q", got)
	}
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "c"); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	all := target
	all.Component = m.Beside(target.Component, "all")
	all.Component.Properties["all"] = true
	all.Directory = t.TempDir()
	whole := snapshot(t, all)
	if _, err := m.Fork(t.Context(), all, target); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
	ctl(t, target, "", "put", "elsewhere", "x")
	if err := m.Restore(t.Context(), all, bytes.NewReader(whole)); err != nil || !bytes.Equal(snapshot(t, all), whole) {
		t.Error(err)
	}
}

func TestMissingServer(t *testing.T) {
	m, target := New(), targets(fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t)))(t, "missing")
	for name, err := range map[string]error{
		"activate": m.Activate(t.Context(), target),
		"snapshot": m.Snapshot(t.Context(), target, io.Discard),
		"health":   m.Health(t.Context(), target),
		"exists":   second(m.Exists(t.Context(), target)),
	} {
		if !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []state.Properties{{"endpoint": "ftp://x:1"}, {"endpoint": "http://u:p@x:1"}, {"endpoint": "http://x"}, {"certificate": "/x"}, {"passwordFile": "x", "passwordEnv": "y"}} {
		target.Container.Properties = bad
		if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// FuzzRead feeds anything as a snapshot: what passes is written the same again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(magic + "1 2\nkvv\n2 0\nkk\nend 2\n"))
	f.Add([]byte(magic + "0 0\n\nend 1\n"))
	f.Add([]byte(magic + "67108864 67108864\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		err := read(bytes.NewReader(b), func([]byte, []byte) error { n++; return nil })
		if err == nil && !bytes.HasSuffix(b, fmt.Appendf(nil, "end %d\n", n)) {
			t.Errorf("%d keys in %q", n, b)
		}
	})
}
