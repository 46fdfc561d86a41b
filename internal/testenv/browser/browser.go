// Package browser starts a real Chromium for tests. It stands apart from testenv, so that only tests of pages are built with what drives one.
package browser

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/chromedp"

	"orrery/internal/testenv"
)

// Start starts a Chromium of the test's own, for as long as limit, and returns the context by which chromedp drives it. It is closed, and all that it wrote
// is removed, when the test ends.
func Start(tb testing.TB, limit time.Duration) context.Context {
	tb.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(testenv.Chromium(tb)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(profile(tb)),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true))
	// Not tb.Context, which ends before the browser can be told to close.
	allocated, cancel := chromedp.NewExecAllocator(context.WithoutCancel(tb.Context()), options...)
	tb.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocated)
	tb.Cleanup(cancel)
	tb.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			tb.Errorf("closing the browser: %v", err)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		tb.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	tb.Cleanup(cancel)
	return limited
}

// Do takes steps in the page, one after another. When the whole of a page has come, Chromium gives its nodes new names: a step that found its node before that, and
// could do nothing with it any more, is taken again.
func Do(ctx context.Context, tb testing.TB, steps ...chromedp.Action[chromedp.Void]) {
	tb.Helper()
	for _, step := range steps {
		err := chromedp.Do(ctx, step)
		for renamed(err) {
			err = chromedp.Do(ctx, step)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// renamed says whether a node has another name by now.
func renamed(err error) bool {
	e, ok := errors.AsType[*cdproto.Error](err)
	return ok && e.Message == "Could not find node with given id"
}

// Shot keeps a picture of the page in the folder that ORRERY_SHOTS names, for people to look at; without it, it does nothing.
func Shot(ctx context.Context, tb testing.TB, name string) {
	tb.Helper()
	folder := os.Getenv("ORRERY_SHOTS")
	if folder == "" {
		return
	}
	picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// profile is a folder for a browser, whose processes may still write there for a moment after it closed.
func profile(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "orrery-chromium-") //nolint:usetesting // tb.TempDir fails on what is written late
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for range 100 {
			if os.RemoveAll(dir) == nil {
				return
			}
			<-time.After(20 * time.Millisecond)
		}
	})
	return dir
}
