package clients

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"orrery/internal/testenv"
)

// chromium starts a Chromium of the test's own, which has so long.
func chromium(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	dir, err := os.MkdirTemp("", "orrery-chromium-") //nolint:usetesting // t.TempDir fails on what is written late
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 { // its processes may still write there for a moment after it closed
			if os.RemoveAll(dir) == nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Chromium(t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	// Not t.Context, which ends before the browser can be told to close.
	allocated, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("closing the browser: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	t.Cleanup(cancel)
	return limited
}
