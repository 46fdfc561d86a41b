package redis

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"orrery/internal/extsort"
	"orrery/state"
	"orrery/state/module/redis/rdb"
)

const (
	maxWords = 1 << 20 // of a command
	maxLine  = 64 << 10
)

// Import implements state.Portable. It reads commands as redis-cli --pipe does, in RESP or one on a line, and
// carries them out without a server.
func (*Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	return errors.Join(importCommands(ctx, plain, w, ""), ctx.Err())
}

// importCommands writes the snapshot of the keys that commands make.
func importCommands(ctx context.Context, from io.Reader, to io.Writer, folder string) (err error) {
	i := importer{in: bufio.NewReaderSize(from, maxLine), out: newSorter(folder, extsort.Memory)}
	defer func() { err = errors.Join(err, i.out.Close()) }()
	for n := 1; ; n++ {
		words, err := i.command()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(words) > 0 {
			err = i.take(words)
		}
		if err != nil {
			return fmt.Errorf("command %d: %w", n, err)
		}
	}
	return assemble(ctx, i.out, to)
}

// importer is a position in commands and the pieces that they made.
type importer struct {
	in    *bufio.Reader
	out   *sorter
	count uint64
}

// command reads the next command; io.EOF after the last.
func (i *importer) command() ([][]byte, error) {
	line, err := i.line()
	if err != nil {
		return nil, err
	}
	if len(line) == 0 || line[0] != '*' {
		return split(line)
	}
	n, ok := number(line[1:])
	if !ok || n > maxWords {
		return nil, badCommand("%.40q is no number of words", line)
	}
	var words [][]byte
	for range n {
		word, err := i.word()
		if errors.Is(err, io.EOF) {
			err = badCommand("it ends in the middle")
		}
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, nil
}

func badCommand(what string, args ...any) error {
	return fmt.Errorf("%w: %s", state.ErrCorrupt, fmt.Sprintf(what, args...))
}

// line reads a line without its end.
func (i *importer) line() ([]byte, error) {
	line, err := i.in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, badCommand("a line is longer than %d bytes (use the RESP form)", maxLine)
	case errors.Is(err, io.EOF) && len(line) > 0:
		err = nil
	}
	return bytes.TrimRight(line, "\r\n"), err
}

func (i *importer) word() ([]byte, error) {
	line, err := i.line()
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[0] != '$' {
		return nil, badCommand("%.40q is not the length of a word", line)
	}
	n, ok := number(line[1:])
	if !ok || n > maxLength {
		return nil, badCommand("%.40q is not the length of a word", line)
	}
	var b bytes.Buffer                                        // grows with what is there, whatever the line says
	if _, err := io.CopyN(&b, i.in, int64(n)+2); err != nil { //nolint:gosec // checked
		return nil, err
	}
	if !bytes.HasSuffix(b.Bytes(), []byte("\r\n")) || uint64(b.Len()) != n+2 {
		return nil, badCommand("a word is not as long as it says")
	}
	return b.Bytes()[:n:n], nil
}

// take carries out a command.
func (i *importer) take(words [][]byte) error {
	name := strings.ToUpper(string(words[0]))
	args := words[1:]
	if len(args) < 2 {
		return badCommand("%.20q lacks arguments, or is not a command that can be imported", name)
	}
	key, rest := args[0], args[1:]
	switch name {
	case "SET":
		return i.set(key, rest)
	case "MSET":
		return inPairs(args, func(key, value []byte) error { return i.set(key, [][]byte{value}) })
	case "RPUSH":
		return i.each(key, rdb.List, rest, func(value []byte) error {
			i.count++
			return i.add(key, binary.BigEndian.AppendUint64([]byte{placeElement}, i.count), value)
		})
	case "SADD":
		return i.each(key, rdb.Set, rest, func(member []byte) error { return i.add(key, element1(member), nil) })
	case "HSET", "HMSET":
		return errors.Join(i.kind(key, rdb.Hash), inPairs(rest, func(field, value []byte) error { return i.add(key, element1(field), value) }))
	case "ZADD":
		return errors.Join(i.kind(key, rdb.ZSet), inPairs(rest, func(score, member []byte) error { return i.score(key, score, member) }))
	case "XADD":
		return i.entry(key, rest)
	case "XSETID":
		return i.streamInfo(key, rest)
	case "PEXPIREAT", "EXPIREAT":
		return i.expire(key, rest, map[string]int64{"EXPIREAT": 1000, "PEXPIREAT": 1}[name])
	}
	return badCommand("%.20q is not among the commands that can be imported (SET, MSET, RPUSH, SADD, HSET, ZADD, XADD, XSETID, EXPIREAT, PEXPIREAT)", name)
}

