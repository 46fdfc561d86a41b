// Package difference compares two states by their items (state.Item).
//
// A Comparison takes the items of the one and of the other, in any order, and says for each group (a table, a folder, a
// kind of key) how many records were added, removed and changed, and on demand which. Equal items may occur several times;
// then their numbers are compared.
//
// It keeps digests and short names of the items instead of themselves, and sorts those outside of memory where they are
// many, so that the memory it takes depends neither on the number of items nor on their size. What it holds at most is
// Options.Memory twice, and names of groups.
//
// Two passes: sorted by content, what is on both sides drops out; what is left, which is little as a rule, is sorted by key,
// so that a record that is left on both sides under one key has changed.
package difference

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"orrery/internal/extsort"
	"orrery/state"
)

// Side is one of the two states.
type Side byte

// The two sides.
const (
	Old Side = iota
	New
)

const (
	defaultMemory = 6 << 20
	maxLabel      = 200     // bytes of a record's name that are kept
	maxGroups     = 1 << 14 // that are told apart
	maxGroupNames = 2 << 20 // bytes of their names
	// others is the group of what belongs to none of those.
	others = "(other groups)"
)

// Options say how to compare.
type Options struct {
	// Scratch opens room for what does not fit into memory; whoever opened it removes it when it was closed.
	Scratch func() (extsort.Scratch, error)
	// Records is how many records are named in each group; none if it is zero. Of all groups together it is state.MaxRecords.
	Records int
	// Group is what an item is counted with; nil: Item.Part.
	Group func(state.Item) string
	// Name is what an item is called; nil: Item.Key, or the content of what has none.
	Name func(state.Item) string
	// Memory is how many bytes of digests are held at once; zero: 6 MiB.
	Memory int
}

// Comparison compares the items of two states.
type Comparison struct {
	options Options
	sorter  *extsort.Sorter
	hash    hash.Hash
	record  []byte
	numbers map[string]uint32 // of the groups
	names   int               // bytes of their names
	groups  []group
	records [2]int64
}

// group is a state.Group that is being found out.
type group struct {
	state.Group
	seen  [2]bool
	other bool
}

// Compare begins a comparison. It is closed when it is done, whatever came of it.
func Compare(o Options) *Comparison {
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	o.Records = min(o.Records, state.MaxRecords)
	if o.Group == nil {
		o.Group = func(i state.Item) string { return i.Part }
	}
	if o.Name == nil {
		o.Name = Name
	}
	return &Comparison{
		options: o, hash: sha256.New(), numbers: map[string]uint32{},
		sorter: extsort.New(o.Memory, o.Scratch, compare),
	}
}

// Name is what an item is called if its module knows nothing better.
func Name(i state.Item) string {
	if i.Key != nil {
		return string(i.Key)
	}
	return string(i.Content[:min(len(i.Content), maxLabel+1)])
}

// Close gives back what the comparison holds.
func (c *Comparison) Close() error { return c.sorter.Close() }

// Records is how many items of a side there were.
func (c *Comparison) Records(of Side) int64 { return c.records[of] }

// A record that is sorted is
//
//	group      4 bytes
//	first     16 bytes  in the first pass the digest of the content, in the second that of the key
//	second    16 bytes  the other one
//	side       1 byte
//	count     uvarint   how often
//	label     the rest  the item's name, if it is wanted
const (
	digestLength = 16
	keyLength    = 4 + 2*digestLength + 1
)

type digest [digestLength]byte

// Add takes an item of one side.
func (c *Comparison) Add(of Side, i state.Item) error {
	number := c.group(c.options.Group(i))
	g := &c.groups[number]
	g.seen[of] = true
	if i.Key == nil && i.Content == nil {
		return nil
	}
	c.records[of]++
	if of == Old {
		g.Old++
	} else {
		g.New++
	}
	content, key := c.digests(i)
	c.record = header(c.record[:0], number, content, key, of)
	c.record = append(c.record, 1)
	if c.options.Records > 0 {
		c.record = append(c.record, label(c.options.Name(i))...)
	}
	return c.sorter.Add(c.record)
}

