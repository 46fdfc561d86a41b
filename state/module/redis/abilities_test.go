package redis

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

func TestAbilities(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", ""))
	shared := p
	shared.shared = 9
	for _, target := range []state.Target{p.target(t, "abilities"), shared.target(t, "abilities")} {
		m, prefix := New(), prefixOf(t, target)
		if v, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(v, "Redis 7.") && !strings.HasPrefix(v, "Redis 8.") {
			t.Errorf("%q, %v", v, err)
		}
		odd := "odd \"key\"\n\xff*"
		do(t, target, "SET", prefix+"a", "1")
		do(t, target, "RPUSH", prefix+odd, "x", "y")
		content := snapshot(t, target)
		items := map[string]string{}
		if err := m.Items(t.Context(), bytes.NewReader(content), func(i state.Item) error {
			items[string(i.Key)] = string(i.Content)
			return nil
		}); err != nil || len(items) != 2 || items["a"] != `string ""="1"` || items[odd] != `list ""="x" ""="y"` {
			t.Errorf("%q, %v", items, err)
		}
		do(t, target, "SET", prefix+"a", "2")
		do(t, target, "DEL", prefix+odd)
		do(t, target, "SET", prefix+odd, "of another type")
		for range 2 {
			if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), odd); err != nil {
				t.Error(err)
			}
		}
		if got := fmt.Sprintf("%v %v", do(t, target, "LRANGE", prefix+odd, "0", "-1"), do(t, target, "GET", prefix+"a")); got != "[x y] 2" {
			t.Error(got)
		}
		if err := m.RestorePart(t.Context(), target, bytes.NewReader(content), "c"); !errors.Is(err, state.ErrNotFound) {
			t.Error(err)
		}
		p.clean(t)
		do(t, target, "SET", prefix+"large", strings.Repeat("x", 1<<20))
		if size, err := m.Size(t.Context(), target); err != nil || size < 1<<20 || size > 3<<20 {
			t.Errorf("size %d, %v", size, err)
		}
		if _, err := m.Fork(t.Context(), target, target); !errors.Is(err, state.ErrNotAble) {
			t.Error(err)
		}
		beside := target
		beside.Component, beside.Directory = m.Beside(target.Component, "twin-"+target.Component.Name), t.TempDir()
		if _, err := m.Fork(t.Context(), target, beside); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshot(t, beside), snapshot(t, target)) {
			t.Error("the fork differs")
		}
		if _, err := m.Fork(t.Context(), target, beside); !errors.Is(err, state.ErrInUse) {
			t.Error(err)
		}
		if err := m.CollectGarbage(t.Context(), beside); err != nil {
			t.Error(err)
		}
	}
}

// Keys that nobody made a component of are found, and nothing else is.
func TestExists(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", ""))
	shared := p
	shared.shared = 9
	for _, p := range []place{p, shared} {
		target, neighbor := p.target(t, "exists"), p.target(t, "neighbor")
		do(t, neighbor, "SET", prefixOf(t, neighbor)+"a", "1")
		for _, want := range []bool{false, true} {
			if found, err := New().Exists(t.Context(), target); err != nil || found != want {
				t.Errorf("%v: %v, %v", want, found, err)
			}
			do(t, target, "SET", prefixOf(t, target)+"a", "1")
		}
	}
}

func TestShell(t *testing.T) {
	testenv.Need(t, "redis-cli", "apt-get install redis-tools")
	r := testenv.StartRedis(t, "", "")
	for _, p := range []place{on(t, r), {server: r, container: state.Properties{"socket": r.Socket, "user": r.User, "passwordFile": secretFile(t, r.UserPassword)}}} {
		target := p.target(t, "shell")
		do(t, target, "SET", "a key", "its\x00value")
		for script, want := range map[string]string{`GET "a key"`: "its\x00value", "BADCOMMAND x": "", `GET 'open`: ""} {
			c, err := New().Shell(t.Context(), target, script)
			var out []byte
			if err == nil {
				cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
				cmd.Env = append(os.Environ(), c.Env...)
				out, err = cmd.Output()
			}
			if (err == nil) != (want != "") || err == nil && string(out) != want+"\n" {
				t.Errorf("%s: %q, %v", script, out, err)
			}
		}
	}
}

// The initial commands are loaded once: not over keys that are there, and not again when they have gone.
func TestInitialCommands(t *testing.T) {
	p := on(t, testenv.StartRedis(t, "", ""))
	p.shared = 9
	file := filepath.Join(t.TempDir(), "commands")
	initial := "XADD jobs 5-1 f v\nXADD jobs 7-0 g w\nXADD none MAXLEN 0 3-0 f v\nSET greeting \"hello\\nworld\"\n\n" + resp("RPUSH", "list", "a", "b") + "HSET user:1 name Ann\r\nPEXPIREAT list 4102444800000"
	if err := os.WriteFile(file, []byte(initial), 0o600); err != nil {
		t.Fatal(err)
	}
	m, target := New(), p.target(t, "new")
	target.Component.Properties["commands"] = file
	prefix := prefixOf(t, target)
	activate := func(target state.Target, want string) {
		t.Helper()
		if err := m.Activate(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if got, _ := do(t, target, "EVAL", "return redis.call('GET', KEYS[1]) or 'none'", 1, prefixOf(t, target)+"greeting").(string); got != want {
			t.Errorf("greeting is %q instead of %q", got, want)
		}
	}
	activate(target, "hello\nworld")
	if got := do(t, target, "PEXPIRETIME", prefix+"list"); got != int64(4102444800000) {
		t.Errorf("%v", got)
	}
	if content := string(snapshot(t, target)); !strings.Contains(content, "stream 0 4 7-0 0-0 2\njobs\n") || !strings.Contains(content, "stream 0 4 3-0 0-0 1\nnone\n") {
		t.Errorf("%q", content)
	}
	do(t, target, "DEL", prefix+"greeting", prefix+"list", prefix+"user:1", prefix+"jobs", prefix+"none")
	activate(target, "none")
	if err := m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	activate(target, "hello\nworld")

	taken := p.target(t, "taken")
	taken.Component.Properties["commands"] = file
	do(t, taken, "SET", prefixOf(t, taken)+"there", "before")
	activate(taken, "none")

	bad := p.target(t, "bad")
	bad.Component.Properties["commands"] = file
	if err := os.WriteFile(file, []byte("SET a b\nFLUSHALL x y"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Activate(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "command 2") || !strings.Contains(err.Error(), "FLUSHALL") {
		t.Error(err)
	}
	if bytes.Contains(snapshot(t, bad), []byte("string")) {
		t.Error("a part of bad commands was loaded")
	}
	p.clean(t)
}
