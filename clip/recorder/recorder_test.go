package recorder_test

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/cliptest"
	"orrery/clip/history"
	"orrery/clip/policy"
	"orrery/clip/recorder"
	"orrery/internal/testenv"
)

type rig struct {
	t *testing.T
	d *cliptest.Display
	h *history.History
	*recorder.Recorder
}

func start(t *testing.T, c recorder.Config) *rig {
	t.Helper()
	return run(t, cliptest.New(), open(t), c)
}

func open(t *testing.T) *history.History {
	t.Helper()
	h, err := history.Open(history.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func run(t *testing.T, d *cliptest.Display, h *history.History, c recorder.Config) *rig {
	t.Helper()
	r := &rig{t: t, d: d, h: h}
	c.Display, c.History = r.d, r.h
	r.Recorder = recorder.New(c)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := r.h.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) has(want ...string) {
	r.t.Helper()
	var got []string
	testenv.Eventually(r.t, strings.Join(want, ", "), func() bool {
		got = nil
		for s := range r.h.All() {
			got = append(got, s.Preview)
		}
		return slices.Equal(got, want)
	})
}

func text(s string) clip.Content { return clip.Content{Type: "text/plain", Data: []byte(s)} }

func TestRecords(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{})
	r.d.Copy(clip.Clipboard, cliptest.App{Name: "editor"}, clip.Content{Type: "UTF8_STRING", Data: []byte("one")}, clip.Content{Type: "STRING", Data: []byte("one")}, clip.Content{Type: "text/html", Data: []byte("<b>one</b>")})
	r.has("one")
	r.d.Copy(clip.Primary, cliptest.App{}, text("two"))
	r.has("two", "one")
	item, err := r.h.Get(1)
	if err != nil || len(item.Contents) != 2 || item.App != "editor" || item.Kind != clip.HTML {
		t.Errorf("%+v, %v", item, err)
	}
}

// TestOwnerGone: what an owner leaves behind is offered again, all of it, unless it let go on purpose, or copied something that is not recorded.
func TestOwnerGone(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{Keep: []clip.Selection{clip.Clipboard}})
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("kept"), clip.Content{Type: "image/png", Data: []byte("picture")})
	r.has("kept")
	r.d.Exit(clip.Clipboard)
	testenv.Eventually(t, "the offer", func() bool {
		contents, own := r.d.Has(clip.Clipboard)
		return own && len(contents) == 2
	})
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("password"), clip.Content{Type: policy.Hint, Data: []byte("secret")})
	testenv.Eventually(t, "refusal", func() bool { return r.Counts().Refused[string(policy.Secret)] == 1 })
	r.d.Exit(clip.Clipboard)
	r.d.Copy(clip.Primary, cliptest.App{}, text("marked"))
	r.has("marked", "kept")
	if _, own := r.d.Has(clip.Clipboard); own {
		t.Error("offered again after a secret")
	}
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("let go"))
	r.has("let go", "marked", "kept")
	r.d.LetGo(clip.Clipboard)
	r.d.Exit(clip.Primary)
	r.d.Copy(clip.Primary, cliptest.App{}, text("later"))
	r.has("later", "let go", "marked", "kept")
	if _, own := r.d.Has(clip.Clipboard); own {
		t.Error("offered again what was let go")
	}
}

