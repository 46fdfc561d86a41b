package history_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/find"
	"orrery/clip/history"
)

// keys are secrets of a kind that costs no time.
func keys(names ...string) []history.Secret {
	var all []history.Secret
	for _, n := range names {
		all = append(all, history.Secret{Kind: history.KeyFile, Hint: n, Text: []byte("the text of " + n)})
	}
	return all
}

// TestLock: a locked history gives nothing and takes nothing, and opens with one of its secrets only.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := history.Open(history.Config{Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	item := func(text string) clip.Item {
		return clip.Item{Contents: []clip.Content{{Type: "text/plain", Data: []byte(text)}}, Summary: clip.Summary{Mark: clip.Mark{Tags: []string{"t"}}}}
	}
	large := string(bytes.Repeat([]byte("large "), 20_000))
	for _, text := range []string{"one", "two", large} {
		if _, _, err := h.Add(item(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Lock(); !errors.Is(err, history.ErrPlain) || h.Locked() {
		t.Error(err)
	}
	if err := h.Rekey(keys("a", "b")); err != nil {
		t.Fatal(err)
	}
	if s := h.Stats(); !s.Encrypted || len(s.Keys) != 2 || s.Keys[1].Hint != "b" || s.Locked {
		t.Errorf("%+v", s)
	}
	if err := h.Lock(); err != nil {
		t.Fatal(err)
	}
	query, err := find.Parse("one", find.Words, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"add":       func() error { _, _, err := h.Add(item("three")); return err },
		"get":       func() error { _, err := h.Get(1); return err },
		"mark":      func() error { _, err := h.Mark(1, func(*clip.Mark) {}); return err },
		"delete":    func() error { _, err := h.Delete(1); return err },
		"search":    func() error { _, err := h.Search(t.Context(), query, 0); return err },
		"compact":   h.Compact,
		"rekey":     func() error { return h.Rekey(nil) },
		"replicate": func() error { return h.Replicate([8]byte{1}, func() {}) },
		"unlock":    func() error { return h.Unlock(keys("c")) },
		"no secret": func() error { return h.Unlock(nil) },
	} {
		if err := do(); !errors.Is(err, clip.ErrLocked) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for s := range h.All() {
		t.Errorf("%+v", s)
	}
	if gone, err := h.Enforce(history.Limits{Items: 1}, time.Now()); err != nil || gone != nil {
		t.Error(gone, err)
	}
	if err := h.Unlock(keys("x", "b")); err != nil {
		t.Fatal(err)
	}
	check := func(h *history.History) {
		t.Helper()
		got, err := h.Get(3)
		if err != nil || string(got.Contents[0].Data) != large || len(got.Tags) != 1 || h.Stats().Items != 3 {
			t.Errorf("%v, %+v", err, h.Stats())
		}
	}
	check(h)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := history.Open(history.Config{Directory: dir}); !errors.Is(err, clip.ErrLocked) {
		t.Error(err)
	}
	if h, err = history.Open(history.Config{Directory: dir, Locked: true, Secrets: keys("c")}); err != nil || !h.Locked() {
		t.Fatal(err)
	}
	if err := h.Unlock(keys("a")); err != nil {
		t.Error(err)
	}
	check(h)
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestWrongPassphrase(t *testing.T) {
	t.Parallel()
	right, wrong := history.Secret{Kind: history.Passphrase, Text: []byte("right")}, history.Secret{Kind: history.Passphrase, Text: []byte("wrong")}
	h, err := history.Open(history.Config{Directory: t.TempDir(), Create: []history.Secret{right}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := h.Unlock([]history.Secret{wrong}); !errors.Is(err, history.ErrWrong) || !errors.Is(err, clip.ErrLocked) {
		t.Error(err)
	}
	if err := h.Unlock([]history.Secret{right}); err != nil {
		t.Error(err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// TestRekeyKilled: a process that encrypts anew, again and again, is killed at some moment; then one of its keys opens all of it.
func TestRekeyKilled(t *testing.T) {
	if dir := os.Getenv("CLIP_REKEY"); dir != "" {
		rekeyForever(t, dir)
		return
	}
	// Not beside other tests: a child has all locks of this process until it becomes another program.
	for round := range 4 {
		dir := t.TempDir()
		h, err := history.Open(history.Config{Directory: dir, Create: keys("0")})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			content := clip.Content{Type: "text/plain", Data: bytes.Repeat([]byte(strconv.Itoa(i)+" "), 1+i*1000)}
			if _, _, err := h.Add(clip.Item{Contents: []clip.Content{content}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestRekeyKilled$")
		child.Env = append(os.Environ(), "CLIP_REKEY="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 1)
		for range 2 + round { // so many keys
			if _, err := out.Read(line); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Duration(round) * 1900 * time.Microsecond) // somewhere within the next one; wherever it is, the test holds
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		var all []history.Secret
		for i := range 200 {
			all = append(all, keys(strconv.Itoa(i))...)
		}
		if h, err = history.Open(history.Config{Directory: dir, Secrets: all}); err != nil {
			t.Fatal(err)
		}
		if r := h.Repair(); r != (history.Repair{}) || h.Stats().Items != 40 {
			t.Errorf("%+v, %+v", r, h.Stats())
		}
		for id := range clip.ID(40) {
			if item, err := h.Get(id + 1); err != nil || int64(len(item.Contents[0].Data)) != item.Size {
				t.Errorf("item %d: %v", id+1, err)
			}
		}
		files, err := os.ReadDir(filepath.Join(dir, "objects"))
		if err != nil || len(files) > 40 {
			t.Errorf("%d files, %v", len(files), err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

func rekeyForever(t *testing.T, dir string) {
	t.Helper()
	h, err := history.Open(history.Config{Directory: dir, Secrets: keys("0")})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 200; i++ {
		if err := h.Rekey(keys(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stdout.WriteString("."); err != nil {
			return // nobody listens any more
		}
	}
}
