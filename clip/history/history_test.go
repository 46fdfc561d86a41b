package history_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/find"
	"orrery/clip/history"
)

func text(s string) clip.Item {
	return clip.Item{Contents: []clip.Content{{Type: "text/plain;charset=utf-8", Data: []byte(s)}}}
}

func open(t *testing.T, c history.Config) *history.History {
	t.Helper()
	h, err := history.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func add(t *testing.T, h *history.History, item clip.Item) clip.Summary {
	t.Helper()
	s, _, err := h.Add(item)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// previews of all items, the last first.
func previews(h *history.History) []string {
	var all []string
	for s := range h.All() {
		all = append(all, s.Preview)
	}
	return all
}

var secret = []history.Secret{{Kind: "file", Text: []byte("a secret of a file")}}

// each runs a test on a history in the clear, and on an encrypted one.
func each(t *testing.T, test func(t *testing.T, c history.Config)) {
	t.Helper()
	for name, secrets := range map[string][]history.Secret{"clear": nil, "encrypted": secret} {
		t.Run(name, func(t *testing.T) {
			test(t, history.Config{Directory: t.TempDir(), Create: secrets, Secrets: secrets})
		})
	}
}

// reopen closes it and opens it again.
func reopen(t *testing.T, h *history.History, c history.Config) *history.History {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, c)
}

func TestKeeps(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		h := open(t, c)
		large := bytes.Repeat([]byte("picture "), 100_000)
		one := add(t, h, clip.Item{App: "editor", Contents: []clip.Content{
			{Type: "text/html", Data: []byte("<b>one</b>")}, {Type: "text/plain", Data: []byte("one")}, {Type: "image/png", Data: large},
		}})
		two := add(t, h, text("two\n\tlines"))
		if _, err := h.Mark(one.ID, func(m *clip.Mark) { m.Pinned, m.Note, m.Tags = true, "why", []string{"b", "a", "b"} }); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := previews(h); !slices.Equal(got, []string{"two lines", "one"}) {
				t.Errorf("%q", got)
			}
			item, err := h.Get(one.ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(item.Contents) != 3 || !bytes.Equal(item.Contents[2].Data, large) || string(item.Contents[0].Data) != "<b>one</b>" || item.App != "editor" ||
				item.Kind != clip.Image || !item.Pinned || item.Note != "why" || !slices.Equal(item.Tags, []string{"a", "b"}) {
				t.Errorf("%+v", item.Summary)
			}
			h = reopen(t, h, c)
		}
		again := add(t, h, clip.Item{Contents: item(t, h, one.ID).Contents})
		if again.ID != one.ID || again.Count != 2 {
			t.Errorf("%+v", again)
		}
		if _, err := h.Get(two.ID + 1); !errors.Is(err, clip.ErrNotFound) {
			t.Error(err)
		}
		if _, err := history.Open(c); !errors.Is(err, clip.ErrInUse) {
			t.Errorf("a second one opened it: %v", err)
		}
	})
}