// compare orders records by all but count and label.
func compare(a, b []byte) int { return bytes.Compare(a[:keyLength], b[:keyLength]) }

func header(b []byte, number uint32, first, second digest, of Side) []byte {
	b = binary.BigEndian.AppendUint32(b, number)
	b = append(b, first[:]...)
	b = append(b, second[:]...)
	return append(b, byte(of))
}

// label is as much of a name as is kept.
func label(name string) string {
	if len(name) <= maxLabel {
		return name
	}
	end := maxLabel
	for end > maxLabel-utf8.UTFMax && !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + "…"
}

// group is the number of a group. Names that came when there was no more room for them stay without a number of their own.
func (c *Comparison) group(name string) uint32 {
	if number, ok := c.numbers[name]; ok {
		return number
	}
	full := len(c.numbers) >= maxGroups || c.names >= maxGroupNames
	if last := len(c.groups) - 1; full && c.groups[last].other {
		return uint32(last) //nolint:gosec // at most maxGroups
	}
	number := uint32(len(c.groups)) //nolint:gosec // at most maxGroups
	g := group{other: full}
	if g.Name = others; !full {
		g.Name = strings.Clone(name)
		c.numbers[g.Name] = number
		c.names += len(name)
	}
	c.groups = append(c.groups, g)
	return number
}

// digests are those of an item's content and of its key. The content of what is not called by a part of it includes the key. The
// key of what has none is the content.
func (c *Comparison) digests(i state.Item) (content, key digest) {
	if i.Key == nil {
		content = c.sum('c', i.Content)
		return content, content
	}
	key = c.sum('k', i.Key)
	if i.Within {
		return c.sum('c', i.Content), key
	}
	return c.sum('n', key[:], i.Content), key
}

// sum is a digest; all parts but the last have always the same length for one kind.
func (c *Comparison) sum(kind byte, parts ...[]byte) digest {
	c.hash.Reset()
	_, _ = c.hash.Write([]byte{kind}) // never fails
	for _, part := range parts {
		_, _ = c.hash.Write(part)
	}
	var whole [sha256.Size]byte
	return digest(c.hash.Sum(whole[:0]))
}

