package influxdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/state"
)

func activated(t *testing.T, target state.Target) state.Target {
	t.Helper()
	if err := New().Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return target
}

// The same state has the same bytes after a crash of the server.
func TestRestart(t *testing.T) {
	server := testenv.Influx(t, false)
	target := activated(t, targets(server)(t, "restart"))
	write(t, target, "", hostile...)
	content := snapshot(t, target)
	server.Restart(t)
	if got := snapshot(t, target); !bytes.Equal(got, content) {
		t.Errorf("%s\nis not\n%s", got, content)
	}
}

// A snapshot holds the points up to the newest one that there was, while clients write newer ones; who writes older ones
// without an end makes it fail.
func TestSnapshotWhileClientsWrite(t *testing.T) {
	f, server := newFlaky(t, testenv.Influx(t, false))
	m, target := New(), activated(t, targets(server)(t, "busy"))
	write(t, target, "", "m f=1 1000", "n f=1 2000")
	content := snapshot(t, target)
	client := opened(t, target)
	client.client.server.Endpoint = f.url
	n := 0
	writing := func(format string, times int) func(*http.Request) {
		seen := 0
		return func(r *http.Request) {
			if n++; r.URL.Path != "/query" {
				return
			}
			// The first four answers are what is there and how new it is.
			if seen++; seen > 6 && seen < 7+times {
				if err := client.client.write(t.Context(), client.name, "", fmt.Appendf(nil, format, n, n)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	f.seen = writing("m f=%d %d00000", 1<<30)
	if got := snapshot(t, target); !bytes.Equal(got, content) {
		t.Errorf("newer points got into it: %s", got)
	}
	f.seen = nil
	whole := snapshot(t, target)
	f.seen = writing("n f=%d %d", 1<<30)
	if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrInUse) {
		t.Errorf("older points all the time: %v", err)
	}
	f.seen = nil
	if err := m.Restore(t.Context(), target, bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	f.seen = writing("n f=%d %d", 3)
	if got := snapshot(t, target); bytes.Equal(got, whole) {
		t.Error("an older point is missing")
	}
}

// What the server cannot give back whole is refused by name.
func TestRefused(t *testing.T) {
	server := testenv.Influx(t, false)
	m, newTarget := New(), targets(server)
	for name, one := range map[string]struct {
		lines []string
		want  string
	}{
		"types":     {[]string{"m f=1 1", "m f=1i 1000000000000000000"}, `field "f" of measurement "m" in retention policy "autogen"`},
		"bytes":     {[]string{"m s=\"\xff\" 1"}, `measurement "m"`},
		"tag bytes": {[]string{"m,t=\xff s=1 1"}, `measurement "m"`},
		"name":      {[]string{`m\\,x f=1 1`}, `measurement "m,x"`},
		"space":     {[]string{`m\\\ y f=1 1`}, `measurement "m\\ y"`},
	} {
		target := activated(t, newTarget(t, name))
		write(t, target, "", one.lines...)
		if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	target := activated(t, newTarget(t, "lingers"))
	do(t, target, "CREATE RETENTION POLICY r ON "+quote(opened(t, target).name)+" DURATION 2h REPLICATION 1")
	write(t, target, "r", "m f=1")
	do(t, target, "DROP RETENTION POLICY r ON "+quote(opened(t, target).name))
	snapshot(t, target)
	target = activated(t, newTarget(t, "snapshots"))
	write(t, target, "", "m f=1 1")
	before := snapshot(t, target)
	for name, bad := range map[string]string{
		"statement": queryMark + `{"name":"q","text":"CREATE CONTINUOUS QUERY q ON \"$database\" BEGIN SELECT mean(f) INTO x FROM m GROUP BY time(1h) END; DROP DATABASE \"snapshots\""}`,
		"server":    policyMark + `{"name":"r","duration":"1h0m0s","shard":"9h0m0s","replication":1,"default":false}`,
		"duration":  policyMark + `{"name":"r","duration":"1h0m0s; x","shard":"1h0m0s","replication":1,"default":false}`,
	} {
		content := magic + bad + "\n" + endMark + `{"measurements":0,"points":0}` + "\n"
		if err := m.Restore(t.Context(), target, strings.NewReader(content)); err == nil {
			t.Errorf("%s: restored", name)
		}
		if !bytes.Equal(snapshot(t, target), before) || len(sides(t, target)) > 0 {
			t.Errorf("%s: left %q", name, sides(t, target))
		}
	}
}

// Points that are older than their retention policy keeps are restored with it; the server deletes them when it next looks.
func TestOldPoints(t *testing.T) {
	server := testenv.Influx(t, false)
	m, target := New(), activated(t, targets(server)(t, "old"))
	name := quote(opened(t, target).name)
	write(t, target, "", "m f=1 1", "n f=1 1")
	do(t, target, "ALTER RETENTION POLICY autogen ON "+name+" DURATION 2h SHARD DURATION 1h")
	content := snapshot(t, target)
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "n"); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, target); !bytes.Equal(got, content) {
		t.Errorf("%s\nis not\n%s", got, content)
	}
}

func TestInitial(t *testing.T) {
	server := testenv.Influx(t, false)
	m, target := New(), targets(server)(t, "initial")
	file := filepath.Join(t.TempDir(), "points")
	target.Component.Properties["initial"] = file
	if err := m.Activate(t.Context(), target); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, bad := range []string{"m f=1 1\nm f=", "m f=1 1\nm f=\"x"} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := m.Activate(t.Context(), target); err == nil || m.Health(t.Context(), target) == nil || len(sides(t, target)) > 0 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := os.WriteFile(file, []byte("# points\nm f=1 2\n\nm s=\"two\nlines\" 1\nn f=1 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	activated(t, target)
	if got := string(snapshot(t, target)); !strings.Contains(got, "\nm s=\"two\nlines\" 1\nm f=1 2\n") || !strings.Contains(got, "\nn f=1 1\n") {
		t.Error(got)
	}
	do(t, target, "DROP MEASUREMENT n")
	activated(t, target)
	if got := string(snapshot(t, target)); strings.Contains(got, "\nn f=1 1\n") {
		t.Error("the points were loaded again")
	}
	if !strings.Contains(digestOf(t, target), `["autogen","0s","168h0m0s",1,true]`) {
		t.Error(digestOf(t, target))
	}
}

// What is exported is what the server's own client imports, and the snapshot that it came from.
func TestPortable(t *testing.T) {
	server := testenv.Influx(t, false)
	m, target := New(), activated(t, targets(server)(t, "portable"))
	name := quote(opened(t, target).name)
	do(t, target, `CREATE RETENTION POLICY "long one" ON `+name+` DURATION INF REPLICATION 1 SHARD DURATION 50h DEFAULT`,
		`CREATE CONTINUOUS QUERY q ON `+name+` BEGIN SELECT mean(f) INTO "autogen".x FROM y WHERE "a" = 'it"s' GROUP BY time(1h) END`)
	write(t, target, "autogen", hostile...)
	write(t, target, "", "m,a=b f=1i 1")
	if err := m.Export(t.Context(), bytes.NewReader(snapshot(t, target)), io.Discard); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
	do(t, target, "DROP MEASUREMENT m4", "DROP MEASUREMENT mi", `DROP MEASUREMENT "mj\\\nx"`)
	content := snapshot(t, target)
	var plain, again bytes.Buffer
	if err := m.Export(t.Context(), bytes.NewReader(content), &plain); err != nil {
		t.Fatal(err)
	}
	if err := m.Import(t.Context(), bytes.NewReader(plain.Bytes()), &again); err != nil || !bytes.Equal(again.Bytes(), content) {
		t.Errorf("%v: %s", err, again.Bytes())
	}
	for _, bad := range []string{"", "# DML\nm f=1 1\n", plain.String()[:plain.Len()-1], plain.String() + "x f=1 1\n"} {
		if err := m.Import(t.Context(), strings.NewReader(bad), io.Discard); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	file := filepath.Join(t.TempDir(), "export.influx")
	if err := os.WriteFile(file, plain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	shell, err := m.Shell(t.Context(), target, "")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{shell.Args[0], shell.Args[1], shell.Args[2], shell.Args[3], "-import", "-path", file, "-precision", "ns"}
	if out, err := exec.CommandContext(t.Context(), shell.Path, args...).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Failed 0 inserts")) {
		t.Fatalf("%v: %s", err, out)
	}
	imported := targets(server)(t, "imported")
	imported.Component.Properties["database"] = portableName
	if got := snapshot(t, imported); !bytes.Equal(got, content) {
		t.Errorf("%s\nis not\n%s", got, content)
	}
}

func TestAbilities(t *testing.T) {
	server := testenv.Influx(t, false)
	m, target := New(), activated(t, targets(server)(t, "abilities"))
	if v, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(v, "InfluxDB 1.") {
		t.Errorf("%q, %v", v, err)
	}
	do(t, target, "CREATE RETENTION POLICY other ON "+quote(opened(t, target).name)+" DURATION INF REPLICATION 1")
	write(t, target, "", "m f=1 1", "m f=2 2", "n f=1 1")
	write(t, target, "other", "m f=1 1")
	parts, items := map[string]int{}, 0
	err := m.Items(t.Context(), bytes.NewReader(snapshot(t, target)), func(i state.Item) error {
		if i.Content == nil {
			parts[i.Part]++
		} else {
			items++
		}
		return nil
	})
	if err != nil || items != 4 || len(parts) != 2 || parts["m"] != 1 {
		t.Errorf("%d items, %v, %v", items, parts, err)
	}
	beside := target
	beside.Component = m.Beside(target.Component, "beside")
	if method, err := m.Fork(t.Context(), target, beside); err != nil || method != state.ForkCopy {
		t.Error(err)
	}
	if _, err := m.Fork(t.Context(), target, beside); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	if opened(t, beside).name != "beside" || !bytes.Equal(snapshot(t, beside), snapshot(t, target)) {
		t.Error("the fork differs")
	}
	server.Restart(t) // what is in memory has a size on disk then
	if size, err := m.Size(t.Context(), target); err != nil || size <= 0 {
		t.Errorf("%d, %v", size, err)
	}
}

func TestPassword(t *testing.T) {
	server := testenv.Influx(t, true)
	m, target := New(), targets(server)(t, "secret")
	activated(t, target)
	c, err := m.Shell(t.Context(), target, "SHOW DATABASES")
	if err != nil || strings.Contains(c.Path+strings.Join(c.Args, " "), server.Password) || strings.Contains(c.Path+strings.Join(c.Args, " "), "sesame") {
		t.Errorf("%+v, %v", c, err)
	}
	for name, p := range map[string]state.Properties{
		"wrong":   {"user": server.User, "passwordEnv": "ORRERY_TEST_WRONG"},
		"nobody":  {"user": "nobody", "passwordEnv": "ORRERY_TEST_WRONG"},
		"none":    {},
		"missing": {"user": server.User, "passwordEnv": "ORRERY_TEST_NOT_SET"},
	} {
		t.Setenv("ORRERY_TEST_WRONG", "hush-hush")
		p["endpoint"] = server.URL
		target.Container.Properties = p
		for what, err := range map[string]error{
			"activate": m.Activate(t.Context(), target),
			"snapshot": m.Snapshot(t.Context(), target, io.Discard),
			"restore":  m.Restore(t.Context(), target, strings.NewReader(magic)),
		} {
			if err == nil || strings.Contains(err.Error(), "hush") || name != "missing" && !strings.Contains(err.Error(), "refuses user") {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A database that nobody made a component of is found, one of another name is not.
func TestExists(t *testing.T) {
	newTarget := targets(testenv.Influx(t, false))
	target, other := newTarget(t, "found"), newTarget(t, "found")
	do(t, other, "CREATE DATABASE "+quote(opened(t, other).name))
	for _, want := range []bool{false, true} {
		if found, err := New().Exists(t.Context(), target); err != nil || found != want {
			t.Errorf("%v: %v, %v", want, found, err)
		}
		do(t, target, "CREATE DATABASE "+quote(opened(t, target).name))
	}
}

func TestMissingServer(t *testing.T) {
	m, target := New(), targets(testenv.InfluxDB{URL: fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t))})(t, "missing")
	for name, err := range map[string]error{
		"activate":        m.Activate(t.Context(), target),
		"snapshot":        m.Snapshot(t.Context(), target, io.Discard),
		"restore":         m.Restore(t.Context(), target, strings.NewReader("")),
		"health":          m.Health(t.Context(), target),
		"collect garbage": m.CollectGarbage(t.Context(), target),
		"exists":          second(m.Exists(t.Context(), target)),
	} {
		if !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []state.Properties{
		{"endpoint": "ftp://x:1"}, {"endpoint": "http://u:p@x:1"}, {"endpoint": "http://x"}, {"endpoint": "http://x:1/y"}, {"user": "a:b"}, {"passwordFile": "x", "passwordEnv": "y"}, {"ca": "/nowhere"},
	} {
		target.Container.Properties = bad
		if err := m.Activate(t.Context(), target); err == nil || bad["ca"] == nil && !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// answering is a server that gives one answer to everything.
func answering(t *testing.T, answer string) state.Target {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, answer)
		if answer != "" && answer[len(answer)-1] == ' ' {
			panic(http.ErrAbortHandler)
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return targets(testenv.InfluxDB{URL: "http://" + l.Addr().String()})(t, "answering")
}

// An answer that is cut off, or is none of InfluxDB's, is not taken for one without rows.
func TestBrokenAnswers(t *testing.T) {
	for _, answer := range []string{"", "<html>", `{"results":[{"statement_id":0,"partial":true}]}`, `{"results":[{"statement_id":0}]} `, `{"error":"no"}`, `{"results":[{"error":"no"}]}`} {
		if err := opened(t, answering(t, answer)).client.query(t.Context(), "", "SHOW DATABASES", nil); err == nil {
			t.Errorf("%q: no error", answer)
		}
	}
}

// A component's garbage can be collected in the middle of a restore, with the side databases.
func TestCollectGarbageOfInterrupted(t *testing.T) {
	f, server := newFlaky(t, testenv.Influx(t, false))
	m, target := New(), activated(t, targets(server)(t, "garbage"))
	beside := activated(t, targets(server)(t, "garbage-2"))
	write(t, target, "", "m f=1 1")
	content := snapshot(t, target)
	f.failAfter(25, false)
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err == nil || !strings.Contains(err.Error(), "next operation") {
		t.Fatal(err)
	}
	f.repair()
	if len(sides(t, target)) != 2 {
		t.Fatal("it was interrupted elsewhere")
	}
	if err := m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	all, err := opened(t, target).databases(t.Context())
	if err != nil || strings.Contains(fmt.Sprint(all), opened(t, target).name) || !strings.Contains(fmt.Sprint(all), opened(t, beside).name) {
		t.Errorf("%q, %v", all, err)
	}
}

func TestTLS(t *testing.T) {
	authority, stranger := testenv.NewAuthority(t), testenv.NewAuthority(t)
	server := testenv.StartInflux(t, testenv.InfluxSettings{Authentication: true, Authority: authority})
	m, target := New(), targets(server)(t, "tls")
	for name, ca := range map[string]string{"stranger": stranger.File, "system's": ""} {
		target.Container.Properties["ca"] = ca
		if err := m.Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), server.Password) {
			t.Errorf("%s: %v", name, err)
		}
	}
	target.Container.Properties["ca"] = authority.File
	activated(t, target)
	write(t, target, "", "m f=1 1")
	content := snapshot(t, target)
	write(t, target, "", "m f=2 2")
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil || !bytes.Equal(snapshot(t, target), content) {
		t.Error(err)
	}
	target.Container.Properties["ca"] = target.Container.Properties["passwordFile"]
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
		t.Errorf("no certificate: %v", err)
	}
}
