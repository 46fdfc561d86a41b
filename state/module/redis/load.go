package redis

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"orrery/state"
)

// marker is the key that says, in the scratch database, which connection loads there.
const marker = "orrery:loading"

// cleanTimeout bounds what is done after an operation that failed or was cancelled.
const cleanTimeout = 30 * time.Second

// The limits of what is sent before the replies are read.
const (
	batchCommands = 1000
	batchBytes    = 1 << 20
)

//go:embed claim.lua
var claimScript string

//go:embed release.lua
var releaseScript string

//go:embed commit.lua
var commitScript string

// locks has the loads of this process into one server wait for each other.
type locks struct {
	mu  sync.Mutex
	all map[string]chan struct{}
}

func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.all == nil {
		l.all = map[string]chan struct{}{}
	}
	c := l.all[name]
	if c == nil {
		c = make(chan struct{}, 1)
		l.all[name] = c
	}
	l.mu.Unlock()
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The ways in which what was loaded takes its place.
const (
	commitDatabase = "database" // it becomes the whole database
	commitPrefix   = "prefix"   // it becomes the keys with the prefix
	commitKey      = "key"      // it becomes one key
)

// replace makes the component's keys those of the snapshot in f, which is whole.
func (d *database) replace(ctx context.Context, f *os.File) error {
	if d.prefix == "" {
		return d.load(ctx, f, nil, commitDatabase, "")
	}
	return d.load(ctx, f, nil, commitPrefix, pattern(d.prefix))
}

// load loads those keys of a snapshot that are wanted (all for nil) into the scratch database and commits them.
func (d *database) load(ctx context.Context, f *os.File, want func(entry) bool, how, what string) error {
	_, address := d.server.address()
	unlock, err := d.locks.lock(ctx, address)
	if err != nil {
		return err
	}
	defer unlock()
	side, err := d.claim(ctx)
	if err != nil {
		return err
	}
	defer side.close()
	least, err := d.fill(ctx, side, f, want)
	if err == nil {
		err = d.commit(ctx, side, how, what, least)
	}
	if err != nil {
		side.close()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		_ = d.release(late, side.name) // what it cannot delete, the next operation will
	}
	return err
}

// claim opens a session in the scratch database and makes that its own.
func (d *database) claim(ctx context.Context) (*session, error) {
	side, err := d.connect(ctx, d.server.Scratch)
	if err != nil {
		return nil, err
	}
	if err := d.claimFor(ctx, side); err != nil {
		side.close()
		return nil, err
	}
	return side, nil
}

func (d *database) claimFor(ctx context.Context, side *session) error {
	before := ""
	for range 3 {
		holder, err := side.do(ctx, "EVAL", claimScript, 1, marker, side.name, before).Text()
		switch {
		case err != nil && strings.Contains(err.Error(), "SCRATCHINUSE"):
			return fmt.Errorf("database %d, in which restores are prepared, has keys of somebody else: %w (set the container's scratch to a database that nobody uses)",
				d.server.Scratch, state.ErrInUse)
		case err != nil:
			return d.explain(err)
		case holder == side.name:
			return nil
		}
		clients, err := side.do(ctx, "CLIENT", "LIST").Text()
		if err != nil {
			return d.explain(err)
		}
		if strings.Contains(clients, " name="+holder+" ") {
			break
		}
		before = holder // it is dead, and what it left is deleted
	}
	return fmt.Errorf("database %d, in which restores are prepared, holds one that is under way: %w (wait for it)", d.server.Scratch, state.ErrInUse)
}

// release deletes what a session that ended loaded, and the marker, if the server has not evicted that. The session's connection
// is closed for the server too, which could have commands of it before it.
func (d *database) release(ctx context.Context, name string) error {
	again, err := d.connect(ctx, d.server.Scratch)
	if err != nil {
		return err
	}
	defer again.close()
	clients, err := again.do(ctx, "CLIENT", "LIST").Text()
	if err != nil {
		return d.explain(err)
	}
	for line := range strings.Lines(clients) {
		if strings.Contains(line, " name="+name+" ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			if err := again.do(ctx, "CLIENT", "KILL", "ID", id).Err(); err != nil {
				return d.explain(err)
			}
		}
	}
	return d.explain(again.do(ctx, "EVAL", releaseScript, 1, marker, name).Err())
}