func item(t *testing.T, h *history.History, id clip.ID) clip.Item {
	t.Helper()
	i, err := h.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestModel compares a history with a list, through restarts, compactions and new keys.
// TestImport: an item of another history keeps its times, in the order that they give; what is here already is left as it is.
func TestImport(t *testing.T) {
	c := history.Config{Directory: t.TempDir()}
	h := open(t, c)
	now := add(t, h, clip.Item{Contents: []clip.Content{{Type: "UTF8_STRING", Data: []byte("now")}}})
	at := time.Now().Add(-48 * time.Hour).Round(time.Millisecond)
	for i, text := range []string{"oldest", "older", "now"} {
		item := clip.Item{Created: at.Add(-time.Hour), App: "editor", Contents: []clip.Content{{Type: "text/plain", Data: []byte(text)}}}
		item.Used, item.Count, item.Note = at.Add(time.Duration(i)*time.Second), 7, "from elsewhere"
		for again := range 2 {
			if s, fresh, err := h.Import(item); err != nil || fresh != (again == 0 && text != "now") || s.Preview != text {
				t.Errorf("%s: %+v, %t, %v", text, s, fresh, err)
			}
		}
	}
	h = reopen(t, h, c)
	if got := previews(h); !slices.Equal(got, []string{"now", "older", "oldest"}) {
		t.Errorf("%v", got)
	}
	if item, err := h.Get(now.ID); err != nil || item.Count != 1 || item.Note != "" || !item.Used.Equal(now.Used) {
		t.Errorf("%+v, %v", item, err)
	}
	if item, err := h.Get(now.ID + 1); err != nil || item.Count != 7 || !item.Used.Equal(at) || !item.Created.Equal(at.Add(-time.Hour)) || item.App != "editor" || item.Note == "" {
		t.Errorf("%+v, %v", item, err)
	}
}

func TestModel(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		h := open(t, c)
		r := rand.New(rand.NewPCG(1, 2))
		var model []string // the last first
		ids := map[string]clip.ID{}
		for i := range 500 {
			switch r.IntN(40) {
			case 0:
				h = reopen(t, h, c)
			case 1:
				if err := h.Compact(); err != nil {
					t.Fatal(err)
				}
			case 2:
				if c.Secrets != nil {
					c.Secrets = []history.Secret{{Kind: "file", Text: fmt.Append(nil, "key ", i)}}
					if err := h.Rekey(c.Secrets); err != nil {
						t.Fatal(err)
					}
				}
			case 3, 4, 5, 6, 7:
				if len(model) == 0 {
					continue
				}
				at := r.IntN(len(model))
				if n, err := h.Delete(ids[model[at]]); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				delete(ids, model[at])
				model = slices.Delete(model, at, at+1)
			default:
				s := fmt.Sprint("item ", r.IntN(80))
				if r.IntN(20) == 0 {
					s += strings.Repeat(" and more", 5000)
				}
				model = slices.DeleteFunc(model, func(m string) bool { return m == s })
				model = slices.Insert(model, 0, s)
				ids[s] = add(t, h, text(s)).ID
			}
		}
		var got []string
		for s := range h.All() {
			got = append(got, s.Preview)
		}
		for i, m := range model {
			if want := clip.Preview(text(m).Contents); got[i] != want {
				t.Fatalf("%d: %q, not %q", i, got[i], want)
			}
			if string(item(t, h, ids[m]).Contents[0].Data) != m {
				t.Errorf("%d: another content", i)
			}
		}
		if len(got) != len(model) {
			t.Errorf("%d items, not %d", len(got), len(model))
		}
		files, err := os.ReadDir(filepath.Join(c.Directory, "objects"))
		if err != nil {
			t.Fatal(err)
		}
		large := 0
		for _, m := range model {
			if len(m) > 1000 {
				large++
			}
		}
		if len(files) != large {
			t.Errorf("%d files for %d large items", len(files), large)
		}
	})
}

