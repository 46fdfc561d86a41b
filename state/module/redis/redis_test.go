package redis

import (
	"bytes"
	"fmt"
	"maps"
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

var numbers atomic.Int64

// place makes targets on a server: each is a database of its own, or a prefix in one that all share.
type place struct {
	server    *testenv.Redis
	container state.Properties
	shared    int // the database that prefixes share; 0: each has one
	folder    string
}

// on connects as the default user over TCP.
func on(t *testing.T, r *testenv.Redis) place {
	t.Helper()
	return place{server: r, container: state.Properties{"port": r.Port, "passwordFile": secretFile(t, r.Password)}}
}

func secretFile(t *testing.T, secret string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(name, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func (p place) target(t *testing.T, name string) state.Target {
	t.Helper()
	n := int(numbers.Add(1))
	properties := state.Properties{"db": 16 + n%(testenv.RedisDatabases-16)}
	if p.shared != 0 {
		properties = state.Properties{"db": p.shared, "prefix": fmt.Sprintf("%s*[%d]:", name, n)}
	}
	folder := p.folder
	if folder == "" {
		folder = t.TempDir()
	}
	return state.Target{
		Component: state.Component{Name: name, Module: Name, Container: "redis", Properties: properties},
		Container: state.Container{Name: "redis", Module: Name, Directory: t.TempDir(), Properties: p.container},
		Directory: folder,
	}
}

// do has the server carry out a command in the component's database, by a connection of its own.
func do(t *testing.T, target state.Target, args ...any) any {
	t.Helper()
	d, err := New().open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	value, err := d.session.do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%.100q: %v", args, err)
	}
	return value
}

// pipe feeds redis-cli --pipe.
func pipe(t *testing.T, target state.Target, commands string) {
	t.Helper()
	c, err := New().Shell(t.Context(), target, "")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.Path, append(c.Args, "--pipe")...)
	cmd.Env, cmd.Stdin = append(os.Environ(), c.Env...), strings.NewReader(commands)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("errors: 0")) {
		t.Fatalf("redis-cli --pipe: %v: %s", err, out)
	}
}

func prefixOf(t *testing.T, target state.Target) string {
	t.Helper()
	p, err := decode(target.Component)
	if err != nil {
		t.Fatal(err)
	}
	return p.Prefix
}

// digest says what the server says of the component's keys: their dumps depend on nothing else for small values.
func digest(t *testing.T, target state.Target) string {
	t.Helper()
	d, err := New().open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	const script = `local all = redis.call('KEYS', ARGV[1])
		table.sort(all)
		for i, key in ipairs(all) do
			local at = redis.call('PEXPIRETIME', key)
			all[i] = string.sub(key, #ARGV[2] + 1) .. ' ' .. at .. ' ' .. redis.sha1hex(redis.call('DUMP', key))
		end
		return table.concat(all, '\n')`
	text, err := d.session.do(t.Context(), "EVAL", script, 0, pattern(d.prefix), d.prefix).Text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New().Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restore(t *testing.T, target state.Target, content []byte) {
	t.Helper()
	if err := New().Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	k, p := numbers.Add(1), prefixOf(t, target)
	do(t, target, "SET", fmt.Sprint(p, "key", k), fmt.Sprint("value ", n))
	do(t, target, "SET", p+"same", fmt.Sprint(k))
	do(t, target, "RPUSH", p+"list", fmt.Sprint(k), "x")
}

// clean finds keys that were left in the scratch database.
func (p place) clean(t *testing.T) {
	t.Helper()
	target := p.target(t, "scratch")
	target.Component.Properties = state.Properties{"db": defaultScratch}
	target.Container.Properties = state.Properties{"scratch": 16}
	maps.Copy(target.Container.Properties, p.container)
	if n := do(t, target, "DBSIZE"); n != int64(0) {
		t.Errorf("%v keys are left in the scratch database", n)
	}
}

func TestConformance(t *testing.T) {
	r := testenv.StartRedis(t, "", "")
	bad := []state.Properties{{}, {"db": -1}, {"db": "one"}, {"db": 1, "prefix": "\xff"}, {"db": 1, "prefix": "orrery:"}, {"db": 14}, {"db": 1, "commands": "relative"}}
	for name, p := range map[string]place{
		"Database": on(t, r),
		"Prefix":   {server: r, shared: 7, container: state.Properties{"port": r.Port, "user": r.User, "passwordFile": secretFile(t, r.UserPassword)}},
	} {
		t.Run(name, func(t *testing.T) {
			moduletest.Run(t, moduletest.Harness{
				Module: New(), Digest: digest, Change: change, Bad: bad,
				NewTarget: func(t *testing.T, name string) state.Target {
					t.Helper()
					target := p.target(t, name)
					if name == "exports" { // a whole database has no prefix to export
						target.Component.Properties["prefix"] = "exports:"
					}
					return target
				},
			})
			p.clean(t)
		})
	}
}
