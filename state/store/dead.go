package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"orrery/state"
)

// deadObjects says which objects of packs are not to be used any more: a bitmap by pack, a bit for each entry in
// the order of the index. What they refer to may be gone. Writing this file is the moment at which a
// prune happens; removing packs comes after it.
type deadObjects struct {
	Version int               `json:"version"`
	Packs   map[string][]byte `json:"packs"`
}

func (s *Store) deadFile() string { return filepath.Join(s.dir, "dead") }

func (s *Store) readDead() (map[string][]byte, error) {
	b, err := s.files.ReadFile(s.deadFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var d deadObjects
	if len(b) < 32 || sum(b[32:], free) != digest(b[:32]) || json.Unmarshal(b[32:], &d) != nil || d.Version != 1 {
		return nil, fmt.Errorf("%s: %w: not a list of dead objects of version 1", s.deadFile(), state.ErrCorrupt)
	}
	if d.Packs == nil {
		d.Packs = map[string][]byte{}
	}
	return d.Packs, nil
}

func (s *Store) stageDead(packs map[string][]byte) (*pending, error) {
	b, err := json.Marshal(deadObjects{1, packs})
	if err != nil {
		return nil, err
	}
	check := sum(b, free)
	return s.stage(s.deadFile(), append(check[:], b...))
}

// dies says whether entry i of a pack is dead.
func (p *pack) dies(i int) bool { return i/8 < len(p.dead) && p.dead[i/8]>>(i%8)&1 == 1 }

// with returns the pack with its dead entries. Packs are shared, so it does not change the one that is there.
func (p *pack) with(dead []byte) *pack {
	if bytes.Equal(p.dead, dead) {
		return p
	}
	q := *p
	q.dead = dead
	return &q
}
