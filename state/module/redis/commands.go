package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"orrery/state/module/redis/rdb"
)

// The limits of one command that adds elements.
const (
	commandWords = 512
	commandBytes = 256 << 10
)

// command is what makes a key, or a part of it. Its args are valid during the call only.
type command struct {
	args  [][]byte
	reply int64 // the number that the server has to answer; -1: anything but an error
}

// commander turns what a snapshot holds into commands.
type commander struct {
	prefix string           // is put before keys
	now    int64            // keys that expired before are left out
	want   func(entry) bool // nil: all keys
	send   func(command) error

	name  []byte   // of the key
	words [][]byte // a command that elements are added to
	size  int
	held  int64 // elements that were sent
	added int64 // elements in words
	gone  bool  // the key is left out
}

func (c *commander) visitor() visitor {
	return visitor{key: c.key, element: c.element, end: c.end}
}

func (c *commander) key(e entry) error {
	c.gone = e.expiry != 0 && e.expiry <= c.now || c.want != nil && !c.want(e)
	c.name = append([]byte(c.prefix), e.key...)
	c.words, c.size, c.held, c.added = nil, 0, 0, 0
	return nil
}

var adders = map[rdb.Type]string{rdb.List: "RPUSH", rdb.Set: "SADD", rdb.Hash: "HSET", rdb.ZSet: "ZADD"}

func (c *commander) element(e entry, one element) error {
	if c.gone {
		return nil
	}
	switch e.kind {
	case rdb.String:
		return c.do(-1, "SET", one.value)
	case rdb.Stream:
		c.held++
		fields, err := unpackFields(one.value)
		if err != nil {
			return err
		}
		return c.do(-1, "XADD", append([][]byte{one.name}, fields...)...)
	case rdb.List:
		return c.add(e, one.value)
	case rdb.Set:
		return c.add(e, one.name)
	case rdb.Hash:
		return c.add(e, one.name, one.value)
	case rdb.ZSet:
		return c.add(e, one.value, one.name)
	}
	return nil
}

func (c *commander) do(reply int64, what string, args ...[]byte) error {
	return c.send(command{append([][]byte{[]byte(what), c.name}, args...), reply})
}

// add adds to the command under way, of which the elements stay valid because they are copied.
func (c *commander) add(e entry, words ...[]byte) error {
	size := 0
	for _, w := range words {
		size += len(w)
	}
	if len(c.words) >= commandWords || len(c.words) > 0 && c.size+size > commandBytes {
		if err := c.flush(e); err != nil {
			return err
		}
	}
	for _, w := range words {
		c.words = append(c.words, append([]byte(nil), w...))
	}
	c.size += size
	c.added++
	return nil
}

func (c *commander) flush(e entry) error {
	if len(c.words) == 0 {
		return nil
	}
	c.held += c.added
	reply := c.added
	if e.kind == rdb.List { // RPUSH answers the length of the list
		reply = c.held
	}
	err := c.do(reply, adders[e.kind], c.words...)
	c.words, c.size, c.added = nil, 0, 0
	return err
}

func (c *commander) end(e entry) error {
	if c.gone {
		return nil
	}
	if err := c.flush(e); err != nil {
		return err
	}
	if e.kind == rdb.Stream {
		if err := c.endStream(e.stream); err != nil {
			return err
		}
	}
	if e.expiry == 0 {
		return nil
	}
	return c.do(1, "PEXPIREAT", strconv.AppendInt(nil, e.expiry, 10))
}

func (c *commander) endStream(s rdb.StreamInfo) error {
	if c.held == 0 { // an entry that is trimmed at once makes the stream
		id := s.Last
		if id == (rdb.ID{}) {
			id.Sequence = 1
		}
		field := []byte("f")
		if err := c.do(-1, "XADD", []byte("MAXLEN"), []byte("0"), []byte(spellID(id)), field, field); err != nil {
			return err
		}
	}
	return c.do(-1, "XSETID", []byte(spellID(s.Last)), []byte("ENTRIESADDED"), strconv.AppendUint(nil, s.Added, 10), []byte("MAXDELETEDID"), []byte(spellID(s.MaxDeleted)))
}

// Extension implements state.Portable.
func (*Module) Extension() string { return ".resp" }

// Export implements state.Portable: it writes commands as redis-cli --pipe reads them.
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	c := commander{send: func(cmd command) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return writeCommand(out, cmd.args)
	}}
	if err := read(snapshot, c.visitor()); err != nil {
		return err
	}
	return errors.Join(ctx.Err(), out.Flush())
}

func writeCommand(out *bufio.Writer, args [][]byte) error {
	_, err := fmt.Fprintf(out, "*%d\r\n", len(args))
	for _, a := range args {
		if err == nil {
			_, err = fmt.Fprintf(out, "$%d\r\n", len(a))
		}
		for _, part := range [][]byte{a, []byte("\r\n")} {
			if err == nil {
				_, err = out.Write(part)
			}
		}
	}
	return err
}