func element1(name []byte) []byte { return append([]byte{placeElement}, name...) }

func (i *importer) add(key, place, value []byte) error { return i.out.add(record{key, place, value}) }

func (i *importer) kind(key []byte, t rdb.Type) error {
	return i.add(key, []byte{placeType}, []byte{byte(t)})
}

func (i *importer) each(key []byte, t rdb.Type, all [][]byte, add func([]byte) error) error {
	if err := i.kind(key, t); err != nil {
		return err
	}
	for _, one := range all {
		if err := add(one); err != nil {
			return err
		}
	}
	return nil
}

func inPairs(all [][]byte, visit func(a, b []byte) error) error {
	if len(all)%2 != 0 {
		return badCommand("an argument lacks its other half")
	}
	for ; len(all) > 0; all = all[2:] {
		if err := visit(all[0], all[1]); err != nil {
			return err
		}
	}
	return nil
}

func (i *importer) set(key []byte, rest [][]byte) error {
	if err := errors.Join(i.kind(key, rdb.String), i.add(key, []byte{placeElement}, rest[0])); err != nil || len(rest) == 1 {
		return err
	}
	factors := map[string]int64{"EXAT": 1000, "PXAT": 1}
	if factor, ok := factors[strings.ToUpper(string(rest[1]))]; ok {
		return i.expire(key, rest[2:], factor)
	}
	return badCommand("SET has the option %.20q, which cannot be imported", rest[1])
}

func (i *importer) expire(key []byte, rest [][]byte, factor int64) error {
	if len(rest) != 1 {
		return badCommand("the time at which key %.80q expires is not there, or has options", key)
	}
	at, err := strconv.ParseInt(string(rest[0]), 10, 64)
	if err != nil || at <= 0 || at > 1<<62/factor {
		return badCommand("%.40q is not a time at which a key expires", rest[0])
	}
	return i.add(key, []byte{placeExpiry}, binary.BigEndian.AppendUint64(nil, uint64(at*factor))) //nolint:gosec // positive
}

func (i *importer) score(key, text, member []byte) error {
	score, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsNaN(score) {
		return badCommand("%.40q is not a score (options of ZADD cannot be imported)", text)
	}
	return i.add(key, element1(member), appendScore(nil, score))
}

func (i *importer) entry(key []byte, rest [][]byte) error {
	if err := i.kind(key, rdb.Stream); err != nil {
		return err
	}
	trimmed := len(rest) > 2 && strings.EqualFold(string(rest[0]), "MAXLEN") && string(rest[1]) == "0"
	if trimmed { // it makes an empty stream
		rest = rest[2:]
	}
	id, ok := parseID(string(rest[0]))
	if !ok || len(rest) < 3 || len(rest)%2 == 0 {
		return badCommand("XADD has no id of the form 1-2, or a field lacks its value (its options cannot be imported)")
	}
	if err := i.add(key, appendID([]byte{placeEntry}, id), nil); err != nil || trimmed {
		return err
	}
	return i.add(key, appendID([]byte{placeElement}, id), packFields(rest[1:]))
}

// streamInfo takes what has to be known of a stream besides its entries: XSETID key id ENTRIESADDED n MAXDELETEDID id.
func (i *importer) streamInfo(key []byte, rest [][]byte) error {
	bad := badCommand("XSETID is not of the form XSETID key id ENTRIESADDED number MAXDELETEDID id")
	if len(rest) != 5 || !strings.EqualFold(string(rest[1]), "ENTRIESADDED") || !strings.EqualFold(string(rest[3]), "MAXDELETEDID") {
		return bad
	}
	last, ok := parseID(string(rest[0]))
	added, ok2 := number(rest[2])
	deleted, ok3 := parseID(string(rest[4]))
	if !ok || !ok2 || !ok3 {
		return bad
	}
	value := binary.BigEndian.AppendUint64(appendID(appendID(nil, last), deleted), added)
	return errors.Join(i.kind(key, rdb.Stream), i.add(key, []byte{placeStream}, value))
}
