package store

import (
	"bytes"
	"slices"
)

// maxSalvage is how much of the end of a pack is searched for a copy of its index.
const maxSalvage = 16 << 20

// salvageIndex looks for a whole index in a pack whose end is damaged or cut off; nil if there is none. An index that
// passes its checksum and lies in a pack is the pack's, wherever it ends.
func salvageIndex(readAt func([]byte, int64) (int, error), size int64) []entry {
	start := max(0, size-maxSalvage)
	tail := make([]byte, size-start)
	if _, err := readAt(tail, start); err != nil {
		return nil
	}
	begun := func(b []byte, at int64) (int, error) { // the first bytes of the file may be what is damaged
		if at == 0 && len(b) == len(packMagic) {
			return copy(b, packMagic), nil
		}
		return readAt(b, at)
	}
	for {
		at := bytes.LastIndex(tail, []byte(packEnd))
		if at < 0 {
			return nil
		}
		if entries, err := decodeIndex(begun, start+int64(at+len(packEnd))); err == nil && len(entries) > 0 {
			return entries
		}
		tail = tail[:at+len(packEnd)-1]
	}
}

// orphans finds the objects that cannot be made from what is in the packs, as bitmaps by pack. Where the list of dead
// objects is not to be had, these must not be used: they died in some prune, with what they refer to.
func orphans(packs []*pack) map[string][]byte {
	made := founded(packs)
	dead := map[string][]byte{}
	for _, p := range packs {
		for i := range p.entries {
			if p.dies(i) || !slices.ContainsFunc(p.entries[i].bases, func(base digest) bool { return made[base] == nil }) {
				continue
			}
			if dead[p.name] == nil {
				dead[p.name] = make([]byte, (len(p.entries)+7)/8)
			}
			dead[p.name][i/8] |= 1 << (i % 8)
		}
	}
	return dead
}

// founded says of each object that can be made from what is in the packs which pack has the copy to use: the one with
// the shortest chain to whole objects, so that these copies alone need no other ones.
func founded(packs []*pack) map[digest]*pack {
	type delta struct {
		name    digest
		in      *pack
		lacking int // bases that are not made yet
	}
	made, waiting := map[digest]*pack{}, map[digest][]*delta{}
	var level []digest
	for _, p := range packs {
		for i := range p.entries {
			e := &p.entries[i]
			switch {
			case p.dies(i):
			case len(e.bases) > 0:
				d := &delta{e.name, p, len(e.bases)}
				for _, base := range e.bases {
					waiting[base] = append(waiting[base], d)
				}
			case made[e.name] == nil:
				made[e.name] = p
				level = append(level, e.name)
			}
		}
	}
	for len(level) > 0 {
		var next []digest
		for _, name := range level {
			for _, d := range waiting[name] {
				if d.lacking--; d.lacking == 0 && made[d.name] == nil {
					made[d.name] = d.in
					next = append(next, d.name)
				}
			}
		}
		level = next
	}
	return made
}
