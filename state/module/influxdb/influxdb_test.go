package influxdb

import (
	"bytes"
	"fmt"
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
func targets(server testenv.InfluxDB) func(t *testing.T, name string) state.Target {
	return func(t *testing.T, name string) state.Target {
		t.Helper()
		container := state.Properties{"endpoint": server.URL}
		if server.User != "" {
			file := filepath.Join(t.TempDir(), "password")
			if err := os.WriteFile(file, []byte(server.Password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			container["user"], container["passwordFile"] = server.User, file
		}
		return state.Target{
			Component: state.Component{Name: name, Module: Name, Container: "influx", Properties: state.Properties{"database": fmt.Sprintf("%s %d", name, names.Add(1))}},
			Container: state.Container{Name: "influx", Module: Name, Directory: t.TempDir(), Properties: container},
			Directory: t.TempDir(),
		}
	}
}

func opened(t *testing.T, target state.Target) *database {
	t.Helper()
	d, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.client.close)
	return d
}

func write(t *testing.T, target state.Target, policy string, lines ...string) {
	t.Helper()
	d := opened(t, target)
	if err := d.client.write(t.Context(), d.name, policy, []byte(strings.Join(lines, "\n"))); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, target state.Target, statements ...string) {
	t.Helper()
	d := opened(t, target)
	if err := d.statements(t.Context(), d.name, statements...); err != nil {
		t.Fatal(err)
	}
}

// ask runs the server's own client.
func ask(t *testing.T, target state.Target, script string) string {
	t.Helper()
	testenv.Need(t, "influx", "apt-get install influxdb-client")
	c, err := New().Shell(t.Context(), target, script)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.Path, append(c.Args, "-format", "json")...)
	cmd.Env = append(os.Environ(), c.Env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("influx %s: %v: %s", script, err, out)
	}
	return string(out)
}

func digestOf(t *testing.T, target state.Target) string {
	t.Helper()
	return ask(t, target, "SELECT * FROM /.*/ GROUP BY *; SHOW RETENTION POLICIES")
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
	newTarget := targets(testenv.Influx(t, true))
	moduletest.Run(t, moduletest.Harness{
		Module: New(), NewTarget: newTarget, Digest: digestOf,
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			k := names.Add(1)
			write(t, target, "", fmt.Sprintf("m%d,host=h%d f=%d.5,i=%di,s=\"x\" %d", n, k, n, k, k), fmt.Sprintf("same f=%d 1", k))
		},
		Bad: []state.Properties{{"database": "a/b"}, {"database": ".."}, {"database": "_internal"}, {"database": sidePrefix + "x"}, {"database": "a\nb"}, {"database": 1}},
	})
}

// hostile are lines with all that names and values may have.
var hostile = []string{
	`m,a=x f=1,i=2i,s="q\"u\\o",b=true 10`, `m,b=y f=2.5 20`, `m f=1e100 5`, `m,a=x,b=y f=-0 1`, `m,a=x| f=3 7`, `m,a=x! f=3 7`,
	`m,a=xé f=3 8000000000000000000`, `m,a=xé f=3 -8000000000000000000`, `m f=1 -9223372036854775806`, `m f=1 9223372036854775806`,
	`m i=9223372036854775807i 1`, `m i=-9223372036854775808i 2`, `m f=1.7976931348623157e308 2`, `m f=5e-324 3`, `m f=0.1 4`,
	`m2,f=tag f=1,g=2 10`, `m3 s="` + "\uFFFD" + `\\ufffd \n, =" 2`, "m4 s=\"two\nlines\n# three\" 3", "m4 s=\"\" 4", `m4 s="\\" 5`,
	`m\ \,=4,t\ \,\==v\ \,\=\x f\ \,\=k=1 2`, `"q" f=1 1`, `q'"\x,t="'\x f"'=1 1`, "mi,k=a\\\nb f=1 1", "mj\\\nx,k=v f=1 1",
	`\#m f=1 1`, `\ m f=1 1`, "mv\x01\x02,k=\x03 f=2 1", `über,ключ=値 поле="значение" 1`, `true true=true 1`, `select,from=where group=1i 1`,
	`md,a.b=c.d e.f=1 1`, `m$1,${x}=%s %d=1 1`, `ma/b,/x/=/y/ /z/=1 1`,
}

// Everything that the server takes comes back, on another database too, and gives the same bytes.
func TestHostileNames(t *testing.T) {
	m, newTarget := New(), targets(testenv.Influx(t, false))
	target, other := newTarget(t, "it's"), newTarget(t, "other")
	target.Component.Properties["database"] = `it's "quoted" ünd .dot`
	for _, one := range []state.Target{target, other} {
		if err := m.Activate(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	do(t, target, `CREATE RETENTION POLICY "r \"2\".x" ON `+quote(opened(t, target).name)+` DURATION 3h REPLICATION 1 SHARD DURATION 1h`,
		`ALTER RETENTION POLICY "autogen" ON `+quote(opened(t, target).name)+` DURATION INF SHARD DURATION 100000d`,
		`CREATE CONTINUOUS QUERY "c 'q" ON `+quote(opened(t, target).name)+` RESAMPLE EVERY 1h FOR 2h BEGIN SELECT mean(f) / 2 AS "x.y" INTO "r \"2\".x".:MEASUREMENT FROM /a\/b.*c/, m WHERE a =~ /x;/ AND b = 'y;' GROUP BY time(1h), * END`)
	write(t, target, "", hostile...)
	write(t, target, `r "2".x`, `m f=1i`)
	content := snapshot(t, target)
	if n := bytes.Count(content, []byte("\n")); n < len(hostile) {
		t.Fatalf("%d lines: %s", n, content)
	}
	for _, one := range []state.Target{other, target, other} {
		if err := m.Restore(t.Context(), one, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if got := snapshot(t, one); !bytes.Equal(got, content) {
			t.Fatalf("restored another state: %s", got)
		}
	}
	if a, b := digestOf(t, target), digestOf(t, other); a != b {
		t.Errorf("%s\nis not\n%s", b, a)
	}
	if got := ask(t, other, "SHOW CONTINUOUS QUERIES"); strings.Contains(got, placeholder) || !strings.Contains(got, `\"other `) {
		t.Error(got)
	}
}