// Result says what differs, when all items were added: the groups in which something does, by name.
func (c *Comparison) Result(ctx context.Context) (all []state.Group, err error) {
	left := extsort.New(c.options.Memory, c.options.Scratch, compare)
	defer func() { err = errors.Join(err, left.Close()) }()
	if err := c.cancel(ctx, left); err != nil {
		return nil, err
	}
	if err := c.pair(ctx, left); err != nil {
		return nil, err
	}
	all = []state.Group{}
	for _, g := range c.groups {
		if !g.other && g.seen[Old] != g.seen[New] {
			g.Whole = state.Removed
			if g.seen[New] {
				g.Whole = state.Added
			}
		}
		if g.Whole != "" || g.Added+g.Removed+g.Changed > 0 {
			g.Name = Printable(g.Name)
			all = append(all, g.Group)
		}
	}
	slices.SortFunc(all, func(a, b state.Group) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// sorted are records that agree in group and first digest, one after the other.
type sorted struct {
	prefix []byte
	sample [2][]byte // of each side one record
	count  [2]uint64
}

const prefixLength = 4 + digestLength

// take adds a record, after end was called for those before where it is not one of them.
func (s *sorted) take(record []byte, end func() error) error {
	if string(s.prefix) != string(record[:prefixLength]) {
		if len(s.prefix) > 0 {
			if err := end(); err != nil {
				return err
			}
		}
		s.prefix = append(s.prefix[:0], record[:prefixLength]...)
		s.count = [2]uint64{}
	}
	of := record[keyLength-1]
	if s.count[of] == 0 {
		s.sample[of] = append(s.sample[of][:0], record...)
	}
	n, _ := binary.Uvarint(record[keyLength:])
	s.count[of] += n
	return nil
}

// cancel drops what is on both sides, and gives what is left to another sorter, by key.
func (c *Comparison) cancel(ctx context.Context, left *extsort.Sorter) error {
	var same sorted
	var turned []byte
	end := func() error {
		of, more := Old, same.count[Old]-same.count[New]
		if same.count[New] > same.count[Old] {
			of, more = New, same.count[New]-same.count[Old]
		}
		if more == 0 { // also where there was nothing
			return nil
		}
		record := same.sample[of]
		turned = append(turned[:0], record[:4]...)
		turned = append(turned, record[4+digestLength:keyLength-1]...)
		turned = append(turned, record[4:4+digestLength]...)
		turned = append(turned, byte(of))
		turned = binary.AppendUvarint(turned, more)
		_, n := binary.Uvarint(record[keyLength:])
		turned = append(turned, record[keyLength+n:]...)
		return left.Add(turned)
	}
	err := c.sorter.Each(ctx, func(record []byte) error { return same.take(record, end) })
	if err == nil {
		err = end()
	}
	return errors.Join(err, c.sorter.Close())
}

// pair counts what is left, where what is left on both sides under one key has changed.
func (c *Comparison) pair(ctx context.Context, left *extsort.Sorter) error {
	n := naming{limit: c.options.Records, room: state.MaxRecords}
	var same sorted
	err := left.Each(ctx, func(record []byte) error {
		return same.take(record, func() error { c.count(same, &n); return nil })
	})
	if err == nil && len(same.prefix) > 0 {
		c.count(same, &n)
	}
	n.finish()
	return err
}

// count counts the records that are left under one key.
func (c *Comparison) count(same sorted, n *naming) {
	g := &c.groups[binary.BigEndian.Uint32(same.prefix)]
	removed, added := same.count[Old], same.count[New]
	changed := min(removed, added)
	g.Changed += int64(changed)           //nolint:gosec // items that were counted in an int64
	g.Removed += int64(removed - changed) //nolint:gosec // the same
	g.Added += int64(added - changed)     //nolint:gosec // the same
	n.note(g, state.Changed, same.sample[New], changed)
	n.note(g, state.Removed, same.sample[Old], removed-changed)
	n.note(g, state.Added, same.sample[New], added-changed)
}

// naming keeps the first records of each group by name. The groups come one after the other.
type naming struct {
	limit int // in a group
	room  int // for those of all groups
	group *group
}

// note keeps a record that occurs so many times, if it is one of the first.
func (n *naming) note(g *group, change string, record []byte, times uint64) {
	if n.limit == 0 || times == 0 {
		return
	}
	if n.group != g {
		n.finish()
		n.group = g
	}
	_, at := binary.Uvarint(record[keyLength:])
	one := state.Record{Change: change, Name: Printable(string(record[keyLength+at:]))}
	for range min(times, uint64(n.limit)) { //nolint:gosec // not negative
		g.Records = append(g.Records, one)
	}
	if len(g.Records) >= 2*n.limit {
		n.cut()
	}
}

func (n *naming) cut() {
	all := n.group.Records
	slices.SortFunc(all, func(a, b state.Record) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(b.Change, a.Change)) // removed before added
	})
	n.group.Records = all[:min(len(all), n.limit)]
}

// finish ends a group.
func (n *naming) finish() {
	if n.group == nil {
		return
	}
	n.limit = min(n.limit, n.room)
	n.cut()
	n.room -= len(n.group.Records)
	n.limit = min(n.limit, n.room)
	n.group = nil
}

// Printable is a name as it is, or quoted where it holds what cannot be printed.
func Printable(name string) string {
	if utf8.ValidString(name) && strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return name
	}
	return strconv.Quote(name)
}
