package cow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"orrery/internal/testenv"
)

// A copy is what the base was and may be written without it; where storage cannot be shared nothing is copied.
func TestCopy(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	base := filepath.Join(folder, "base")
	if err := errors.Join(os.MkdirAll(filepath.Join(base, "sub"), 0o700), os.WriteFile(filepath.Join(base, "sub", "file"), []byte("before"), 0o600)); err != nil {
		t.Fatal(err)
	}
	c := Copy{Folder: filepath.Join(folder, "fork-1")}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	how, err := c.Make(t.Context(), base)
	if errors.Is(err, ErrNotShared) {
		testenv.Missing(t, "a file system with reflinks, or an overlay ("+err.Error()+")", "run the test as root")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Mount(), c.Write("sub/file", "after"), c.Sync()); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(base, "sub", "file")); err != nil || string(content) != "before" {
		t.Errorf("%s: the base has %q, %v", how, content, err)
	}
	if err := dropUnused(base, filepath.Join(folder, "fork-*")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(base); (err == nil) != (how == "overlay") {
		t.Errorf("%s: a base that is needed is gone, or one that is not is there: %v", how, err)
	}
}

func TestCopyOfWhatCannotBeCopied(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	base := filepath.Join(folder, "base")
	if err := errors.Join(os.Mkdir(base, 0o700), os.Symlink("/", filepath.Join(base, "link"))); err != nil {
		t.Fatal(err)
	}
	c := Copy{Folder: filepath.Join(folder, "fork")}
	if _, err := c.Make(t.Context(), base); !errors.Is(err, ErrNotShared) {
		t.Error(err)
	}
	if err := c.Remove(); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	unlock, err := Lock(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lock(ctx, folder); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	unlock()
	if unlock, err = Lock(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	unlock()
}
