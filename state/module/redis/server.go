package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"orrery/state"
)

const (
	dialTimeout = 10 * time.Second
	// replyTimeout is longer than a script takes that moves some ten million keys.
	replyTimeout = 5 * time.Minute
	minVersion   = 7
)

// database is one component's keys during one operation.
type database struct {
	server  server
	secret  string // the password
	number  int
	prefix  string // empty: the whole database
	folder  string // the component's own
	locks   *locks
	session *session // in the component's database
	info    map[string]string
}

// session is one connection to the server.
type session struct {
	name   string
	client *goredis.Client
	conn   *goredis.Conn
	cut    *cutter
}

// cutter closes a session's connections when its operation is cancelled, which the client library does not do.
type cutter struct {
	mu    sync.Mutex
	done  bool
	conns []net.Conn
	stop  func() bool
}

func (c *cutter) add(conn net.Conn) {
	c.mu.Lock()
	c.conns = append(c.conns, conn)
	done := c.done
	c.mu.Unlock()
	if done {
		_ = conn.Close()
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	c.done = true
	conns := c.conns
	c.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

func (m *Module) open(ctx context.Context, t state.Target) (*database, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decode(t.Component)
	if err != nil {
		return nil, err
	}
	if *p.DB == s.Scratch {
		return nil, fmt.Errorf("%w: database %d is the one that restores are prepared in (use another one, or set the container's scratch)", state.ErrBadProperty, s.Scratch)
	}
	d := &database{server: s, number: *p.DB, prefix: p.Prefix, folder: t.Directory, locks: &m.locks}
	if d.secret, err = s.password(); err != nil {
		return nil, err
	}
	if d.session, err = d.connect(ctx, d.number); err != nil {
		return d, err
	}
	if err := d.examine(ctx); err != nil {
		d.close()
		return d, err
	}
	return d, nil
}

func (d *database) close() {
	if d.session != nil {
		d.session.close()
	}
}

// connect opens a connection in a database.
func (d *database) connect(ctx context.Context, number int) (*session, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	s := &session{name: "orrery-" + hex.EncodeToString(random[:]), cut: &cutter{}}
	network, address := d.server.address()
	s.client = goredis.NewClient(&goredis.Options{
		Network: network, Addr: address, Username: d.server.User, Password: d.secret, DB: number, ClientName: s.name,
		Protocol: 2, MaxRetries: -1, PoolSize: 1, DisableIdentity: true, ReadTimeout: replyTimeout, WriteTimeout: replyTimeout,
		ConnMaxIdleTime: -1, PoolTimeout: dialTimeout,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
			if err == nil {
				s.cut.add(conn)
			}
			return conn, err
		},
	})
	s.cut.stop = context.AfterFunc(ctx, s.cut.cut)
	s.conn = s.client.Conn()
	if err := s.do(ctx, "ECHO", "").Err(); err != nil { // not PING, which fails where writes are refused
		s.close()
		return nil, d.explain(err)
	}
	return s, nil
}

func (s *session) close() {
	s.cut.stop()
	_ = s.conn.Close()
	_ = s.client.Close()
}

// hold lets a step that must not be broken off go on when the operation is cancelled; false if it is already.
func (s *session) hold() bool { return s.cut.stop() }

func (s *session) do(ctx context.Context, args ...any) *goredis.Cmd {
	c := goredis.NewCmd(ctx, args...)
	_ = s.conn.Process(ctx, c) // the command has the error
	return c
}

// explain says what an error of the client library means.
func (d *database) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	_, address := d.server.address()
	refusal, ok := errors.AsType[goredis.Error](err)
	if !ok {
		return fmt.Errorf("%w: server %s (is it running, and is this its address?): %w", state.ErrUnreachable, address, err)
	}
	text := refusal.Error()
	switch code, _, _ := strings.Cut(text, " "); {
	case code == "WRONGPASS" || code == "NOAUTH" || strings.Contains(text, "without any password configured"):
		return fmt.Errorf("server %s refuses user %s: %w (see the container's user, passwordFile and passwordEnv)", address, d.user(), err)
	case code == "NOPERM":
		return fmt.Errorf("user %s lacks a right on server %s: %w (see the module's page for the rights that it needs)", d.user(), address, err)
	case strings.Contains(text, "DB index is out of range"):
		return fmt.Errorf("server %s has fewer databases than databases %d and %d (the component's and the container's scratch) need (raise its setting databases): %w",
			address, d.number, d.server.Scratch, err)
	}
	return fmt.Errorf("server %s: %w", address, err)
}