// TestSecret: nothing is read of what is marked, and of excluded applications.
func TestSecret(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{Rules: policy.Rules{Applications: []string{"keepass*"}, Ignore: []*regexp.Regexp{regexp.MustCompile(`^sk-\w+$`)}}})
	secret := clip.Content{Type: policy.Hint, Data: []byte("secret")}
	for want, c := range map[policy.Refusal]struct {
		app      string
		contents []clip.Content
		read     []string
	}{
		policy.Secret:      {"", []clip.Content{text("password"), secret}, []string{policy.Hint}},
		policy.Application: {"KeePassXC", []clip.Content{text("password")}, nil},
		policy.Ignored:     {"", []clip.Content{text("sk-abc")}, []string{"text/plain"}},
		policy.Blank:       {"", []clip.Content{text(" \n")}, []string{"text/plain"}},
		policy.Nothing:     {"", []clip.Content{{Type: "chromium/x-internal"}}, nil},
	} {
		reads := r.d.Copy(clip.Clipboard, cliptest.App{Name: c.app}, c.contents...)
		testenv.Eventually(t, string(want), func() bool { return r.Counts().Refused[string(want)] == 1 })
		if got := reads(); !slices.Equal(got, c.read) {
			t.Errorf("%s: %v were read", want, got)
		}
	}
	r.d.Copy(clip.Clipboard, cliptest.App{}, clip.Content{Type: "application/x-concealed"}, text("password"))
	testenv.Eventually(t, "refusal", func() bool { return r.Counts().Refused[string(policy.Secret)] == 2 })
	r.has()
}

// TestHangingOwner delays nobody: not the other selection, and not the next owner.
func TestHangingOwner(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{})
	r.d.Copy(clip.Primary, cliptest.App{Hang: []string{"text/plain"}}, text("never"))
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("one"))
	r.has("one")
	r.d.Copy(clip.Primary, cliptest.App{}, text("two"))
	r.has("two", "one")
}

func TestPause(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{})
	refused := func(n int) {
		t.Helper()
		testenv.Eventually(t, "refusal", func() bool {
			all := 0
			for _, n := range r.Counts().Refused {
				all += n
			}
			return all == n
		})
	}
	r.Pause(time.Hour)
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("one"))
	refused(1)
	r.Pause(0)
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("two"))
	refused(2)
	if _, forever := r.Paused(); !forever {
		t.Error("not paused")
	}
	r.Resume()
	r.Skip()
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("three"))
	refused(3)
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("four"))
	r.has("four")
}

func TestGive(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{})
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("one"), clip.Content{Type: "text/html", Data: []byte("<b>one</b>")})
	r.has("one")
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("two"))
	r.has("two", "one")
	s, err := r.Give(clip.Clipboard, 1, false)
	if err != nil || s.Count != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	r.has("one", "two")
	if contents, own := r.d.Has(clip.Clipboard); !own || len(contents) != 2 {
		t.Errorf("%v", contents)
	}
	if _, err := r.Give(clip.Clipboard, 1, true); err != nil {
		t.Error(err)
	}
	if contents, _ := r.d.Has(clip.Clipboard); len(contents) != 1 || string(contents[0].Data) != "one" {
		t.Errorf("%v", contents)
	}
	if n, err := r.Delete(1); n != 1 || err != nil {
		t.Error(n, err)
	}
	if contents, _ := r.d.Has(clip.Clipboard); contents != nil {
		t.Error("a deleted item is still in the clipboard")
	}
	r.has("two")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	r := start(t, recorder.Config{Limits: history.Limits{Items: 2}})
	for _, s := range []string{"one", "two", "three"} {
		r.d.Copy(clip.Clipboard, cliptest.App{}, text(s))
		testenv.Eventually(t, s, func() bool {
			for i := range r.h.All() {
				return i.Preview == s
			}
			return false
		})
	}
	r.has("three", "two")
}

// TestStart: what the clipboard has when the recorder starts is no new copy if it is known.
func TestStart(t *testing.T) {
	t.Parallel()
	d, h := cliptest.New(), open(t)
	for _, s := range []string{"one", "two"} {
		if _, _, err := h.Add(clip.Item{Contents: []clip.Content{text(s)}}); err != nil {
			t.Fatal(err)
		}
	}
	d.Copy(clip.Clipboard, cliptest.App{}, text("one"))
	r := run(t, d, h, recorder.Config{})
	testenv.Eventually(t, "record", func() bool { return r.Counts().Repeated == 1 })
	r.has("two", "one")
	r.d.Copy(clip.Clipboard, cliptest.App{}, text("one"))
	r.has("one", "two")
}
