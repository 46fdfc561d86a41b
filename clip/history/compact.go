package history

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"orrery/clip"
	"orrery/clip/replica"
)

// Compact writes the log anew without what was deleted, so that no byte of it is left. A crash leaves the old log or the new one.
func (h *History) Compact() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return err
	}
	return h.compact(h.key, h.log.header.Keys)
}

// Wasteful says that most of the log is of no use any more.
func (h *History) Wasteful() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.index.dead > 1000 && h.index.dead > len(h.index.order) || h.machines.wasteful(len(h.index.order))
}

// Rekey encrypts the history with a new key, which the secrets open afterwards; with none, it is not encrypted any more.
func (h *History) Rekey(secrets []Secret) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.ready(); err != nil {
		return err
	}
	var key []byte
	var slots []Slot
	if len(secrets) > 0 {
		key = make([]byte, keySize)
		_, _ = rand.Read(key) // never fails, by its contract
	}
	for _, s := range secrets {
		slot, err := wrapKey(key, s)
		if err != nil {
			return err
		}
		slots = append(slots, slot)
	}
	return h.compact(key, slots)
}

// compact writes all that lives into a new log, with a key, and goes on with that.
func (h *History) compact(key []byte, slots []Slot) (err error) {
	fresh := &History{dir: h.dir, lock: h.lock, key: key, index: newIndex(), repair: h.repair}
	path := filepath.Join(h.dir, logName)
	file, err := os.CreateTemp(h.dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot write the history anew: %w", err), file.Close(), os.Remove(file.Name()))
		}
	}()
	fresh.log = &log{file: file, header: &header{Version: version, ID: make([]byte, 16), Keys: slots}}
	_, _ = rand.Read(fresh.log.header.ID) // never fails, by its contract
	if err := fresh.useKey(); err != nil {
		return err
	}
	rekeyed := !slices.Equal(key, h.key)
	old, err := h.copyTo(fresh, rekeyed)
	if err != nil {
		return err
	}
	if err := sync(file); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	// From here on the new log is the history.
	before := h.log.file
	for _, k := range old {
		h.machines.Forget(k)
	}
	if h.machines != nil {
		h.machines.stale = 0
	}
	h.log, h.objects, h.index, h.key = fresh.log, fresh.objects, fresh.index, fresh.key
	err2 := errors.Join(syncDir(h.dir), before.Close())
	if rekeyed {
		err2 = errors.Join(err2, h.objects.sweep(func(name string) bool { return h.index.files[name] > 0 }))
	}
	if err2 != nil {
		return fmt.Errorf("the history was written anew, and: %w", err2)
	}
	return nil
}

// copyTo writes all living items, and what machines say of them and of others. old are the deletions that are left out.
func (h *History) copyTo(fresh *History, rekeyed bool) (old []replica.Key, err error) {
	head, err := fresh.log.header.encode()
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(fresh.log.file, 256<<10)
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	fresh.log.end = int64(len(head))
	var frame []byte
	write := func(body []byte) (int64, error) {
		frame, err = fresh.log.frame(frame[:0], fresh.log.ordinal, body)
		if err != nil {
			return 0, err
		}
		at := fresh.log.end
		fresh.log.end += int64(len(frame))
		fresh.log.ordinal++
		_, err := w.Write(frame)
		return at, err
	}
	if h.machines != nil {
		if _, err := write(heardOf{h.machines.Own(), h.machines.Seen()}.encode()); err != nil {
			return nil, err
		}
	}
	for i := range h.index.entries {
		if e := &h.index.entries[i]; e.flags&flagDead == 0 {
			if err := h.copyEntry(fresh, e, rekeyed, write); err != nil {
				return nil, err
			}
		}
	}
	fresh.index.next = h.index.next
	if old, err = h.copyReplica(fresh, write); err != nil {
		return nil, err
	}
	return old, w.Flush()
}

func (h *History) copyEntry(fresh *History, e *entry, rekeyed bool, write func([]byte) (int64, error)) error {
	r, err := h.added(e)
	if errors.Is(err, clip.ErrCorrupt) {
		return nil // what cannot be read is in the file that was put aside
	}
	if err != nil {
		return err
	}
	r.used, r.count = e.used, uint64(e.count)
	for i, p := range r.parts {
		if p.file == "" || !rekeyed {
			continue
		}
		data, err := h.objects.get(p.file)
		if err != nil {
			return err
		}
		if r.parts[i].file, err = fresh.objects.put(data); err != nil {
			return err
		}
	}
	at, err := write(r.encode())
	if err != nil {
		return err
	}
	added := fresh.index.add(r, at)
	if m, ok := h.index.marks[e.id]; ok {
		if _, err := write(marked{e.id, m}.encode()); err != nil {
			return err
		}
		fresh.index.mark(added, m)
	}
	if h.machines == nil {
		return nil
	}
	if known, ok := h.machines.Get(replica.Key(r.digest)); ok {
		_, err = write(entryOf{key: replica.Key(r.digest), entry: known}.encode())
	}
	return err
}
