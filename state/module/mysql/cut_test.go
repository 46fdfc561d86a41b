package mysql

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

// cutter stands between a module and its server. Before the n-th statement that changes a schema it cuts all connections, and takes none
// from then on: what the server knows is then what it would know had the module's process been killed.
type cutter struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	left  int
	conns []net.Conn
	was   string // the statement that was not passed on
}

func newCutter(t *testing.T, server string, n int) *cutter {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, server: server, left: n}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", c.server)
			if err != nil || !c.keep(client, server) {
				_ = client.Close()
				continue
			}
			serving.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
			serving.Go(func() { c.pass(server, client); _ = server.Close() })
		}
	})
	t.Cleanup(func() { c.cut(""); serving.Wait() })
	return c
}

func (c *cutter) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conns...)
	return c.left > 0
}

func (c *cutter) cut(statement string) {
	_ = c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.was = statement
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// pass passes packets on: length, number, and for the first of a command its kind and text.
func (c *cutter) pass(to io.Writer, from io.Reader) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		head, err := r.Peek(4)
		if err != nil {
			return
		}
		size := int(binary.LittleEndian.Uint32(head) & 0xffffff)
		text, _ := r.Peek(4 + min(size, 200))
		if head[3] == 0 && len(text) > 5 && text[4] == 3 && changes(string(text[5:])) && c.last() {
			c.cut(string(text[5:]))
			return
		}
		if _, err := io.CopyN(to, r, int64(4+size)); err != nil {
			return
		}
	}
}

func (c *cutter) statement() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.was
}

func changes(statement string) bool {
	word, rest, _ := strings.Cut(strings.ToLower(statement), " ")
	return word == "rename" || word == "drop" || word == "create" || word == "insert" && strings.Contains(rest, ".shelf")
}

func (c *cutter) last() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	return c.left == 0
}

// through is a target whose server is reached through a cutter.
func (c *cutter) through(target state.Target) state.Target {
	target.Container.Properties = maps.Clone(target.Container.Properties)
	_, port, _ := net.SplitHostPort(c.listener.Addr().String())
	number, _ := strconv.Atoi(port)
	target.Container.Properties["port"] = number
	return target
}

// TestInterrupted ends operations before each of their steps, and finds the state before or, after the last, the new one.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	const stride = 17 // some of them: with 1 it is each, and takes minutes
	for _, first := range []int{1, 6} {
		t.Run(strconv.Itoa(first), func(t *testing.T) {
			t.Parallel()
			interrupt(t, newTarget(t, "interrupted-"+strconv.Itoa(first)), first, stride)
		})
	}
}

func interrupt(t *testing.T, target state.Target, first, stride int) {
	t.Helper()
	m := New(Config{})
	activate(t, target)
	change(t, target, 1)
	content := snapshot(t, target)
	change(t, target, 2)
	before := snapshot(t, target)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.SharedMariaDB(t).Port))
	check := func(what string, allowed ...[]byte) []byte {
		t.Helper()
		first := snapshot(t, target)
		activate(t, target)
		if second := snapshot(t, target); !bytes.Equal(first, second) {
			t.Fatalf("%s: the snapshot is another after activation: %s", what, firstDifference(first, second))
		}
		noSides(t, target)
		for _, a := range allowed {
			if bytes.Equal(a, first) {
				return first
			}
		}
		t.Fatalf("%s: %s", what, firstDifference(allowed[0], first))
		return nil
	}
	restore := func(ctx context.Context, target state.Target) error {
		return m.Restore(ctx, target, bytes.NewReader(content))
	}
	operations := map[string]func(context.Context, state.Target) error{
		"restore": restore, "deactivate": m.Deactivate, "activate": m.Activate, "restore-inactive": restore,
	}
	for name, operation := range operations {
		for n := first; ; n += stride {
			if name == "activate" || name == "restore-inactive" {
				if err := m.Deactivate(t.Context(), target); err != nil {
					t.Fatal(err)
				}
			}
			c := newCutter(t, address, n)
			err := operation(t.Context(), c.through(target))
			was := c.statement()
			if err == nil && was != "" {
				t.Errorf("%s: nothing is said of a cut before %q", name, was)
			}
			what := name + " before " + was
			if now := check(what, before, content); bytes.Equal(now, content) {
				if name != "restore" && name != "restore-inactive" {
					t.Fatalf("%s: the state is another", what)
				}
				if err := m.Restore(t.Context(), target, bytes.NewReader(before)); err != nil {
					t.Fatal(err)
				}
			}
			if was == "" {
				break
			}
		}
	}
}