// TestTorn cuts the log at every length: what was complete before is there, and it can be written to.
func TestTorn(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		h := open(t, c)
		path := filepath.Join(c.Directory, "history")
		var ends []int64
		for i := range 5 {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, info.Size())
			add(t, h, text(fmt.Sprint("item ", i)))
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for cut := int(ends[0]); cut < len(whole); cut++ {
			if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
				t.Fatal(err)
			}
			h := open(t, c)
			want := 0
			for want < len(ends)-1 && ends[want+1] <= int64(cut) {
				want++
			}
			if got := previews(h); len(got) != want {
				t.Fatalf("cut at %d: %q, not %d", cut, got, want)
			}
			if r := h.Repair(); r.Torn != int64(cut)-ends[want] || r.Damaged != 0 {
				t.Errorf("cut at %d: %+v", cut, r)
			}
			add(t, h, text("new"))
			h = reopen(t, h, c)
			if got := previews(h); len(got) != want+1 || got[0] != "new" {
				t.Fatalf("cut at %d: %q", cut, got)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestDamaged changes bytes in the middle: all else is kept, and the damaged file is put aside.
func TestDamaged(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		h := open(t, c)
		for i := range 20 {
			add(t, h, text(fmt.Sprint("item ", i)))
		}
		path := filepath.Join(c.Directory, "history")
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 0x40
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		h = open(t, c)
		r := h.Repair()
		if got := previews(h); len(got) != 19 || r.Damaged == 0 {
			t.Errorf("%q, %+v", got, r)
		}
		if aside, err := os.ReadFile(r.Aside); err != nil || !bytes.Equal(aside, b) {
			t.Errorf("not put aside: %v", err)
		}
		add(t, h, text("new"))
		h = reopen(t, h, c)
		if got := previews(h); len(got) != 20 || h.Repair() != (history.Repair{}) {
			t.Errorf("%q, %+v", got, h.Repair())
		}
	})
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	c := history.Config{Directory: t.TempDir(), Create: []history.Secret{{Kind: "passphrase", Text: []byte("correct horse")}}}
	h := open(t, c)
	add(t, h, text("treasure island"))
	add(t, h, text(strings.Repeat("treasure chest ", 10_000)))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := filepath.Walk(c.Directory, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("treasure")) {
			t.Errorf("%s has it in the clear", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][]history.Secret{nil, {{Kind: "passphrase", Text: []byte("wrong")}}, {{Kind: "file", Text: []byte("correct horse")}}} {
		if _, err := history.Open(history.Config{Directory: c.Directory, Secrets: wrong}); !errors.Is(err, clip.ErrLocked) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	h = open(t, history.Config{Directory: c.Directory, Secrets: c.Create})
	if got := previews(h); len(got) != 2 || got[1] != "treasure island" {
		t.Errorf("%q", got)
	}
	if err := h.Rekey(nil); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, h, history.Config{Directory: c.Directory})
	if got := previews(h); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestOrderIsBound: records of an encrypted log cannot be moved or taken out unnoticed.
func TestOrderIsBound(t *testing.T) {
	t.Parallel()
	for _, c := range []history.Config{{Directory: t.TempDir()}, {Directory: t.TempDir(), Create: secret, Secrets: secret}} {
		h := open(t, c)
		path := filepath.Join(c.Directory, "history")
		var ends []int64
		for i := range 4 {
			add(t, h, text(fmt.Sprint("item ", i)))
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			ends = append(ends, info.Size())
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, slices.Concat(b[:ends[0]], b[ends[1]:]), 0o600); err != nil {
			t.Fatal(err)
		}
		h = open(t, c)
		if got := previews(h); len(got) != 3 || h.Repair().Damaged == 0 {
			t.Errorf("%q, %+v", got, h.Repair())
		}
	}
}

func TestLimits(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		h := open(t, c)
		now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
		var ids []clip.ID
		for i := range 10 {
			it := text(fmt.Sprint("item ", i))
			it.Used = now.Add(time.Duration(i-10) * time.Hour)
			it.Pinned = i == 0
			if i == 9 {
				it.Expires = now.Add(time.Minute)
			}
			ids = append(ids, add(t, h, it).ID)
		}
		enforce := func(l history.Limits, at time.Time, want ...clip.ID) {
			t.Helper()
			if got, err := h.Enforce(l, at); err != nil || !slices.Equal(got, want) {
				t.Errorf("%v, %v, not %v", got, err, want)
			}
		}
		enforce(history.Limits{}, now)
		enforce(history.Limits{Items: 8}, now, ids[1])
		enforce(history.Limits{Bytes: 7 * 6}, now, ids[2])
		enforce(history.Limits{Age: 6 * time.Hour}, now, ids[3])
		enforce(history.Limits{}, now.Add(time.Minute), ids[9])
		h = reopen(t, h, c)
		if got := previews(h); !slices.Equal(got, []string{"item 8", "item 7", "item 6", "item 5", "item 4", "item 0"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestSearch(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		h := open(t, c)
		for _, s := range []string{"Gutenberg press", "press release", "an impression", strings.Repeat("long ", 100) + "needle", strings.Repeat("x", 50_000) + " haystack", "Größe ÄÖ"} {
			add(t, h, text(s))
		}
		for query, want := range map[string][]string{
			"press": {"press release", "Gutenberg press", "an impression"}, "PRESS an": {"an impression"}, "needle": {"long"}, "haystack": {"xxxx"}, "größe": {"Größe"},
			"type:image": nil, "before:1h": nil, "nothing": nil,
		} {
			q, err := find.Parse(query, find.Words, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			found, err := h.Search(t.Context(), q, 10)
			if err != nil || len(found) != len(want) {
				t.Errorf("%s: %v, %v", query, found, err)
				continue
			}
			for i, w := range want {
				if !strings.HasPrefix(found[i].Preview, w) {
					t.Errorf("%s: %d is %s", query, i, found[i].Preview)
				}
			}
		}
		h.Rest()
		add(t, h, text("late press"))
		q, err := find.Parse("late", find.Words, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if found, err := h.Search(t.Context(), q, 1); err != nil || len(found) != 1 {
			t.Errorf("%v, %v", found, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Search(ctx, q, 1); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestRefused(t *testing.T) {
	t.Parallel()
	h := open(t, history.Config{Directory: t.TempDir()})
	many := clip.Item{}
	for i := range clip.MaxTypes + 1 {
		many.Contents = append(many.Contents, clip.Content{Type: fmt.Sprint("type/", i)})
	}
	noted := text("x")
	noted.Note = strings.Repeat("n", clip.MaxNote+1)
	for _, i := range []clip.Item{{}, many, noted, {Contents: []clip.Content{{}}}, {Contents: []clip.Content{{Type: strings.Repeat("t", clip.MaxType+1)}}}} {
		if _, _, err := h.Add(i); err == nil {
			t.Errorf("%d types were kept", len(i.Contents))
		}
	}
	if len(previews(h)) != 0 {
		t.Error("something was kept")
	}
}
