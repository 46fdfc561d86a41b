package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"orrery/state"
	"orrery/state/vault"
)

const slotSuffix = ".json"

func (s *Store) keys() string { return filepath.Join(s.dir, "keys") }

func (s *Store) slotFile(id string) string { return filepath.Join(s.keys(), id+slotSuffix) }

// String is where the store is.
func (s *Store) String() string { return s.name }

// Encrypted says whether the store is.
func (s *Store) Encrypted() bool { return s.key != nil }

// Fingerprint tells the store's key from others; empty if it is not encrypted.
func (s *Store) Fingerprint() string {
	if s.key == nil {
		return ""
	}
	return s.key.Fingerprint()
}

// slots are the ways to the store's key. A damaged one is none.
func (s *Store) slots() ([]vault.Slot, error) {
	listed, err := s.raw.ReadDir(s.keys())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []vault.Slot
	for _, l := range listed {
		if !strings.HasSuffix(l.Name(), slotSuffix) {
			continue
		}
		b, err := s.raw.ReadFile(filepath.Join(s.keys(), l.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		slot, err := vault.DecodeSlot(b)
		if err != nil || slot.ID+slotSuffix != l.Name() {
			s.log.Warn("a key of the snapshot store is damaged", "file", l.Name(), "error", err)
			continue
		}
		all = append(all, slot)
	}
	return all, nil
}

// Keys lists the ways to the store's key.
func (s *Store) Keys(_ context.Context) ([]vault.Slot, error) {
	if !s.Encrypted() {
		return nil, s.plain()
	}
	return s.slots()
}

func (s *Store) plain() error {
	return fmt.Errorf("snapshot store %s is not encrypted: %w (make an encrypted one with orrery store init, and copy into it)",
		s.name, state.ErrNotAble)
}

// AddKeys adds ways to the store's key. Nothing else is written anew.
func (s *Store) AddKeys(ctx context.Context, wrap func(vault.Key) ([]vault.Slot, error)) ([]vault.Slot, error) {
	if !s.Encrypted() {
		return nil, s.plain()
	}
	slots, err := wrap(*s.key)
	if err != nil {
		return nil, err
	}
	l, err := s.lockKeys(ctx)
	if err != nil {
		return nil, err
	}
	defer l.release()
	for _, slot := range slots {
		if err := s.writeSlot(slot); err != nil {
			return nil, err
		}
	}
	return slots, nil
}

// RemoveKey takes a way to the store's key away, but never the last one.
func (s *Store) RemoveKey(ctx context.Context, id string) error {
	if !s.Encrypted() {
		return s.plain()
	}
	l, err := s.lockKeys(ctx)
	if err != nil {
		return err
	}
	defer l.release()
	all, err := s.slots()
	if err != nil {
		return err
	}
	found := false
	for _, slot := range all {
		found = found || slot.ID == id
	}
	switch {
	case !found:
		return fmt.Errorf("key %.20q of snapshot store %s: %w (see orrery store key list)", id, s.name, state.ErrNotFound)
	case len(all) == 1:
		return fmt.Errorf("key %s is the last of snapshot store %s: nobody could open it any more (add another one first): %w",
			id, s.name, state.ErrInUse)
	}
	if err := s.raw.Remove(s.slotFile(id)); err != nil {
		return err
	}
	return s.raw.SyncDir(s.keys())
}

func (s *Store) lockKeys(ctx context.Context) (lock, error) {
	return s.acquire(ctx, filepath.Join(s.dir, "keys.lock"), true)
}

func (s *Store) writeSlot(slot vault.Slot) error {
	b, err := slot.Encode()
	if err != nil {
		return err
	}
	if err := s.raw.MkdirAll(s.keys()); err != nil {
		return err
	}
	if err := s.raw.SyncDir(s.dir); err != nil {
		return err
	}
	return s.replaceRaw(s.slotFile(slot.ID), b)
}

func (s *Store) dropSlots() error {
	listed, err := s.raw.ReadDir(s.keys())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, l := range listed {
		if err := s.raw.Remove(filepath.Join(s.keys(), l.Name())); err != nil {
			return err
		}
	}
	return nil
}