func (d *database) user() string {
	if d.server.User == "" {
		return "default"
	}
	return d.server.User
}

// examine refuses servers that cannot be what the module promises.
func (d *database) examine(ctx context.Context) error {
	text, err := d.session.do(ctx, "INFO").Text()
	if err != nil {
		return d.explain(err)
	}
	d.info = map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			d.info[name] = value
		}
	}
	_, address := d.server.address()
	major, _, _ := strings.Cut(d.info["redis_version"], ".")
	number, err := strconv.Atoi(major)
	switch {
	case err != nil || number < minVersion:
		return fmt.Errorf("server %s is of version %q: %w work with one before Redis %d", address, d.info["redis_version"], state.ErrNotAble, minVersion)
	case d.info["cluster_enabled"] == "1":
		return fmt.Errorf("server %s is in cluster mode: %w snapshot a cluster", address, state.ErrNotAble)
	case d.info["role"] != "master":
		return fmt.Errorf("server %s is a replica: %w change it (give the container the address of its master)", address, state.ErrNotAble)
	}
	return nil
}

// now is the server's time in milliseconds.
func (d *database) now(ctx context.Context) (int64, error) {
	both, err := d.session.do(ctx, "TIME").Int64Slice()
	if err != nil || len(both) != 2 {
		return 0, d.explain(errors.Join(err))
	}
	return both[0]*1000 + both[1]/1000, nil
}

// empty says whether the component has no keys.
func (d *database) empty(ctx context.Context) (bool, error) {
	if d.prefix == "" {
		n, err := d.session.do(ctx, "DBSIZE").Int64()
		return n == 0, d.explain(err)
	}
	errFound := errors.New("found")
	err := d.scan(ctx, func([]string) error { return errFound })
	return err == nil, unless(err, errFound)
}

func unless(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

const scanCount = 1000

// scan visits the names of the component's keys, some at a time, some more than once.
func (d *database) scan(ctx context.Context, visit func(keys []string) error) error {
	cursor := "0"
	for {
		page, err := d.session.do(ctx, "SCAN", cursor, "MATCH", pattern(d.prefix), "COUNT", scanCount).Slice()
		if err != nil {
			return d.explain(err)
		}
		var keys []string
		cursor, keys, err = scanned(page)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := visit(keys); err != nil {
				return err
			}
		}
		if cursor == "0" {
			return nil
		}
	}
}

func scanned(page []any) (cursor string, keys []string, err error) {
	bad := errors.New("the server answers SCAN in an unknown way")
	if len(page) != 2 {
		return "", nil, bad
	}
	cursor, ok := page[0].(string)
	names, ok2 := page[1].([]any)
	if !ok || !ok2 {
		return "", nil, bad
	}
	for _, name := range names {
		key, ok := name.(string)
		if !ok {
			return "", nil, bad
		}
		keys = append(keys, key)
	}
	return cursor, keys, nil
}

// pattern matches the keys that begin with prefix.
func pattern(prefix string) string {
	var b strings.Builder
	for i := range len(prefix) {
		if strings.IndexByte(`*?[]\^-`, prefix[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(prefix[i])
	}
	return b.String() + "*"
}

// activeFile is there while the component is active: a server has no place for that beside the keys. knownFile is there
// once the component had a state, so that the initial commands are not loaded again.
func (d *database) activeFile() string { return filepath.Join(d.folder, "active") }
func (d *database) knownFile() string  { return filepath.Join(d.folder, "known") }

func touch(name string) error { return os.WriteFile(name, nil, 0o600) }
