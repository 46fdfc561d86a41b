package history

import (
	"errors"
	"fmt"
	"os"
	"time"

	"orrery/clip"
)

// ErrPlain says that a history is not encrypted.
var ErrPlain = errors.New("the history is not encrypted (clip encrypt)")

// ready says whether items can be read and changed.
func (h *History) ready() error {
	switch {
	case h.closed:
		return os.ErrClosed
	case h.locked:
		return fmt.Errorf("%w (clip unlock)", clip.ErrLocked)
	}
	return nil
}

// Expires is when the next item expires; zero: none does.
func (h *History) Expires() time.Time {
	h.mu.RLock()
	defer h.mu.RUnlock()
	var first time.Time
	for _, m := range h.index.marks {
		if !m.Expires.IsZero() && (first.IsZero() || m.Expires.Before(first)) {
			first = m.Expires
		}
	}
	return first
}

// Locked says whether it is locked.
func (h *History) Locked() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.locked
}

// Lock forgets the key of an encrypted history, and all that was decrypted with it, until Unlock. The folder stays this process's.
func (h *History) Lock() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return os.ErrClosed
	case len(h.log.header.Keys) == 0:
		return ErrPlain
	}
	h.forgetAll()
	return nil
}

// forgetAll leaves of an encrypted history what anybody may know.
func (h *History) forgetAll() {
	clear(h.key)
	if h.machines != nil {
		h.wake = h.machines.wake
	}
	h.key, h.machines, h.locked = nil, nil, true
	h.log = &log{file: h.log.file, header: h.log.header}
	h.objects, h.index = &objects{dir: h.objectsFolder()}, newIndex()
}

// Unlock opens a locked history with one of the secrets. An error leaves it locked.
func (h *History) Unlock(secrets []Secret) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	if !h.locked {
		return nil
	}
	if err := h.unlock(secrets); err != nil {
		h.forgetAll()
		return err
	}
	h.locked = false
	if h.machines != nil && h.wake != nil {
		h.machines.wake = h.wake
		h.wake()
	}
	return nil
}
