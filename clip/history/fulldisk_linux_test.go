package history_test

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/internal/testenv"
)

// TestFullDisk: what does not fit is refused, and what was there stays, whole; once there is room it goes on.
func TestFullDisk(t *testing.T) {
	// Not beside other tests: the program that mounts has all locks of this process until it is another one.
	dir := t.TempDir()
	testenv.SmallDisk(t, dir, "4m")
	c := history.Config{Directory: dir}
	h := open(t, c)
	var ids []clip.ID
	var full error
	for i := 0; full == nil && i < 1000; i++ {
		content := clip.Content{Type: "text/plain", Data: bytes.Repeat(fmt.Appendf(nil, "%d ", i), 4000+i%2*40_000)} // in the log, and in files
		s, _, err := h.Add(clip.Item{Contents: []clip.Content{content}})
		if full = err; err == nil {
			ids = append(ids, s.ID)
		}
	}
	if !errors.Is(full, syscall.ENOSPC) {
		t.Fatal(full)
	}
	for range 2 {
		if got := h.Stats().Items; got != len(ids) {
			t.Errorf("%d items, %d were acknowledged", got, len(ids))
		}
		for _, id := range ids {
			if _, err := h.Get(id); err != nil {
				t.Error(err)
			}
		}
		if err := h.Rekey(keys("a")); !errors.Is(err, syscall.ENOSPC) || h.Stats().Encrypted {
			t.Errorf("%v, %+v", err, h.Stats())
		}
		h = reopen(t, h, c)
	}
	if n, err := h.Delete(ids[1]); n != 1 || err != nil { // its file makes room
		t.Fatal(n, err)
	}
	if _, _, err := h.Add(text("there is room")); err != nil {
		t.Error(err)
	}
}