// settle deletes what a dead operation left in the scratch database.
func (d *database) settle(ctx context.Context) error {
	_, address := d.server.address()
	unlock, err := d.locks.lock(ctx, address)
	if err != nil {
		return err
	}
	defer unlock()
	return unless(d.settleLocked(ctx), state.ErrInUse)
}

func (d *database) settleLocked(ctx context.Context) error {
	side, err := d.connect(ctx, d.server.Scratch)
	if err != nil {
		return err
	}
	defer side.close()
	if n, err := side.do(ctx, "EXISTS", marker).Int64(); err != nil || n == 0 {
		return d.explain(err)
	}
	if err := d.claimFor(ctx, side); err != nil {
		return err
	}
	return d.explain(side.do(ctx, "FLUSHDB", "ASYNC").Err())
}

// fill loads keys and returns how many there must be at the least: those that do not expire.
func (d *database) fill(ctx context.Context, side *session, f *os.File, want func(entry) bool) (least int, err error) {
	now, err := d.now(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	b := &batch{d: d, side: side}
	c := commander{prefix: d.prefix, now: now, want: want, send: func(cmd command) error { return b.add(ctx, cmd) }}
	v := c.visitor()
	end := v.end
	v.end = func(e entry) error {
		if d.prefix+string(e.key) == marker {
			return fmt.Errorf("%w load key %q, which is kept for what orrery itself stores", state.ErrNotAble, marker)
		}
		if e.expiry == 0 && (want == nil || want(e)) {
			least++
		}
		return end(e)
	}
	if err := read(f, v); err != nil {
		return 0, err
	}
	return least, b.flush(ctx)
}

// batch is commands that are sent together.
type batch struct {
	d      *database
	side   *session
	all    []command
	size   int
	toSend goredis.Pipeliner
}

func (b *batch) add(ctx context.Context, c command) error {
	size := 0
	args := make([]any, len(c.args))
	for i, a := range c.args {
		args[i] = append([]byte(nil), a...)
		size += len(a)
	}
	if len(b.all) == batchCommands || len(b.all) > 0 && b.size+size > batchBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	if b.toSend == nil {
		b.toSend = b.side.conn.Pipeline()
	}
	b.toSend.Do(ctx, args...)
	b.all = append(b.all, command{args: c.args[:2], reply: c.reply})
	b.size += size
	return nil
}

// flush sends them and looks at the replies.
func (b *batch) flush(ctx context.Context) error {
	if err := ctx.Err(); err != nil || len(b.all) == 0 {
		return err
	}
	replies, err := b.toSend.Exec(ctx)
	if err != nil {
		return b.d.explain(err)
	}
	for i, c := range b.all {
		reply, ok := replies[i].(*goredis.Cmd)
		if !ok {
			return errors.New("the client library lost a reply")
		}
		if n, isNumber := reply.Val().(int64); c.reply >= 0 && (!isNumber || n != c.reply) {
			return fmt.Errorf("the server answers %s by %v instead of %d while the snapshot is loaded (does somebody else write to database %d, or does the server evict keys?)",
				c.args[0], reply.Val(), c.reply, b.d.server.Scratch)
		}
	}
	b.all, b.size, b.toSend = nil, 0, nil
	return nil
}

// commit puts what was loaded in its place, in one step that nothing breaks off.
func (d *database) commit(ctx context.Context, side *session, how, what string, least int) error {
	if !side.hold() {
		return ctx.Err()
	}
	err := side.do(context.WithoutCancel(ctx), "EVAL", commitScript, 1, marker, side.name, d.number, d.server.Scratch, how, what, least).Err()
	if err == nil {
		return nil
	}
	if text := err.Error(); strings.HasPrefix(text, "LOST ") {
		return fmt.Errorf("what was loaded is not there any more: %s (does somebody else write to database %d, or does the server evict keys?)", text, d.server.Scratch)
	}
	return d.explain(err)
}
