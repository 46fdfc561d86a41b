package wayland_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/policy"
	"orrery/clip/recorder"
	"orrery/clip/wayland"
	"orrery/internal/testenv"
)

// TestRecorder: nothing of a secret is asked for but its mark's own content, and of a burst the last is kept.
func TestRecorder(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	h, err := history.Open(history.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	rec := recorder.New(recorder.Config{Display: r.d, History: h})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- rec.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	var asked []string
	secret := func(kind string, to *os.File) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, kind)
		_, _ = to.WriteString("secret")
		_ = to.Close()
	}
	refused := func(n int) {
		t.Helper()
		testenv.Eventually(t, "refusal", func() bool { return rec.Counts().Refused[string(policy.Secret)] == n })
	}
	r.c.Copy(seat, clip.Clipboard, secret, "text/plain", "image/png", policy.Hint)
	refused(1)
	r.c.Copy(seat, clip.Clipboard, secret, "application/x-nspasteboard-concealed-type", "text/plain")
	refused(2)
	mu.Lock()
	if !slices.Equal(asked, []string{policy.Hint}) {
		t.Errorf("%v were asked for", asked)
	}
	mu.Unlock()
	for i := range 1000 {
		r.c.Copy(seat, clip.Clipboard, gives([]byte("copy "+strconv.Itoa(i))), "text/plain", "UTF8_STRING")
	}
	testenv.Eventually(t, "the last of the burst", func() bool {
		for s := range h.All() {
			return s.Preview == "copy 999"
		}
		return false
	})
	if n := rec.Counts().Failed; n > 0 {
		t.Errorf("%d failed", n)
	}
}
