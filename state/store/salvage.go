package store

import (
	"bytes"
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

// orphans finds the objects whose bases are not in any pack, as bitmaps by pack. Where the list of dead objects is not
// to be had, these must not be used: they died in some prune, with what they refer to.
func orphans(packs []*pack) map[string][]byte {
	copies := map[digest][]*entry{}
	for _, p := range packs {
		for i := range p.entries {
			copies[p.entries[i].name] = append(copies[p.entries[i].name], &p.entries[i])
		}
	}
	alive := map[digest]bool{}
	for _, p := range packs {
		for i := range p.entries {
			survives(p.entries[i].name, copies, alive, 0)
		}
	}
	dead := map[string][]byte{}
	for _, p := range packs {
		for i := range p.entries {
			if entrySurvives(&p.entries[i], copies, alive, 0) {
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

// survives says whether any copy of an object has all that it is made from.
func survives(name digest, copies map[digest][]*entry, alive map[digest]bool, level int) bool {
	if known, ok := alive[name]; ok {
		return known
	}
	if level > hardDepth {
		return false
	}
	alive[name] = false // a circle is no support
	for _, e := range copies[name] {
		if entrySurvives(e, copies, alive, level) {
			alive[name] = true
			break
		}
	}
	return alive[name]
}

func entrySurvives(e *entry, copies map[digest][]*entry, alive map[digest]bool, level int) bool {
	for _, base := range e.bases {
		if !survives(base, copies, alive, level+1) {
			return false
		}
	}
	return true
}
